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
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recloss import config, linear
from recloss.data import Interactions
from recloss.evaluate import Mask, Ranking, ScoreBlock, block_users, dot_scores, means, top_k
from recloss.files import ReclossError, atomic, run_cli
from recloss.kernels import use_threads
from recloss.split import Split, load_split

COLUMNS = (
    *("dataset", "model", "certificate", "tau", "kappa"),
    *("tolerance", "value", "passed", "sentence"),
)
TOP = 20
LARGEST_BETA = 0.9  # where beta differs by user, those above are held here: 1 has no minimum
POPULAR = 400  # items of the EASE that is solved column by column, at POPULAR systems of that size


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
    start = linear.initial(train, p.dim, 0.1, seed, dtype=torch.float64)

    users = debiased.solve_users(start.items)
    mapped = half.solve_users(start.items) / rest
    yield row("ials", "half-step", 1e-9, difference(mapped, users), "largest relative difference")
    share = changed_lists(
        linear.Factors(users, start.items), linear.Factors(mapped, start.items), train
    )
    yield row("ials", "half-step, rankings", 0.0, share, "share of users with another top 20")

    def scaled(factors: linear.Factors) -> linear.Factors:
        return linear.Factors(*(math.sqrt(rest) * x for x in factors))

    ours = linear.ials(problem, start, iterations)
    theirs = linear.ials(joint.problem, scaled(start), iterations)
    # Equal up to a constant: their differences between two points are equal.
    points = (start, ours)
    left = [rest * debiased.objective(x) for x in points]
    right = [joint.objective(scaled(x)) for x in points]
    value = abs((left[0] - left[1]) - (right[0] - right[1])) / abs(right[0])
    yield row(
        "ials", "objective", 1e-9, value, "relative difference, at random and trained factors"
    )
    value = max(map(difference, scaled(ours), theirs))
    sentence = f"largest relative difference of factors after {iterations} iterations"
    yield row("ials", "training", 1e-6, value, sentence)
    share = changed_lists(ours, theirs, train)
    yield row("ials", "training, rankings", 0.0, share, "share of users with another top 20")


def row(
    model: str, name: str, tolerance: float | None, value: float, sentence: str
) -> dict[str, Any]:
    """Return a certificate, which passes where value <= tolerance, or a measurement (None)."""
    passed = None if tolerance is None else value <= tolerance
    return {
        "model": model,
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
    train: Interactions, weights: Tensor, columns: Tensor, reg: float, tau: float, kappa: float
) -> dict[str, Any]:
    """Return the certificate that kappa EASE(reg) minimises debiased EASE of reg / tau-.

    weights: `linear.ease_columns` of EASE(reg), (I, n) float64.
    """
    value = ease_slope(train, kappa * weights, columns, reg / (1 - tau), tau, kappa)
    sentence = f"slope of the debiased objective at {len(columns)} columns over that at 0"
    return row("ease", "minimiser", 1e-6, value, sentence)


def _moved(
    model: str, name: str, ranking: Ranking, blocks: tuple[ScoreBlock, ScoreBlock], changed: float
) -> Iterator[dict[str, Any]]:
    """Yield how far a ranking moved from the first to the second of two models."""
    sentence = "share of users with another top 20 than the plain model"
    yield row(model, f"{name}, rankings", None, changed, sentence)
    values = [means(ranking.per_user(block)[1]) for block in blocks]
    for metric in ("recall@20", "ndcg@20"):
        plain, debiased = (value[metric] for value in values)
        sentence = f"relative change of {metric} from {plain:.4f} of the plain model"
        yield row(
            model, f"{name}, {metric}", None, debiased / plain - 1 if plain else 0.0, sentence
        )


def unequal_users(
    split: Split, p: Ials, tau: float, seed: int, iterations: int
) -> Iterator[dict[str, Any]]:
    """Yield how far debiasing moves iALS where the condition fails: tau+ equal, kappa by user."""
    train = split.train
    kappa = tau * train.n_items / np.maximum(train.counts(), 1)
    limit = LARGEST_BETA * (1 - tau) / p.alpha0
    held = float((kappa > limit).mean())
    sentence = f"share of users whose beta was held at {LARGEST_BETA:g}: at 1 there is no minimum"
    yield row("ials", "kappa by user, held", None, held, sentence)
    plain = linear.ials_problem(train, p.alpha0, p.reg, p.nu, dtype=torch.float64)
    debiased = debiased_ials(train, p, tau, np.minimum(kappa, limit))
    start = linear.initial(train, p.dim, 0.1, seed, dtype=torch.float64)
    models = [linear.ials(problem, start, iterations) for problem in (plain, debiased)]
    ranking = Ranking(split.test, [train, split.valid], torch.device("cpu"))
    blocks = tuple(dot_scores(*model, cosine=False) for model in models)
    changed = changed_lists(*models, train)
    yield from _moved("ials", "kappa by user", ranking, blocks, changed)


def popular_items(split: Split, n: int) -> Split:
    """Return a split reduced to its n most popular items and to the users who keep train items."""
    train = split.train
    items = np.sort(np.argsort(-train.item_counts(), kind="stable")[:n])
    users = np.unique(train.users[np.isin(train.items, items)])

    def part(pairs: Interactions) -> Interactions:
        keep = np.isin(pairs.items, items) & np.isin(pairs.users, users)
        ids = (np.searchsorted(users, pairs.users[keep]), np.searchsorted(items, pairs.items[keep]))
        return Interactions(*(x.astype(np.int32) for x in ids), len(users), len(items))

    return Split(part(train), part(split.valid), part(split.test))


def unequal_weights(split: Split, reg: float, tau: float, kappa: float) -> Iterator[dict[str, Any]]:
    """Yield how far debiasing moves EASE without its condition on the weights: c+ = c- = 1.

    A pair then weighs 1 + (1 - kappa) / tau- if observed and 1 / tau- if not, so that every column
    of B has a system of its own: solved for the most popular items only.
    """
    observed_weight, other_weight = 1 + (1 - kappa) / (1 - tau), 1 / (1 - tau)
    if observed_weight <= 0:
        sentence = f"weight of an observed pair; without a minimum at c+ = 1 and kappa {kappa:g}"
        yield row("ease", "weights c+ = c- = 1", None, observed_weight, sentence)
        return
    small = popular_items(split, POPULAR)
    x = torch.from_numpy(linear.interaction_matrix(small.train).toarray()).double()
    gram, n = x.T @ x, small.train.n_items
    plain = linear.ease(gram.clone(), reg).weights(torch.arange(n))
    debiased = torch.zeros_like(plain)
    for item in range(n):
        mine = x[x[:, item] > 0]
        system = other_weight * gram + (observed_weight - other_weight) * (mine.T @ mine)
        system.diagonal().add_(reg)
        others = torch.arange(n) != item
        target = mine.sum(0)[others]  # of c+ (y - 1)^2
        debiased[others, item] = torch.linalg.solve(system[others][:, others], target)
    scores = [x @ b for b in (plain, debiased)]
    cpu, lists = torch.device("cpu"), []
    for score in scores:
        shown = score.clone()
        Mask(small.train, cpu).apply(shown, 0)
        lists.append(top_k(shown, min(TOP, n)))
    changed = float((lists[0] != lists[1]).any(1).double().mean())
    ranking = Ranking(small.test, [small.train, small.valid], cpu)
    blocks = tuple((lambda low, high, s=score: s[low:high].clone()) for score in scores)
    name = f"weights c+ = c- = 1, {n} most popular items"
    yield from _moved("ease", name, ranking, blocks, changed)


def certify(
    split: Split,
    ials: Ials | None,
    ease_reg: float | None,
    taus: list[float],
    kappas: list[float],
    iterations: int,
    columns: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield every certificate and measurement of the models given, with its tau and kappa."""
    train = split.train
    if ease_reg is not None:
        chosen = np.random.default_rng(seed).permutation(train.n_items)[:columns]
        chosen = torch.from_numpy(np.sort(chosen))
        weights = linear.ease_columns(train, ease_reg, chosen)
    for tau in taus:
        for kappa in kappas:
            here = {"tau": tau, "kappa": kappa}
            if ials is not None:
                beta = ials.alpha0 * kappa / (1 - tau)
                if beta < 1:
                    found = ials_certificates(train, ials, tau, kappa, seed, iterations)
                else:
                    sentence = "beta: debiased iALS has a minimum only below 1, not certified"
                    found = [row("ials", "condition", None, beta, sentence)]
                yield from (here | entry for entry in found)
            if ease_reg is not None:
                yield here | ease_certificate(train, weights, chosen, ease_reg, tau, kappa)
                yield from (here | x for x in unequal_weights(split, ease_reg, tau, kappa))
        if ials is not None:
            found = unequal_users(split, ials, tau, seed, iterations)
            yield from ({"tau": tau, "kappa": None} | entry for entry in found)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows of `row` with their data set as CSV."""
    with atomic(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for entry in rows:
            writer.writerow(entry)
            print(json.dumps(entry), file=sys.stderr, flush=True)


def main() -> None:
    """Certify, on one data set, that iALS and EASE absorb debiasing; write a CSV."""
    parser = argparse.ArgumentParser(prog="python -m recloss.debiasing", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="split.npz by recloss.split")
    parser.add_argument("--manifest", type=Path, required=True, help="split.json beside it")
    parser.add_argument("--out", type=Path, required=True, help="the CSV to write")
    parser.add_argument("--tau", type=float, nargs="*", default=[0.001, 0.01], help="tau+")
    parser.add_argument("--kappa", type=float, nargs="*", default=[0.5, 2.0])
    parser.add_argument("--ials", metavar="JSON", help='as {"alpha0": 0.1, "reg": 0.003, ...}')
    parser.add_argument("--ease", metavar="JSON", help='as {"reg": 200}')
    parser.add_argument("--iterations", type=int, default=4, help="of iALS on either side")
    parser.add_argument("--columns", type=int, default=100, help="of EASE's weights, looked at")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    a = parser.parse_args()
    use_threads(a.threads)
    split, dataset = load_split(a.data), json.loads(a.manifest.read_text())["dataset"]
    ials = reg = None
    if a.ials is not None:
        settings = config.default_settings("ials") | json.loads(a.ials)
        ials = Ials(*(settings[name] for name in Ials._fields))
    if a.ease is not None:
        reg = (config.default_settings("ease") | json.loads(a.ease))["reg"]
    chosen = (a.tau, a.kappa, a.iterations, a.columns, a.seed)
    rows = certify(split, ials, reg, *chosen)
    write_rows(a.out, ({"dataset": dataset} | entry for entry in rows))


if __name__ == "__main__":
    run_cli(main)
