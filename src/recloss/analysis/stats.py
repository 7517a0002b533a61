"""Means, spreads and intervals of repeated runs."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit  # `scipy.stats` takes as long as all else here

from recloss.experiment.runs import DETERMINISTIC
from recloss.experiment.schema import CONTROL, LINEAR
from recloss.files import ReclossError

LEVEL = 0.95


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


def compare(one: np.ndarray, other: np.ndarray) -> Comparison:
    """Return mean(one) / mean(other) - 1 with its interval and p: of other users and other seeds.

    one, other: (seeds, users) of the same users and seeds in the same order; where one has a single
    seed, as EASE, it stands beside each seed of the other. Interval and p are those of a t-test of
    the ratio by the delta method; of one user there are neither. Over a mean of 0 the ratio is
    unknown, NaN, and p that of the difference; if both are 0 there is no difference.
    """
    if 1 in (len(one), len(other)):
        one, other = np.broadcast_arrays(one, other)
    if one.shape != other.shape:
        raise ReclossError(f"runs of {one.shape} and {other.shape} seeds and users are not paired")
    n_seeds, users = one.shape
    base = float(other.mean())
    if not base:
        effect = math.nan if one.mean() else 0.0
        p = _p_value(float(one.mean()), *_error(one - other))
        return Comparison(effect, effect, effect, p, n_seeds, users)
    effect = relative(float(one.mean()), base)
    error, freedom = _error((one - (1 + effect) * other) / base)
    half = error * float(stdtrit(freedom, (1 + LEVEL) / 2))
    p = _p_value(effect, error, freedom)
    return Comparison(effect, effect - half, effect + half, p, n_seeds, users)


def _p_value(mean: float, error: float, freedom: float) -> float:
    """Return the two-sided p of Student's t; 1 where the error is not known."""
    if math.isnan(error):
        return 1.0
    if not error:
        return 0.0 if mean else 1.0
    return float(2 * stdtr(freedom, -abs(mean) / error))


def _error(values: np.ndarray) -> tuple[float, float]:
    """Return the standard error of the mean of (seeds, users), and its degrees of freedom.

    Users and seeds are both samples, crossed, as cases and readers are where diagnoses are compared
    (Dorfman, Berbaum and Metz 1992): the mean squares of an analysis of variance tell what either
    adds. Of three seeds little is known of their spread, which the degrees of freedom take into
    account (Hillis 2007, https://doi.org/10.1002/sim.2532, with a term for users). A single seed
    adds nothing, as nothing is known of it; of one user all is NaN.
    """
    seeds, users = values.shape
    if users < 2:
        return math.nan, math.nan
    of_users, of_seeds = values.mean(axis=0), values.mean(axis=1, keepdims=True)
    if seeds == 1:
        return float(of_users.std(ddof=1)) / math.sqrt(users), users - 1
    rest = values - of_users - of_seeds + values.mean()
    by_rest = float(np.square(rest).sum()) / ((seeds - 1) * (users - 1))
    by_users = max(seeds * float(of_users.var(ddof=1)) - by_rest, 0.0)
    by_seeds, of = users * float(of_seeds.var(ddof=1)), seeds - 1
    if by_seeds < by_rest:  # by luck: they cannot differ less than their noise
        by_seeds, of = by_rest, (seeds - 1) * (users - 1)
    total = by_users + by_seeds
    lost = by_users**2 / (users - 1) + by_seeds**2 / of
    return math.sqrt(total / values.size), total**2 / lost if lost else users - 1


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


def summarise(
    runs: pd.DataFrame, results: Path, metrics: tuple[str, ...], alpha: float
) -> pd.DataFrame:
    """Return a row per (dataset, backbone, loss): seeds, mean and standard deviation over seeds.

    runs: rows of metrics.csv. For recall@20 and ndcg@20 the columns `<metric> low` and `high` hold
    the 95 % interval over test users (each user's value averaged over seeds first): it says how far
    the number would move with other users, the standard deviation how far with other seeds.
    `<metric> tied` is true of trained models not significantly different from the data set's best
    (`best_beside_others`; p of `alpha` or more).
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
        table[f"{metric} tied"] = _tied(table, runs, results, metric, alpha)
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


def _tied(
    table: pd.DataFrame, runs: pd.DataFrame, results: Path, metric: str, alpha: float
) -> list[bool]:
    tied = set()
    for dataset, here in runs[runs["backbone"] != CONTROL].groupby("dataset"):
        best, beside = best_beside_others(here, results, metric)
        near = (model for model, c in beside.items() if c is not None and c.p >= alpha)
        tied |= {(dataset, *model) for model in (best, *near)}
    keys = zip(table["dataset"], table["backbone"], table["loss"], strict=True)
    return [key in tied for key in keys]


def kind(loss: str, backbone: str) -> str:
    """Return `control`, `linear`, `debiased` or `plain`: how figures and tables group the rows."""
    if backbone in (CONTROL, LINEAR):
        return backbone
    return "debiased" if loss.startswith("debiased_") else "plain"
