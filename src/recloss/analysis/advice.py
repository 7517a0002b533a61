"""Which model to use: the best of each data set, by how much, and how sure that is.

The best has the highest mean of `claims.metric` on test; it is compared with every other trained
model at common seeds (`stats.best_beside_others`). Those from which it does not differ
significantly may be as good. It is surely the best where there are none, and seeds and users enough
beside the next best by the thresholds of `claims`. A control never wins; that popularity does as
well is said. InfoNCE+ where its settings make it MINE+ is not a second model.
"""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from recloss.analysis import verdicts
from recloss.analysis.names import header, model_name, name_of
from recloss.analysis.stats import Comparison, Model, best_beside_others, compare_runs
from recloss.analysis.summaries import part_of
from recloss.experiment.runs import settings_for
from recloss.experiment.schema import (
    LINEAR,
    backbone_schema,
    label_of,
    linear_schema,
    loss_schema,
)

SURE, UNSURE, ALONE, USELESS = "sure", "not sure", "the only model", "no better than popularity"
COLUMNS = (
    *("dataset", "backbone", "loss", "settings", "metric", "value", "next", "next_value"),
    *("effect", "ci_low", "ci_high", "p_value", "n_seeds", "n_users", "as_good", "popularity"),
    *("verdict", "sentence"),
)


def advise(metrics: pd.DataFrame, results: Path, config: dict[str, Any]) -> pd.DataFrame:
    """Return advice.csv: a row per data set with a trained model.

    metrics: metrics.csv; results: the folder that its paths are relative to; config: completed.
    `effect` is the relative difference from the next best, `next`, with its interval and corrected
    p; `as_good` names the models that may be as good; `popularity` is the metric of that control.
    """
    trained, controls = part_of(metrics, "main"), part_of(metrics, "control")
    rows = []
    for dataset, runs in trained.groupby("dataset", sort=False):
        runs = runs[~_is_mine_plus(runs, config)]
        popular = controls[(controls["dataset"] == dataset) & (controls["loss"] == "popularity")]
        rows.append({"dataset": dataset} | _row(runs, popular, results, config))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _is_mine_plus(runs: pd.DataFrame, config: dict[str, Any]) -> pd.Series:
    """Say which runs of a data set are InfoNCE+ at eps 0 and else as MINE+, which has runs too.

    Eq. 6 at eps 0 is Eq. 10 up to a constant: the same model.
    """
    dataset, both = runs["dataset"].iloc[0], []
    for backbone, here in runs.groupby("backbone"):
        if {"infonce_plus", "mine_plus"} <= set(here["loss"]):
            plus = settings_for(config, dataset, "infonce_plus", backbone)
            mine_plus = settings_for(config, dataset, "mine_plus", backbone)
            both += [backbone] if plus == mine_plus | {"eps": 0} else []
    return (runs["loss"] == "infonce_plus") & runs["backbone"].isin(both)


def _row(
    runs: pd.DataFrame, popular: pd.DataFrame, results: Path, config: dict[str, Any]
) -> dict[str, Any]:
    metric, thresholds = config["claims"]["metric"], config["claims"]
    (backbone, loss), beside = best_beside_others(runs, results, metric)
    means = runs.groupby(["backbone", "loss"])[metric].mean()
    mine = runs[(runs["backbone"] == backbone) & (runs["loss"] == loss)]
    near = [m for m, c in beside.items() if c is None or c.p >= thresholds["alpha"]]
    against = _popularity_is(compare_runs(mine, popular, results, metric), thresholds["alpha"])
    settings = settings_of(config, mine["dataset"].iloc[0], loss, backbone)
    row = {"backbone": backbone, "loss": loss, "settings": settings, "metric": metric}
    row |= {"value": means[backbone, loss], "n_seeds": len(mine)}
    row |= {"n_users": mine["n_test_users"].iloc[0], "as_good": _names(near)}
    row["popularity"] = popular[metric].mean() if len(popular) else None
    lacking = ""
    if beside:
        (other, c), *_ = beside.items()
        row |= {"next": model_name(*other[::-1]), "next_value": means[other]}
        if c is not None:
            row |= {"effect": c.effect, "ci_low": c.low, "ci_high": c.high, "p_value": c.p}
            row["n_seeds"], lacking = c.n_seeds, verdicts.too_few(c, thresholds)
    sure = SURE if not near and not lacking else UNSURE
    row["verdict"] = USELESS if against else sure if beside else ALONE
    return row | {"sentence": _sentence(row, beside, lacking, against)}


def settings_of(config: dict[str, Any], dataset: str, loss: str, backbone: str) -> str:
    """Return the settings of a model that its user must know, as text.

    Those that the loss, backbone or linear model has of its own, and those that were tuned. What
    all losses share stands in the configuration.
    """
    found = settings_for(config, dataset, loss, backbone)
    if backbone == LINEAR:
        own = linear_schema()[loss]["properties"]
    else:
        own = loss_schema(loss) | backbone_schema(backbone)
    tuned = config["tuned"]["datasets"].get(dataset, {}).get(loss, {}).get("settings", {})
    tuned = tuned if backbone in (LINEAR, config["backbones"][0]) else {}
    told = (key for key in found if key in tuned or key in own)
    return ", ".join(f"{header(key)} {value_text(found[key])}" for key in told)


def value_text(value: Any) -> str:
    """Return a setting as a sentence says it."""
    return f"{value:g}" if isinstance(value, float) else str(label_of(value))


def _names(models: list[Model]) -> str:
    *most, last = [model_name(loss, backbone) for backbone, loss in models] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def _popularity_is(beside_it: Comparison | None, alpha: float) -> str:
    """Say what ranking by popularity does beside the best model; nothing if it is worse."""
    if beside_it is None or (beside_it.effect > 0 and beside_it.p < alpha):
        return ""
    return "does better" if beside_it.p < alpha else "may be as good"


def _sentence(
    row: dict[str, Any], beside: dict[Model, Comparison | None], lacking: str, popularity_is: str
) -> str:
    text = f"best is {model_name(row['loss'], row['backbone'])}"
    text += f" with {row['settings']}" if row["settings"] else ""
    text += f": {name_of(row['metric'])} {row['value']:.4f}"
    counts = f"{verdicts.seeds(row['n_seeds'])}, {row['n_users']:,} users"
    c = next(iter(beside.values()), None)
    if c is not None and not math.isnan(c.effect):
        exact = verdicts.interval(c, c.p)
        text += f", {c.effect:+.1%} over {row['next']} ({exact}, {counts})"
    elif beside:
        text += f" ({counts}), ahead of {row['next']} ({row['next_value']:.4f})"
        text += " with no seed in common" if c is None else ""
    else:
        text += f" ({counts}), with no other model to compare"
    if popularity_is:
        return f"{text}; but ranking by popularity {popularity_is} ({row['popularity']:.4f})."
    if row["popularity"]:
        text += f", {row['value'] / row['popularity'] - 1:+.0%} over ranking by popularity"
    if row["verdict"] == SURE:
        text += f"; sure, of {len(beside) + 1} models"
    elif row["verdict"] == UNSURE:
        near = f"{row['as_good']} may be as good" if row["as_good"] else ""
        text += f"; not sure: {'; '.join(filter(None, (near, lacking)))}"
    return text + "."
