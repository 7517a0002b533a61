"""Which value of a setting is best at each level of a cause, and how sure that is."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from recloss.analysis.gains import RUN
from recloss.analysis.stats import LEVEL, relative
from recloss.analysis.summaries import part_of
from recloss.experiment.optimum import levels
from recloss.experiment.runs import settings_for


def least_difference(values: np.ndarray) -> float:
    """Return the least significant difference of means over seeds at the level 0.05.

    values: (seeds, points), the same seeds for every point. Seeds are the blocks of a randomised
    block design; the variance that neither seed nor point explains is pooled over all points
    (Fisher's least significant difference). NaN of a single seed or point.
    """
    n, points = values.shape
    freedom = (n - 1) * (points - 1)
    if not freedom:
        return float("nan")
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    variance = np.square(rest).sum() / freedom
    return float(stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(2 * variance / n))


def judged(metrics: pd.DataFrame, history: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the runs with Recall@20 on `test` and, of those under `heldout`, on `validation`."""
    found = {"test": metrics}
    heldout = metrics[metrics["protocol"] == "heldout"]
    if len(heldout):
        picked = heldout.drop(columns="recall@20").rename(columns={"best_epoch": "epoch"})
        validated = history[[*RUN, "epoch", "recall@20"]]
        found = {"validation": picked.merge(validated, on=[*RUN, "epoch"])} | found
    return found


def optimum_table(
    metrics: pd.DataFrame, history: pd.DataFrame, config: dict[str, Any]
) -> pd.DataFrame:
    """Return a row per level of a cause and judge: the best value of the setting.

    A test set drawn uniformly from what users like judges by the `truth`. The other columns are of
    `best_value`.
    """
    over, rows = config["optimum"]["over"], []
    simulated = {d["name"]: d["simulate"] for d in config["datasets"] if "simulate" in d}
    judges = judged(metrics, history)
    for level, by in itertools.product(levels(config), judges):
        grid, dataset = level.grid, level.dataset
        runs = part_of(judges[by], f"grid:{grid['name']}")
        runs = runs[runs["dataset"] == dataset]
        for key, value in level.fixed.items():
            runs = runs[runs[f"settings.{key}"] == value]
        usual = settings_for(config, dataset, grid["loss"][0], grid["backbones"][0])[over]
        uniform = simulated.get(dataset, {}).get("test") == "uniform"
        judge = "truth" if by == "test" and uniform else by
        row = {"cause": level.cause, "level": level.value, "judged by": judge}
        row |= {"dataset": dataset, "grid": grid["name"]}
        rows.append(row | best_value(runs, over, [*grid["over"]], usual))
    return pd.DataFrame(rows)


def best_value(runs: pd.DataFrame, over: str, keys: list[str], usual: Any) -> dict[str, Any]:
    """Return the best value of the setting `over`, each at the values of other `keys` best for it.

    runs: of a grid over `keys`, all at the same seeds. `low` and `high`: the lowest and the highest
    value not told apart from the best (`least_difference`); nothing of a single seed. `gain`: what
    Recall@20 gains over that of the value `usual`, if that is there.
    """
    others = [key for key in keys if key != over]
    points = runs.pivot_table("recall@20", "seed", [f"settings.{key}" for key in (over, *others)])
    best = points.mean().groupby(level=0).idxmax()  # the column of every value
    values = points[best.to_list()].set_axis(best.index, axis=1)
    means = values.mean()
    top = means.idxmax()
    near = means.index[means.max() - means <= least_difference(values.to_numpy())]
    at = best[top][1:] if others else ()
    return {
        "setting": over,
        "usual": usual,
        "seeds": len(values),
        "best": top,
        "low": near.min(),
        "high": near.max(),
        **{f"{key} at best": value for key, value in zip(others, at, strict=True)},
        "recall@20": means[top],
        "gain": relative(means[top], means[usual]) if usual in means.index else np.nan,
    }
