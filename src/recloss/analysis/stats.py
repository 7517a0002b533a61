"""Means, spreads and intervals of repeated runs."""

import functools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # `scipy.stats` takes as long as all else here

from recloss import seeds
from recloss.experiment.runs import DETERMINISTIC
from recloss.experiment.schema import CONTROL, LINEAR
from recloss.files import ReclossError

LEVEL = 0.95
REPLICATES = 2000  # of a bootstrap: the ends of an interval stand on 50 each
KEPT_USERS = 100_000  # up to so many, replicates serve the next comparison too: 400 MB, twice


def user_values(paths: list[Path], metric: str) -> np.ndarray:
    """Return each test user's value of `metric`, (n,) float64, averaged over the runs."""
    values = []
    for path in paths:
        with np.load(path, allow_pickle=False) as arrays:
            values.append(arrays[metric].astype(np.float64))
    return np.mean(values, axis=0)


def user_matrix(paths: list[Path], metric: str) -> np.ndarray:
    """Return each test user's value of `metric` in each run, (runs, users) float64."""
    return np.stack([user_values([path], metric) for path in paths])


class Comparison(NamedTuple):
    """A model beside another: relative difference of their means, its interval, two-sided p."""

    effect: float
    low: float
    high: float
    p: float
    n_seeds: int
    n_users: int


def relative(one: float, other: float) -> float:
    """Return one / other - 1, of which nothing is known over 0: then NaN."""
    return one / other - 1 if other else math.nan


def compare(one: np.ndarray, other: np.ndarray, seed: int = 0) -> Comparison:
    """Return the paired bootstrap of mean(one) / mean(other) - 1 over users and seeds.

    one, other: (seeds, users) of the same users and seeds in the same order; where one has a single
    seed, as EASE, it stands beside each seed of the other. Each replicate draws users and, apart
    from them, seeds with replacement; the interval is of percentiles, p twice the smaller tail.
    """
    if 1 in (len(one), len(other)):
        one, other = np.broadcast_arrays(one, other)
    if one.shape != other.shape:
        raise ReclossError(f"runs of {one.shape} and {other.shape} seeds and users are not paired")
    n_seeds, users = one.shape
    means = np.empty((2, REPLICATES))
    for replicate, (of_users, of_seeds) in enumerate(_resamples(seed, n_seeds, users)):
        means[:, replicate] = [of_seeds @ (values @ of_users) for values in (one, other)]
    ratios = _relative(*means)
    tails = [(np.sum(side) + 1) / (REPLICATES + 1) for side in (ratios <= 0, ratios >= 0)]
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    effect = float(_relative(one.mean(), other.mean()))
    return Comparison(effect, float(low), float(high), min(1.0, 2 * min(tails)), n_seeds, users)


def _resamples(seed: int, n_seeds: int, users: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Return how often each replicate draws each user, (users,), and each seed, (n_seeds,)."""
    found = _kept if users <= KEPT_USERS else _drawn
    return found(seed, n_seeds, users)


def _drawn(seed: int, n_seeds: int, users: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    generator = seeds.generator(seed, "bootstrap")
    for _ in range(REPLICATES):
        of_users = np.bincount(generator.integers(users, size=users), minlength=users)
        yield of_users, np.bincount(generator.integers(n_seeds, size=n_seeds), minlength=n_seeds)


@functools.lru_cache(maxsize=2)
def _kept(seed: int, n_seeds: int, users: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(u.astype(np.uint16), s) for u, s in _drawn(seed, n_seeds, users)]


def _relative(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(one / other - 1, nan=0.0)  # 0 / 0: no difference


def holm(values: list[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down procedure."""
    order = np.argsort(values, kind="stable")
    corrected = np.empty(len(values))
    scaled = np.asarray(values, float)[order] * np.arange(len(values), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return corrected.tolist()


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % Student-t interval of the mean of independent values (n,)."""
    if len(values) < 2:
        return (float("nan"), float("nan"))
    error = values.std(ddof=1) / np.sqrt(len(values))
    half = error * stdtrit(len(values) - 1, (1 + LEVEL) / 2)
    return float(values.mean() - half), float(values.mean() + half)


def beside_best(points: list[np.ndarray]) -> np.ndarray:
    """Return the 95 % interval of each point's mean as the best one has it, (points, 2).

    points: values (users,) of the same users. The interval is that of the paired difference to the
    point of the highest mean, added to that mean; the best one's is its own mean.
    """
    best = max(points, key=np.mean)
    ends = [mean_interval(point - best) if point is not best else (0.0, 0.0) for point in points]
    return best.mean() + np.array(ends)


def summarise(runs: pd.DataFrame, results: Path, metrics: tuple[str, ...]) -> pd.DataFrame:
    """Return a row per (dataset, backbone, loss): seeds, mean and standard deviation over seeds.

    runs: rows of metrics.csv. For recall@20 and ndcg@20 the columns `<metric> low` and `high` hold
    the 95 % interval over test users (each user's value averaged over seeds first): it says how far
    the number would move with other users, the standard deviation how far with other seeds.
    `<metric> tied` is true of trained models not significantly different from the data set's best
    (`best_beside_others`; p of 0.05 or more).
    """
    rows = []
    keys = ["dataset", "backbone", "loss"]
    for (dataset, backbone, loss), group in runs.groupby(keys, sort=False):
        row = {
            "dataset": dataset,
            "backbone": backbone,
            "loss": loss,
            "kind": kind(loss, backbone),
            "seeds": len(group),
            "best epoch": group["best_epoch"].mean(),
        }
        for metric in metrics:
            row[metric] = group[metric].mean()
            row[f"{metric} sd"] = group[metric].std(ddof=1)
        for metric in ("recall@20", "ndcg@20"):
            paths = [results / path / "per_user.npz" for path in group["path"]]
            row[f"{metric} low"], row[f"{metric} high"] = mean_interval(user_values(paths, metric))
        rows.append(row)
    table = pd.DataFrame(rows)
    for metric in ("recall@20", "ndcg@20"):
        table[f"{metric} tied"] = _tied(table, runs, results, metric)
    return table


def compare_runs(
    one: pd.DataFrame, other: pd.DataFrame, results: Path, metric: str
) -> Comparison | None:
    """Return `compare` of two models' runs at the seeds that both have, or None if there is none.

    one, other: rows of metrics.csv, of one data set each. The run of a model in which nothing is
    random stands beside every seed of the other.
    """
    sides = [side.set_index("seed")["path"] for side in (one, other)]
    if not any(side["loss"].isin(DETERMINISTIC).all() for side in (one, other)):
        common = sorted(set(sides[0].index) & set(sides[1].index))
        sides = [side.loc[common] for side in sides]
    if not all(map(len, sides)):
        return None
    paths = [[results / path / "per_user.npz" for path in side] for side in sides]
    return compare(*(user_matrix(of_model, metric) for of_model in paths))


Model = tuple[str, str]  # backbone and loss


def best_beside_others(
    runs: pd.DataFrame, results: Path, metric: str
) -> tuple[Model, dict[Model, Comparison | None]]:
    """Return the model of the highest mean of `metric`, and it beside each other one, best first.

    runs: rows of metrics.csv, of trained models on one data set. A p-value is corrected for the
    number of comparisons (Holm); None where two models have no seed in common.
    """
    groups = dict(iter(runs.groupby(["backbone", "loss"], sort=False)))
    best, *others = sorted(groups, key=lambda model: -groups[model][metric].mean())
    found = {other: compare_runs(groups[best], groups[other], results, metric) for other in others}
    known = [other for other in others if found[other] is not None]
    for other, p in zip(known, holm([found[other].p for other in known]), strict=True):
        found[other] = found[other]._replace(p=p)
    return best, found


def _tied(table: pd.DataFrame, runs: pd.DataFrame, results: Path, metric: str) -> list[bool]:
    tied = set()
    for dataset, here in runs[runs["backbone"] != CONTROL].groupby("dataset"):
        best, beside = best_beside_others(here, results, metric)
        near = (model for model, c in beside.items() if c is not None and c.p >= 1 - LEVEL)
        tied |= {(dataset, *model) for model in (best, *near)}
    keys = zip(table["dataset"], table["backbone"], table["loss"], strict=True)
    return [key in tied for key in keys]


def kind(loss: str, backbone: str) -> str:
    """Return `control`, `linear`, `debiased` or `plain`: how figures and tables group the rows."""
    if backbone in (CONTROL, LINEAR):
        return backbone
    return "debiased" if loss.startswith("debiased_") else "plain"
