"""Whether iALS and EASE are inherently debiased (arXiv 2312.08517), as certificates.

Debiasing takes the hidden positives out of the unobserved term: with the class prior tau+, tau- =
1 - tau+, a sum over all items of y_ui^2 becomes (1 / tau-) ( sum_I y_ui^2 - kappa_u sum_{I_u+}
y_ui^2 ), kappa_u = tau_u+ |I| / |I_u+|. "Inherently debiased" means that the minimiser is that of
the plain model with other hyper-parameters, up to one scale, so that rankings are those of a plain
model. It needs a condition: one kappa for all users. The certificates solve both sides.
"""

import argparse
import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recloss import linear
from recloss.data import Interactions
from recloss.evaluate import Mask, Ranking, block_users, dot_scores, means, top_k
from recloss.files import ReclossError, atomic, run_cli
from recloss.kernels import use_threads
from recloss.split import Split, load_split

COLUMNS = ("dataset", "certificate", "tau", "kappa", "tolerance", "value", "passed", "sentence")
TOP = 20


class Ials(NamedTuple):
    """Hyper-parameters of iALS: `linear.ials_problem`, and the dimension of its factors."""

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


def debiased_ials(
    train: Interactions, p: Ials, tau: float, kappa: float | np.ndarray
) -> linear.Problem:
    """Return debiased iALS in float64; kappa for all users or of each, (U,).

    From (y - 1)^2 - beta y^2 = (1 - beta) (y - 1 / (1 - beta))^2 + constant: confidence 1 - beta,
    target 1 / (1 - beta), and alpha0 / tau- for the unobserved.
    """
    plain = linear.ials_problem(train, p.alpha0, p.reg, p.nu, dtype=torch.float64)
    absorbed(p.alpha0, tau, float(np.max(kappa)))
    beta = torch.as_tensor(p.alpha0 * np.broadcast_to(kappa, train.n_users) / (1 - tau))
    return plain._replace(
        confidence=1 - beta, target=1 / (1 - beta), unobserved=p.alpha0 / (1 - tau)
    )


def mapped_ials(
    train: Interactions, p: Ials, tau: float, kappa: float, half_step: bool
) -> linear.Problem:
    """Return the plain iALS that absorbs debiasing, in float64.

    alpha0' = alpha0 / (tau- (1 - beta)). For a half-step the penalty is divided by 1 - beta and the
    solution is 1 - beta times the debiased one; for the joint problem the penalty stays and both
    factors are sqrt(1 - beta) times the debiased ones. The penalty's scaling by frequency keeps the
    alpha0 of before.
    """
    rest = 1 - absorbed(p.alpha0, tau, kappa)
    plain = linear.ials_problem(train, p.alpha0, p.reg, p.nu, dtype=torch.float64)
    division = rest if half_step else 1.0
    return plain._replace(
        unobserved=p.alpha0 / ((1 - tau) * rest),
        user_penalty=plain.user_penalty / division,
        item_penalty=plain.item_penalty / division,
    )


def difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference relative to the largest value."""
    return float((one - other).abs().max() / other.abs().max())


def changed_lists(one: linear.Factors, other: linear.Factors, train: Interactions) -> float:
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
    debiased = linear.Solver(problem)
    half = linear.Solver(mapped_ials(train, p, tau, kappa, half_step=True))
    joint = linear.Solver(mapped_ials(train, p, tau, kappa, half_step=False))
    start = linear.initial(problem, p.dim, 0.1, seed)

    users = debiased.solve_users(start.items)
    mapped = half.solve_users(start.items) / rest
    yield _row("iALS half-step", 1e-9, difference(mapped, users), "largest relative difference")
    share = changed_lists(
        linear.Factors(users, start.items), linear.Factors(mapped, start.items), train
    )
    yield _row("iALS half-step, rankings", 0.0, share, "share of users with another top 20")

    def scaled(factors: linear.Factors) -> linear.Factors:
        return linear.Factors(*(math.sqrt(rest) * x for x in factors))

    ours = linear.ials(problem, start, iterations)
    theirs = linear.ials(joint.problem, scaled(start), iterations)
    # Equal up to a constant: their differences between two points are equal.
    points = (start, ours)
    left = [rest * debiased.objective(x) for x in points]
    right = [joint.objective(scaled(x)) for x in points]
    value = abs((left[0] - left[1]) - (right[0] - right[1])) / abs(right[0])
    yield _row("iALS objective", 1e-9, value, "relative difference, at random and trained factors")
    value = max(map(difference, scaled(ours), theirs))
    sentence = f"largest relative difference of factors after {iterations} iterations"
    yield _row("iALS training", 1e-6, value, sentence)
    share = changed_lists(ours, theirs, train)
    yield _row("iALS training, rankings", 0.0, share, "share of users with another top 20")


def _row(name: str, tolerance: float | None, value: float, sentence: str) -> dict[str, Any]:
    passed = None if tolerance is None else value <= tolerance
    return {
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
    y = X B. It is written out pair by pair here and differentiated by autograd, so that nothing of
    the closed form is taken for granted. weights float64, columns (n,) their item ids.
    """
    x = linear.interaction_matrix(train).astype(np.float64)
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
    train: Interactions,
    model: linear.Ease,
    reg: float,
    tau: float,
    kappa: float,
    columns: int,
    seed: int,
) -> dict[str, Any]:
    """Return the certificate that kappa EASE(reg) minimises debiased EASE of reg / tau-.

    model: EASE trained with reg, in float32. So many columns of B, drawn at random, are looked at.
    """
    generator = np.random.default_rng(seed)
    chosen = torch.from_numpy(np.sort(generator.permutation(train.n_items)[:columns]))
    value = ease_slope(train, kappa * model.weights(chosen), chosen, reg / (1 - tau), tau, kappa)
    sentence = f"slope of the debiased objective at {len(chosen)} columns, relative to that at 0"
    return _row("EASE", 1e-3, value, sentence)


def unequal_users(split: Split, p: Ials, tau: float, seed: int, iterations: int) -> list[dict]:
    """Return how far debiasing moves iALS where the condition fails: tau+ equal, kappa by user."""
    train = split.train
    degree = np.maximum(train.counts(), 1)
    kappa = tau * train.n_items / degree
    plain = linear.ials_problem(train, p.alpha0, p.reg, p.nu, dtype=torch.float64)
    start = linear.initial(plain, p.dim, 0.1, seed)
    models = [
        linear.ials(problem, start, iterations)
        for problem in (plain, debiased_ials(train, p, tau, kappa))
    ]
    ranking = Ranking(split.test, [train, split.valid], torch.device("cpu"))
    values = [means(ranking.per_user(dot_scores(*model, cosine=False))[1]) for model in models]
    rows = [
        _row(
            "iALS, kappa by user, rankings",
            None,
            changed_lists(*models, train),
            "share of users with another top 20 than plain iALS",
        )
    ]
    for metric in ("recall@20", "ndcg@20"):
        change = values[1][metric] / values[0][metric] - 1
        sentence = f"relative change of {metric} from {values[0][metric]:.4f} of plain iALS"
        rows.append(_row(f"iALS, kappa by user, {metric}", None, change, sentence))
    return rows


def main() -> None:
    """Certify, on one data set, that iALS and EASE absorb debiasing; write debiasing.csv."""
    parser = argparse.ArgumentParser(prog="python -m recloss.debiasing", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="split.npz by recloss.split")
    parser.add_argument("--manifest", type=Path, required=True, help="split.json beside it")
    parser.add_argument("--out", type=Path, required=True, help="the CSV to write")
    parser.add_argument("--tau", type=float, nargs="+", default=[0.001, 0.01], help="tau+")
    parser.add_argument("--kappa", type=float, nargs="+", default=[0.5, 2.0])
    parser.add_argument("--alpha0", type=float, default=0.1, help="weight of the unobserved")
    parser.add_argument("--reg", type=float, default=0.003, help="penalty of iALS")
    parser.add_argument("--nu", type=float, default=1.0, help="exponent of its frequencies")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--ease-reg", type=float, default=80.0, help="penalty of EASE")
    parser.add_argument("--columns", type=int, default=100, help="of EASE's weights, looked at")
    parser.add_argument("--no-ease", action="store_true", help="leave EASE out: it needs memory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    use_threads(a.threads)
    split, dataset = load_split(a.data), json.loads(a.manifest.read_text())["dataset"]
    p = Ials(a.alpha0, a.reg, a.nu, a.dim)
    rows = []
    model = None if a.no_ease else linear.ease(linear.gram(split.train), a.ease_reg)
    for tau in a.tau:
        for kappa in a.kappa:
            found = [*ials_certificates(split.train, p, tau, kappa, a.seed, a.iterations)]
            if model is not None:
                chosen = (a.ease_reg, tau, kappa, a.columns, a.seed)
                found.append(ease_certificate(split.train, model, *chosen))
            rows += [{"dataset": dataset, "tau": tau, "kappa": kappa} | row for row in found]
        found = unequal_users(split, p, tau, a.seed, a.iterations)
        rows += [{"dataset": dataset, "tau": tau, "kappa": None} | row for row in found]
    with atomic(a.out) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    run_cli(main)
