"""Theorems 1 and 2 of arXiv 2312.08520, as printed and as they should read, as certificates.

Both are about one debiased objective, with c_u = tau_u+ |I| / |I_u+| and a penalty R:

    sum_u { sum_{i in I_u+} [ c_u (y - 1)^2 - c_u a y^2 ] + a sum_{all i} y^2 } + R,

a = alpha0 for iALS and a = 1 for EASE, whose y is XW. For a c common to all users it is solved here
as it stands, or differentiated pair by pair, and compared with the plain model that a theorem
names. A statement that fails as printed is a certificate that fails, claimed `PRINTED`; `RIGHT`
says what holds instead, claimed `CORRECTED`.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recloss.analysis.certificates import (
    Ials,
    changed_lists,
    difference,
    ease_slope,
    row,
)
from recloss.analysis.statements import CORRECTED, PRINTED
from recloss.data.interactions import Interactions, interaction_matrix
from recloss.models.ials import Factors, Problem, Solver, ials, ials_problem, initial


def printed_ials(train: Interactions, p: Ials, c: float | np.ndarray) -> Problem:
    """Return debiased iALS as printed, in float64; c for all users or of each, (U,).

    c (y - 1)^2 - c alpha0 y^2 = c (1 - alpha0) (y - 1 / (1 - alpha0))^2 + constant. Where alpha0 is
    1 or more this is no weighted square any more.
    """
    plain = ials_problem(train, p.alpha0, p.reg, p.nu, dtype=torch.float64)
    rest = 1 - p.alpha0
    confidence = torch.from_numpy(rest * np.broadcast_to(np.float64(c), train.n_users))
    return plain._replace(confidence=confidence, target=torch.full_like(plain.confidence, 1 / rest))


def absorbing_ials(train: Interactions, p: Ials, c: float, joint: bool) -> Problem:
    """Return the plain iALS that absorbs debiasing with one c, in float64.

    alpha0' = alpha0 / ((1 - alpha0) c), and lambda' = lambda / ((1 - alpha0) c) as printed, or
    lambda / c for the joint problem. The penalty's scaling by frequency keeps alpha0.
    """
    plain = ials_problem(train, p.alpha0, p.reg, p.nu, dtype=torch.float64)
    rest = 1 - p.alpha0
    division = c if joint else rest * c
    return plain._replace(
        unobserved=p.alpha0 / (rest * c),
        user_penalty=plain.user_penalty / division,
        item_penalty=plain.item_penalty / division,
    )


def scaled(factors: Factors, alpha0: float) -> Factors:
    """Return the factors of the plain joint problem for those of the debiased one."""
    return Factors(*(math.sqrt(1 - alpha0) * x for x in factors))


def half_step_slope(
    observed: Tensor, moving: Tensor, fixed: Tensor, penalty: Tensor, alpha0: float, c: float
) -> float:
    """Return the slope of the printed objective at one side's vectors, relative to that at 0.

    moving (n, D), of n users or items; fixed (m, D), the other side; observed (n, m), 1 where a
    pair is in train; penalty (n,). Written out pair by pair and differentiated by autograd.
    """

    def slope(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        y = x @ fixed.T
        value = (observed * (c * (y - 1).square() - c * alpha0 * y.square())).sum()
        value = value + alpha0 * y.square().sum() + (penalty * x.square().sum(1)).sum()
        return torch.autograd.grad(value, x)[0].abs().max()

    return float(slope(moving) / slope(torch.zeros_like(moving)))


def _chosen(n: int, size: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(n)[:size])


def _up_to_a_factor(one: Factors, other: Factors) -> float:
    """Return the largest relative difference when each side has the factor that fits it best."""
    fits = (float((x * y).sum() / (x * x).sum()) for x, y in zip(one, other, strict=True))
    return max(difference(s * x, y) for s, x, y in zip(fits, one, other, strict=True))


def theorem_1(
    train: Interactions, p: Ials, c: float, seed: int, iterations: int, sampled: int
) -> Iterator[dict[str, Any]]:
    """Yield the certificates of Theorem 1, at random factors and after joint training.

    sampled: users and items whose slope is taken pair by pair. At alpha0 of 1 or more nothing is
    certified.
    """
    rest = 1 - p.alpha0
    if rest <= 0:
        sentence = "alpha0: Theorem 1 divides by 1 - alpha0, not certified"
        yield row("ials", "Theorem 1, condition", None, p.alpha0, sentence)
        return
    problem = printed_ials(train, p, c)
    debiased, half = Solver(problem), Solver(absorbing_ials(train, p, c, joint=False))
    start = initial(train, p.dim, 0.1, seed, dtype=torch.float64)
    right = Factors(debiased.solve_users(start.items), debiased.solve_items(start.users))
    mapped = Factors(half.solve_users(start.items) / rest, half.solve_items(start.users) / rest)
    name, shares = "Theorem 1, half-step", "share of users with another top 20"
    sentence = "largest relative difference of users' and of items' factors"
    yield row(
        "ials", f"{name}: solution", 1e-9, max(map(difference, mapped, right)), sentence, PRINTED
    )

    x, slopes = interaction_matrix(train).astype(np.float64), []
    sides = zip((x, x.T.tocsr()), mapped, reversed(start), problem[-2:], strict=True)
    for matrix, moving, fixed, penalty in sides:
        rows = _chosen(len(moving), sampled, seed)
        observed = torch.from_numpy(matrix[rows].toarray())
        slopes.append(half_step_slope(observed, moving[rows], fixed, penalty[rows], p.alpha0, c))
    sentence = "slope of the printed objective at the mapped solution over that at 0"
    yield row("ials", f"{name}: slope", 1e-9, max(slopes), sentence, PRINTED)
    share = changed_lists(*(Factors(f.users, start.items) for f in (right, mapped)), train)
    yield row("ials", f"{name}: rankings", 0.0, share, shares, PRINTED)

    name, ours = "Theorem 1, joint problem", ials(problem, start, iterations)
    left = rest / c * (debiased.objective(start) - debiased.objective(ours))
    for claimed, joint in ((PRINTED, False), (CORRECTED, True)):
        plain = Solver(absorbing_ials(train, p, c, joint))
        # Equal up to a constant: they differ by the same between two points.
        ends = [plain.objective(scaled(x, p.alpha0)) for x in (start, ours)]
        value = abs(left / (ends[0] - ends[1]) - 1)
        sentence = "relative difference of the objectives, from random to trained factors"
        yield row("ials", f"{name}: objective", 1e-9, value, sentence, claimed)
        if joint:
            theirs = ials(plain.problem, scaled(start, p.alpha0), iterations)
            apart = max(map(difference, theirs, scaled(ours, p.alpha0)))
        else:  # the theorem leaves the factors open
            theirs = ials(plain.problem, start, iterations)
            apart = _up_to_a_factor(theirs, ours)
        sentence = f"largest relative difference of factors after {iterations} iterations"
        yield row("ials", f"{name}: training", 1e-6, apart, sentence, claimed)
        share = changed_lists(theirs, ours, train)
        yield row("ials", f"{name}: rankings", 0.0, share, shares, claimed)


def equation_28(
    train: Interactions, weights: Tensor, columns: Tensor, reg: float, c: float, alpha: float
) -> float:
    """Return the relative difference of Eq. 28 and the debiased objective, as they leave W = 0.

    Eq. 28 is |X - XW|^2 - alpha |XW|^2 + reg |W|^2; the debiased objective, without its penalty and
    pair by pair, is divided by c before the same penalty is added. weights (I, n), columns (n,).
    """
    x = interaction_matrix(train).astype(np.float64)
    observed = torch.from_numpy(x[:, columns.numpy()].toarray())
    y = torch.from_numpy(x @ weights.numpy())
    penalty = reg * weights.square().sum()
    printed = (observed - y).square().sum() - alpha * y.square().sum() + penalty
    printed = printed - observed.square().sum()
    pairs = observed * (c * ((y - 1).square() - 1) - c * y.square()) + y.square()
    debiased = pairs.sum() / c + penalty
    return float((printed - debiased).abs() / debiased.abs())


def theorem_2(
    train: Interactions, solve: Callable[[float], Tensor], columns: Tensor, reg: float, c: float
) -> Iterator[dict[str, Any]]:
    """Yield the certificates of the three readings of Theorem 2.

    solve: a penalty to `ease.ease_columns` of `columns`, W (I, n) float64. The debiased objective
    of EASE is that of `ease_slope` at tau 0 and kappa c.
    """
    alphas = {PRINTED: c - 1, CORRECTED: (c - 1) / c}
    plain = solve(reg)
    for claimed, alpha in alphas.items():
        value = equation_28(train, plain, columns, reg, c, alpha)
        sentence = "relative difference of Eq. 28 and the debiased objective over c"
        yield row("ease", "Theorem 2, Eq. 28: objective", 1e-9, value, sentence, claimed)

    def slope(weights: Tensor, penalty: float) -> float:
        return ease_slope(train, weights, columns, penalty, 0.0, c)

    name, words = "Theorem 2, Eq. 29: slope", "slope of the debiased objective over that at 0"
    rest = 1 - alphas[PRINTED]
    if rest <= 0:
        sentence = "1 - alpha as printed: Eq. 29 needs it above 0, that is c below 2; not certified"
        yield row("ease", "Theorem 2, condition", None, rest, sentence)
    else:
        # The penalty of Eq. 28 may be the debiased objective's, or that after dividing by c.
        claim = solve(reg / rest) / rest
        value = min(slope(claim, penalty) for penalty in (reg, c * reg))
        yield row("ease", name, 1e-6, value, f"{words}, the smaller of two penalties", PRINTED)
    # 1 / (1 - alpha) is c.
    yield row("ease", name, 1e-6, slope(c * solve(c * reg), c * reg), words, CORRECTED)
    name = "Theorem 2, λ' of the proof: slope"
    yield row("ease", name, 1e-6, slope(c * plain, reg), words, CORRECTED)
