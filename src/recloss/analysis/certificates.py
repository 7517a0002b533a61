"""Whether iALS and EASE are inherently debiased (arXiv 2312.08517), as certificates.

`theorems` has the debiased objectives as arXiv 2312.08520 prints them; here is a second form of
debiasing, derived, whose iALS has no c on the positive term. It takes the hidden positives
out of the unobserved term: with the class prior tau+, tau- = 1 - tau+, a sum over all items of
y_ui^2 becomes (1 / tau-) ( sum_I y_ui^2 - kappa_u sum_{I_u+} y_ui^2 ), kappa_u = tau_u+ |I| /
|I_u+|, which 2312.08520 calls c_u. "Inherently debiased" means that the minimiser is that of
the plain model with other hyper-parameters, up to one scale, so that rankings are those of a plain
model. It needs a condition: one kappa for all users. The certificates solve both sides.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recloss.analysis.statements import SECOND_FORM
from recloss.data.interactions import Interactions, interaction_matrix
from recloss.engine.ranking import Mask, block_users, top_k
from recloss.files import ReclossError
from recloss.models.ials import Factors, Problem, Solver, ials, ials_problem, initial

TOP = 20


class Ials(NamedTuple):
    """Hyper-parameters of iALS: `ials_problem`, and the dimension of its factors."""

    alpha0: float
    reg: float
    nu: float
    dim: int


def absorbed(alpha0: float, tau: float, kappa: float) -> float:
    """Return beta = alpha0 kappa / tau-, the share of the observed term that debiasing takes.

    At 1 or above the debiased objective has no minimum: it rewards unbounded scores.
    """
    beta = alpha0 * kappa / (1 - tau)
    if beta >= 1:
        raise ReclossError(
            f"alpha0 {alpha0:g}, tau {tau:g} and kappa {kappa:g} give beta {beta:.3g}; "
            "debiased iALS has a minimum only below 1: lower alpha0 or kappa"
        )
    return beta


def debiased_ials(train: Interactions, p: Ials, tau: float, kappa: float | np.ndarray) -> Problem:
    """Return debiased iALS in float64; kappa for all users or of each, (U,).

    From (y - 1)^2 - beta y^2 = (1 - beta) (y - 1 / (1 - beta))^2 + constant: confidence 1 - beta,
    target 1 / (1 - beta), and alpha0 / tau- for the unobserved.
    """
    plain = ials_problem(train, p.alpha0, p.reg, p.nu, dtype=torch.float64)
    absorbed(p.alpha0, tau, float(np.max(kappa)))
    beta = torch.as_tensor(p.alpha0 * np.broadcast_to(kappa, train.n_users) / (1 - tau))
    return plain._replace(
        confidence=1 - beta, target=1 / (1 - beta), unobserved=p.alpha0 / (1 - tau)
    )


def mapped_ials(train: Interactions, p: Ials, tau: float, kappa: float, half_step: bool) -> Problem:
    """Return the plain iALS that absorbs debiasing, in float64.

    alpha0' = alpha0 / (tau- (1 - beta)). For a half-step the penalty is divided by 1 - beta and the
    solution is 1 - beta times the debiased one; for the joint problem the penalty stays and both
    factors are sqrt(1 - beta) times the debiased ones. The penalty's scaling by frequency keeps the
    alpha0 of before.
    """
    rest = 1 - absorbed(p.alpha0, tau, kappa)
    plain = ials_problem(train, p.alpha0, p.reg, p.nu, dtype=torch.float64)
    division = rest if half_step else 1.0
    return plain._replace(
        unobserved=p.alpha0 / ((1 - tau) * rest),
        user_penalty=plain.user_penalty / division,
        item_penalty=plain.item_penalty / division,
    )


def difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference relative to the largest value."""
    return float((one - other).abs().max() / other.abs().max())


def changed_lists(one: Factors, other: Factors, train: Interactions) -> float:
    """Return the share of users whose top-20 lists, train items left out, are not the same."""
    changed, users, cpu = 0, len(one.users), torch.device("cpu")
    mask, block = Mask(train, cpu), block_users(train.n_items, cpu)
    for low in range(0, users, block):
        lists = []
        for factors in (one, other):
            scores = factors.users[low : low + block] @ factors.items.T
            mask.apply(scores, low)
            lists.append(top_k(scores, min(TOP, train.n_items)))
        changed += int((lists[0] != lists[1]).any(1).sum())
    return changed / users


def ials_certificates(
    train: Interactions, p: Ials, tau: float, kappa: float, seed: int, iterations: int
) -> Iterator[dict[str, Any]]:
    """Yield the certificates of iALS: half-step, objective, joint training; see `mapped_ials`."""
    rest = 1 - absorbed(p.alpha0, tau, kappa)
    problem = debiased_ials(train, p, tau, kappa)
    debiased = Solver(problem)
    half = Solver(mapped_ials(train, p, tau, kappa, half_step=True))
    joint = Solver(mapped_ials(train, p, tau, kappa, half_step=False))
    start = initial(train, p.dim, 0.1, seed, dtype=torch.float64)

    users = debiased.solve_users(start.items)
    mapped = half.solve_users(start.items) / rest
    certificate = functools.partial(row, "ials", claimed=SECOND_FORM)
    yield certificate("half-step", 1e-9, difference(mapped, users), "largest relative difference")
    share = changed_lists(Factors(users, start.items), Factors(mapped, start.items), train)
    yield certificate("half-step, rankings", 0.0, share, "share of users with another top 20")

    def scaled(factors: Factors) -> Factors:
        return Factors(*(math.sqrt(rest) * x for x in factors))

    ours = ials(problem, start, iterations)
    theirs = ials(joint.problem, scaled(start), iterations)
    # Equal up to a constant: their differences between two points are equal.
    points = (start, ours)
    left = [rest * debiased.objective(x) for x in points]
    right = [joint.objective(scaled(x)) for x in points]
    value = abs((left[0] - left[1]) - (right[0] - right[1])) / abs(right[0])
    sentence = "relative difference, at random and trained factors"
    yield certificate("objective", 1e-9, value, sentence)
    value = max(map(difference, scaled(ours), theirs))
    sentence = f"largest relative difference of factors after {iterations} iterations"
    yield certificate("training", 1e-6, value, sentence)
    share = changed_lists(ours, theirs, train)
    yield certificate("training, rankings", 0.0, share, "share of users with another top 20")


def row(
    model: str,
    name: str,
    tolerance: float | None,
    value: float,
    sentence: str,
    claimed: str | None = None,
) -> dict[str, Any]:
    """Return a certificate, which passes where value <= tolerance, or a measurement (None).

    claimed: of a certificate, `PRINTED`, `CORRECTED` or `SECOND_FORM`.
    """
    passed = None if tolerance is None else value <= tolerance
    return {
        "model": model,
        "claimed": claimed,
        "certificate": name,
        "tolerance": tolerance,
        "value": value,
        "passed": passed,
        "sentence": sentence,
    }


def ease_slope(
    train: Interactions, weights: Tensor, columns: Tensor, reg: float, tau: float, kappa: float
) -> float:
    """Return the slope of debiased EASE at columns of B (I, n), relative to that at B = 0.

    The objective, with c- = 1 and c+ = kappa / tau-, is
    c+ sum_+ (y - 1)^2 + (1 / tau-) ( sum_all y^2 - kappa sum_+ y^2 ) + reg |B|^2, diag B = 0,
    y = X B; at tau 0 it is that of arXiv 2312.08520 with c = kappa. It is written out pair by pair
    here and differentiated by autograd, so that nothing of the closed form is taken for granted.
    weights float64, columns (n,) their item ids.
    """
    x = interaction_matrix(train).astype(np.float64)
    observed = torch.from_numpy(x[:, columns.numpy()].toarray())

    def slope(b: Tensor) -> Tensor:
        y = torch.from_numpy(x @ b.numpy()).requires_grad_()
        plus = kappa / (1 - tau)
        value = plus * (observed * (y - 1).square()).sum()
        value = value + (y.square().sum() - kappa * (observed * y.square()).sum()) / (1 - tau)
        (by_score,) = torch.autograd.grad(value, y)
        gradient = torch.from_numpy(x.T @ by_score.numpy()) + 2 * reg * b
        gradient[columns, torch.arange(len(columns))] = 0  # the diagonal is held at 0
        return gradient

    return float(slope(weights).abs().max() / slope(torch.zeros_like(weights)).abs().max())


def ease_certificate(
    train: Interactions, weights: Tensor, columns: Tensor, reg: float, tau: float, kappa: float
) -> dict[str, Any]:
    """Return the certificate that kappa EASE(reg) minimises debiased EASE of reg / tau-.

    weights: `ease.ease_columns` of EASE(reg), (I, n) float64.
    """
    value = ease_slope(train, kappa * weights, columns, reg / (1 - tau), tau, kappa)
    sentence = f"slope of the debiased objective at {len(columns)} columns over that at 0"
    return row("ease", "minimiser", 1e-6, value, sentence, SECOND_FORM)
