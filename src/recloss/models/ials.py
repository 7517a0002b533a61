"""iALS (Rendle et al. 2022, arXiv 2110.14037), in a general form.

It is solved with a confidence and a target per user: that of its debiased counterpart (arXiv
2312.08517). U users, I items, D dimensions, S the train pairs, y_ui = <w_u, h_i>.
"""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recloss import seeds
from recloss.data.interactions import Interactions, interaction_matrix
from recloss.files import ReclossError
from recloss.models.sizes import SYSTEM_VALUES

# To this size PyTorch's batched LU is the faster on the CPU. From 150 on, with several threads, it
# returns wrong solutions, silently or as of singular systems (pytorch/pytorch issue 142815).
LU_DIM = 128


class Problem(NamedTuple):
    """What a weighted iALS minimises.

        sum_{(u,i) in S} c_u (y_ui - t_u)^2 + a sum_u sum_i y_ui^2
        + sum_u r_u |w_u|^2 + sum_i s_i |h_i|^2

    confidence c and target t: (U,); unobserved: a; user_penalty r (U,), item_penalty s (I,).
    """

    train: Interactions
    confidence: Tensor
    target: Tensor
    unobserved: float
    user_penalty: Tensor
    item_penalty: Tensor


class Factors(NamedTuple):
    """User factors w (U, D) and item factors h (I, D)."""

    users: Tensor
    items: Tensor


def ials_problem(
    train: Interactions,
    alpha0: float,
    reg: float,
    nu: float,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Problem:
    """Return plain iALS: c = t = 1, a = alpha0, and a penalty scaled by frequency.

    r_u = reg (|I_u| + alpha0 I)^nu, s_i = reg (|U_i| + alpha0 U)^nu.
    """
    per_user = torch.from_numpy(train.counts()).to(device, dtype)
    per_item = torch.from_numpy(train.item_counts()).to(device, dtype)
    ones = torch.ones_like(per_user)
    return Problem(
        train,
        ones,
        ones,
        alpha0,
        reg * (per_user + alpha0 * train.n_items) ** nu,
        reg * (per_item + alpha0 * train.n_users) ** nu,
    )


def initial(
    train: Interactions,
    dim: int,
    std: float,
    seed: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Factors:
    """Return normal factors of deviation std / sqrt(dim), from the streams (seed, "ials", side)."""
    sides = []
    for side, size in enumerate((train.n_users, train.n_items)):
        draw = seeds.generator(seed, "ials", side).normal(0, std / dim**0.5, (size, dim))
        sides.append(torch.from_numpy(draw).to(device, dtype))
    return Factors(*sides)


class _Side(NamedTuple):
    """The train pairs seen from one side: row r has partners[first[r]:first[r + 1]]."""

    first: np.ndarray
    partners: Tensor


class Solver:
    """Alternating least squares on a `Problem`, in the dtype and on the device of its tensors."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        train, device = problem.train, problem.confidence.device
        by_item = np.argsort(train.items, kind="stable")
        self.of_users = _Side(train.indptr(), torch.from_numpy(train.items).long().to(device))
        self.of_items = _Side(
            np.concatenate(([0], np.cumsum(train.item_counts()))),
            torch.from_numpy(train.users[by_item]).long().to(device),
        )

    def solve_users(self, items: Tensor) -> Tensor:
        """Return the users' factors (U, D) that minimise the objective at these items (I, D)."""
        p = self.problem
        one = torch.ones_like(p.item_penalty)
        return self._solve(self.of_users, items, p.confidence, p.target, one, p.user_penalty)

    def solve_items(self, users: Tensor) -> Tensor:
        """Return the items' factors (I, D) that minimise the objective at these users (U, D)."""
        p = self.problem
        one = torch.ones_like(p.item_penalty)
        # Here confidence and target belong to the partners: folded into their vectors.
        return self._solve(self.of_items, users, one, one, p.confidence, p.item_penalty, p.target)

    def _solve(
        self,
        side: _Side,
        fixed: Tensor,
        confidence: Tensor,
        target: Tensor,
        partner_confidence: Tensor,
        penalty: Tensor,
        partner_target: Tensor | None = None,
    ) -> Tensor:
        """Return for each row r of a side the solution x of A x = b, (n, D).

        A = c_r sum_j c_j f_j f_j' + a F'F + penalty_r 1, b = c_r t_r sum_j c_j t_j f_j over the
        partners j of r, with vectors F = fixed (m, D). Rows are taken in the order of their number
        of partners, so that a block's vectors fill a rectangle with little waste.
        """
        dim, n = fixed.shape[1], len(penalty)
        weighted = fixed * partner_confidence.sqrt()[:, None]
        aimed = fixed * partner_confidence[:, None]
        if partner_target is not None:
            aimed = aimed * partner_target[:, None]
        base = self.problem.unobserved * (fixed.T @ fixed)
        eye = torch.eye(dim, dtype=fixed.dtype, device=fixed.device)
        # A vector of zeros at the end stands in for the partners that a row lacks.
        weighted, aimed = (torch.cat([x, x.new_zeros(1, dim)]) for x in (weighted, aimed))
        degree = np.diff(side.first)
        order = np.argsort(degree, kind="stable")
        ascending = degree[order]
        out = torch.empty((n, dim), dtype=fixed.dtype, device=fixed.device)
        low = 0
        while low < n:
            high = _block_end(ascending, low, dim)
            rows = order[low:high]
            width = int(ascending[high - 1])
            slots = side.first[rows, None] + np.arange(width)
            missing = np.arange(width) >= degree[rows, None]
            slots[missing] = 0
            partners = side.partners[torch.from_numpy(slots).to(fixed.device)]
            partners[torch.from_numpy(missing).to(fixed.device)] = len(fixed)
            here = torch.from_numpy(rows).to(fixed.device)
            vectors = weighted[partners]
            system = confidence[here, None, None] * (vectors.mT @ vectors)
            system += base + penalty[here, None, None] * eye
            right = (confidence * target)[here, None] * aimed[partners].sum(1)
            try:
                if system.device.type == "cuda" or dim > LU_DIM:
                    factor = torch.linalg.cholesky(system)
                    out[here] = torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]
                else:
                    out[here] = torch.linalg.solve(system, right)
            except torch.linalg.LinAlgError:
                raise ReclossError("iALS: no unique solution; raise reg or alpha0") from None
            low = high
        return out

    def step(self, factors: Factors) -> Factors:
        """Return the factors after an iteration: users, then items."""
        users = self.solve_users(factors.items)
        return Factors(users, self.solve_items(users))

    def objective(self, factors: Factors) -> float:
        """Return the value of the objective, summed in float64."""
        p = self.problem
        w, h = (x.double() for x in factors)
        users = torch.from_numpy(p.train.users).long().to(w.device)
        total = p.unobserved * ((w.T @ w) * (h.T @ h)).sum()
        for part in torch.arange(len(users), device=w.device).split(SYSTEM_VALUES // w.shape[1]):
            u = users[part]
            y = (w[u] * h[self.of_users.partners[part]]).sum(1)
            total += (p.confidence[u].double() * (y - p.target[u].double()).square()).sum()
        total += (p.user_penalty.double() * w.square().sum(1)).sum()
        total += (p.item_penalty.double() * h.square().sum(1)).sum()
        return float(total)


def _block_end(degree: np.ndarray, low: int, dim: int) -> int:
    """Return the end of the block of rows from `low`, by ascending degree, that fits in memory."""
    size = (np.arange(1, len(degree) - low + 1)) * (2 * degree[low:] + 2 * dim) * dim
    return low + max(1, int(np.searchsorted(size, SYSTEM_VALUES, side="right")))


def ials(
    problem: Problem,
    start: Factors,
    iterations: int,
    log: Callable[[int, float], None] = lambda iteration, objective: None,
) -> Factors:
    """Return the factors after so many iterations from `start`; `log` gets each objective."""
    solver = Solver(problem)
    return _iterate(solver, solver.step, start, iterations, log)


def plain_ials(
    train: Interactions,
    alpha0: float,
    reg: float,
    nu: float,
    start: Factors,
    iterations: int,
    log: Callable[[int, float], None] = lambda iteration, objective: None,
) -> Factors:
    """Return plain iALS, as `ials` on `ials_problem`; float32 factors on the CPU by irspack.

    irspack's C++ takes a third of the time. Where it is not installed, `ials` does the work.
    """
    problem = ials_problem(train, alpha0, reg, nu, start.users.device, start.users.dtype)
    solver = Solver(problem)
    step = solver.step
    if start.users.device.type == "cpu" and start.users.dtype == torch.float32:
        with contextlib.suppress(ImportError):
            step = irspack_step(train, alpha0, reg, nu, start)
    return _iterate(solver, step, start, iterations, log)


def _iterate(
    solver: Solver,
    step: Callable[[Factors], Factors],
    factors: Factors,
    iterations: int,
    log: Callable[[int, float], None],
) -> Factors:
    for iteration in range(1, iterations + 1):
        factors = step(factors)
        log(iteration, solver.objective(factors))
    return factors


def irspack_step(
    train: Interactions, alpha0: float, reg: float, nu: float, start: Factors
) -> Callable[[Factors], Factors]:
    """Return irspack's iteration; it begins at `start` and goes on from where it was."""
    from irspack.recommenders.ials import IALSTrainer, LossType, SolverType

    trainer = IALSTrainer(
        interaction_matrix(train),
        n_components=start.users.shape[1],
        alpha0=alpha0,
        reg=reg,
        nu=nu,
        init_std=0.1,
        solver_type=SolverType.CHOLESKY,
        max_cg_steps=0,
        ialspp_subspace_dimension=start.users.shape[1],
        loss_type=LossType.IALSPP,
        random_seed=0,
        n_threads=torch.get_num_threads(),
        prediction_time_max_cg_steps=0,
        prediction_time_ialspp_iteration=0,
    )
    core = trainer.core_trainer
    core.user, core.item = (factors.numpy() for factors in start)

    def step(_: Factors) -> Factors:
        trainer.run_epoch()
        return Factors(*(torch.from_numpy(np.array(x)) for x in (core.user, core.item)))

    return step
