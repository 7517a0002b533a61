"""Linear models: iALS and EASE.

iALS (Rendle et al. 2022, arXiv 2110.14037) is solved in a general form, with a confidence and a
target per user: that of its debiased counterpart (arXiv 2312.08517). EASE is that of Steck 2019
(arXiv 1905.03375). U users, I items, D dimensions, S the train pairs, y_ui = <w_u, h_i>.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor
from torch.nn.functional import embedding_bag

from recloss import config, record, seeds
from recloss.data import Interactions
from recloss.evaluate import Ranking, ScoreBlock, dot_scores, means
from recloss.files import ReclossError, run_cli
from recloss.kernels import use_threads
from recloss.split import load_split
from recloss.train import peak_memory_mb, pick_device

SYSTEM_VALUES = 2**24  # of the systems and gathered vectors that are solved at a time
EASE_MATRICES = 1.3  # of I x I float32 that EASE holds at its peak, blocks of scores included


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
            if system.device.type == "cuda":
                factor = torch.linalg.cholesky(system)
                out[here] = torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]
            else:  # PyTorch's batched LU takes half the time of its Cholesky on the CPU
                out[here] = torch.linalg.solve(system, right)
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


# EASE


def ease_memory(n_items: int) -> float:
    """Return the bytes that EASE takes at its peak."""
    return EASE_MATRICES * 4 * n_items**2


def available_memory(device: torch.device) -> float:
    """Return the bytes free on a device: of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def gram(train: Interactions, device: torch.device | str = "cpu") -> Tensor:
    """Return X'X (I, I) float32 of the interactions X (U, I), after asking whether EASE fits."""
    device, n = torch.device(device), train.n_items
    needed, available = ease_memory(n), available_memory(device)
    if needed > available:
        remedy = "use a machine or a GPU with more, or leave ease out of `linear`"
        if device.type == "cuda":
            remedy = "use device cpu"
        raise ReclossError(
            f"EASE on {n:,} items needs {needed / 1e9:.1f} GB of memory on {device.type}, "
            f"{available / 1e9:.1f} GB are available; {remedy}"
        )
    x = interaction_matrix(train).tocsc()
    out = torch.empty((n, n), device=device)
    block = max(1, SYSTEM_VALUES // n)
    for low in range(0, n, block):
        rows = (x[:, low : low + block].T @ x).toarray()
        out[low : low + block] = torch.from_numpy(rows)
    return out


def interaction_matrix(train: Interactions) -> sparse.csr_matrix:
    """Return the interactions as a sparse matrix of ones, (U, I) float32."""
    ones = np.ones(len(train), np.float32)
    return sparse.csr_matrix(
        (ones, train.items, train.indptr()), shape=(train.n_users, train.n_items)
    )


@dataclasses.dataclass(frozen=True)
class Ease:
    """EASE as the inverse P (I, I) of the penalised Gram matrix.

    B_ij = -P_ij / P_jj, B_jj = 0; the scores X B = X - X P / diag(P) need no second matrix.
    """

    inverse: Tensor

    def weights(self, columns: Tensor) -> Tensor:
        """Return columns (n,) of B, (I, n) float64."""
        here = columns.to(self.inverse.device), torch.arange(len(columns))
        p = self.inverse[:, here[0]].double()
        b = -p / p[here]
        b[here] = 0
        return b

    def scores(self, train: Interactions) -> ScoreBlock:
        """Return a function giving the (high - low, I) scores of users low..high - 1."""
        diagonal, first = self.inverse.diagonal(), train.indptr()
        items = torch.from_numpy(train.items).to(self.inverse.device)
        keys = torch.from_numpy(train.keys()).to(self.inverse.device)

        def block(low: int, high: int) -> Tensor:
            here = slice(first[low], first[high])
            begins = torch.from_numpy(first[low:high] - first[low]).to(items)
            # A sum of the few rows of P that a user's items name.
            scores = embedding_bag(items[here], self.inverse, begins, mode="sum").div_(-diagonal)
            scores.view(-1)[keys[here] - low * train.n_items] += 1
            return scores

        return block


def ease(gram_matrix: Tensor, reg: float) -> Ease:
    """Return EASE of a Gram matrix (I, I) with the penalty reg |B|^2, in the memory of the matrix.

    For several penalties give copies.
    """
    gram_matrix.diagonal().add_(reg)
    # LAPACK works on columns: as its own transpose the symmetric matrix needs no copy, neither
    # here nor in a product with its rows later.
    columns = gram_matrix.mT
    torch.linalg.cholesky(columns, out=columns)
    torch.cholesky_inverse(columns, out=columns)
    return Ease(gram_matrix)


def ease_columns(train: Interactions, reg: float, columns: Tensor) -> Tensor:
    """Return columns (n,) of EASE's weights, (I, n) float64, without an item-item matrix.

    Each column of the inverse by conjugate gradients, to 1e-12 of its right-hand side.
    """
    x = interaction_matrix(train).astype(np.float64)
    transposed, n, diagonal = x.T.tocsr(), train.n_items, train.item_counts() + reg
    system = LinearOperator((n, n), lambda v: transposed @ (x @ v) + reg * v, dtype=np.float64)
    scale = LinearOperator((n, n), lambda v: v / diagonal, dtype=np.float64)
    out = np.zeros((n, len(columns)))
    for place, item in enumerate(columns.tolist()):
        unit = np.zeros(n)
        unit[item] = 1
        column, failed = cg(system, unit, rtol=1e-12, atol=0, maxiter=10_000, M=scale)
        if failed:
            raise ReclossError(f"EASE: no solution at reg {reg:g} for item {item}; raise reg")
        out[:, place] = -column / column[item]
        out[item, place] = 0
    return torch.from_numpy(out)


def _device(model: str, name: str, n_items: int) -> torch.device:
    """Return the device to solve on: `auto` leaves a GPU on which EASE does not fit."""
    device = pick_device(name)
    if name == "auto" and model == "ease" and ease_memory(n_items) > available_memory(device):
        return torch.device("cpu")
    return torch.device("cpu") if device.type == "mps" else device  # MPS has no float64


def main() -> None:
    """Train iALS or EASE on one data set; write metrics.json, history.csv, per_user.npz."""
    parser = argparse.ArgumentParser(prog="python -m recloss.linear", description=main.__doc__)
    parser.add_argument("model", choices=["ials", "ease"])
    parser.add_argument("--data", type=Path, required=True, help="split.npz by recloss.split")
    parser.add_argument("--manifest", type=Path, required=True, help="split.json beside it")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--variant", default="base", help="name of the variant, only recorded")
    parser.add_argument("--seed", type=int, default=0, help="of the initial factors of iALS")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    config.add_setting_flags(parser, config.LINEAR)
    a = parser.parse_args()
    settings = config.settings_from_flags(a, a.model)
    use_threads(a.threads)
    split, manifest = load_split(a.data), json.loads(a.manifest.read_text())
    device = _device(a.model, a.device, split.train.n_items)
    train, started = split.train, time.monotonic()
    history: list[dict[str, Any]] = []
    vectors: list[np.ndarray] = []
    if a.model == "ease":
        scores = ease(gram(train, device), settings["reg"]).scores(train)
        history.append({"epoch": 1, "train_loss": "", "seconds": time.monotonic() - started})
    else:
        problem = (settings["alpha0"], settings["reg"], settings["nu"])
        start = initial(train, settings["dim"], settings["init_std"], a.seed, device)

        def log(iteration: int, objective: float) -> None:
            seconds = time.monotonic() - started
            history.append({"epoch": iteration, "train_loss": objective, "seconds": seconds})
            print(f"iteration {iteration} objective {objective:.6g}", file=sys.stderr, flush=True)

        factors = plain_ials(train, *problem, start, settings["iterations"], log)
        vectors = [table.cpu().numpy() for table in factors]
        scores = dot_scores(*factors, cosine=False)
    trained = time.monotonic()
    users, values = Ranking(split.test, [train, split.valid], device).per_user(scores)
    # As for a loss, the history has the metrics that settings may be picked by.
    picked = values
    if len(split.valid.users):
        picked = Ranking(split.valid, [train], device).per_user(scores)[1]
    for row in history:
        row |= dict.fromkeys(values, "") | {"seconds": round(row["seconds"], 3)}
    history[-1] |= means(picked)
    identity = record.identity(
        manifest, config.LINEAR, a.model, a.variant, a.seed, settings, record.LINEAR_SOURCES
    )
    metrics = record.metrics_of(
        identity,
        values,
        device.type,
        best_epoch=len(history),
        epochs=len(history),
        train_seconds=trained - started,
        eval_seconds=time.monotonic() - trained,
        peak_memory_mb=peak_memory_mb(device),
        threads=a.threads,
    )
    record.write_run(a.out, metrics, history, users, values, vectors)


if __name__ == "__main__":
    run_cli(main)
