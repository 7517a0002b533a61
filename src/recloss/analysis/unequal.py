"""How far debiasing moves iALS and EASE where the condition of the certificates does not hold."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from recloss.analysis.certificates import TOP, Ials, changed_lists, debiased_ials, row
from recloss.analysis.theorems import absorbing_ials, printed_ials, scaled
from recloss.data.interactions import Interactions, Split, interaction_matrix
from recloss.engine.ranking import Mask, Ranking, ScoreBlock, dot_scores, means, on_test, top_k
from recloss.models.ease import ease
from recloss.models.ials import Factors, ials, ials_problem, initial

LARGEST_BETA = 0.9  # where beta differs by user, those above are held here: 1 has no minimum
EXTRA_LIKED = (10, 100)  # liked items beyond the observed ones, the paper's K; it prints none
POPULAR = 400  # items of the EASE that is solved column by column, at POPULAR systems of that size


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


def _factors_moved(
    split: Split, name: str, plain: Factors, debiased: Factors
) -> Iterator[dict[str, Any]]:
    """Yield how far iALS moved from the first to the second of two trained models."""
    blocks = tuple(dot_scores(*model, cosine=False) for model in (plain, debiased))
    changed = changed_lists(plain, debiased, split.train)
    yield from _moved("ials", name, on_test(split, torch.device("cpu")), blocks, changed)


def unequal_priors(split: Split, p: Ials, seed: int, iterations: int) -> Iterator[dict[str, Any]]:
    """Yield how far debiasing as printed moves iALS at the paper's prior (|I_u+| + K) / |I|, K > 0.

    Its c_u = 1 + K / |I_u+| differs by user. Beside plain iALS of the same hyper-parameters, and
    beside the one that would absorb debiasing if every user had the mean c of the train pairs. tau
    is the mean prior.
    """
    train = split.train
    counts = np.maximum(train.counts(), 1)
    start = initial(train, p.dim, 0.1, seed, dtype=torch.float64)
    plain = None
    for k in EXTRA_LIKED:
        name, prior = f"prior |I_u+| + {k}", (train.counts() + k) / train.n_items
        here = {"tau": float(prior.mean()), "kappa": None}
        if prior.max() >= 1 or p.alpha0 >= 1:
            sentence = f"largest prior; not measured where it or alpha0 ({p.alpha0:g}) is 1 or more"
            yield here | row("ials", f"{name}, condition", None, float(prior.max()), sentence)
            continue
        if plain is None:
            problem = ials_problem(train, p.alpha0, p.reg, p.nu, dtype=torch.float64)
            plain = ials(problem, start, iterations)
        debiased = ials(printed_ials(train, p, 1 + k / counts), start, iterations)
        yield from (here | x for x in _factors_moved(split, name, plain, debiased))
        mean = 1 + k * float((train.counts() > 0).sum()) / len(train)
        absorbing = absorbing_ials(train, p, mean, joint=True)
        nearest = ials(absorbing, scaled(start, p.alpha0), iterations)
        name = f"{name}, beside iALS mapped by the mean c"
        yield from (here | x for x in _factors_moved(split, name, nearest, debiased))


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
    plain = ials_problem(train, p.alpha0, p.reg, p.nu, dtype=torch.float64)
    debiased = debiased_ials(train, p, tau, np.minimum(kappa, limit))
    start = initial(train, p.dim, 0.1, seed, dtype=torch.float64)
    models = [ials(problem, start, iterations) for problem in (plain, debiased)]
    yield from _factors_moved(split, "kappa by user", *models)


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
    x = torch.from_numpy(interaction_matrix(small.train).toarray()).double()
    gram, n = x.T @ x, small.train.n_items
    plain = ease(gram.clone(), reg).weights(torch.arange(n))
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
    ranking = on_test(small, cpu)
    blocks = tuple((lambda low, high, s=score: s[low:high].clone()) for score in scores)
    name = f"weights c+ = c- = 1, {n} most popular items"
    yield from _moved("ease", name, ranking, blocks, changed)
