"""Means, spreads and intervals of repeated runs."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95


def user_values(paths: list[Path], metric: str) -> np.ndarray:
    """Return each test user's value of `metric`, (n,) float64, averaged over the runs."""
    values = []
    for path in paths:
        with np.load(path, allow_pickle=False) as arrays:
            values.append(arrays[metric].astype(np.float64))
    return np.mean(values, axis=0)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % Student-t interval of the mean of independent values (n,)."""
    if len(values) < 2:
        return (float("nan"), float("nan"))
    half = stats.sem(values) * stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)
    return float(values.mean() - half), float(values.mean() + half)


def summarise(runs: pd.DataFrame, results: Path, metrics: tuple[str, ...]) -> pd.DataFrame:
    """Return a row per (dataset, loss): seeds, mean and standard deviation over seeds.

    runs: rows of metrics.csv. For recall@20 and ndcg@20 the columns `<metric> low` and `high` hold
    the 95 % interval over test users (each user's value averaged over seeds first): it says how far
    the number would move with other users, the standard deviation how far with other seeds.
    """
    rows = []
    for (dataset, loss), group in runs.groupby(["dataset", "loss"], sort=False):
        row = {
            "dataset": dataset,
            "loss": loss,
            "kind": kind(loss, group["backbone"].iloc[0]),
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
    return pd.DataFrame(rows)


def kind(loss: str, backbone: str) -> str:
    """Return `control`, `linear`, `debiased` or `plain`: how figures and tables group the rows."""
    if backbone in ("control", "linear"):
        return backbone
    return "debiased" if loss.startswith("debiased_") else "plain"
