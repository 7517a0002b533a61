"""Published numbers beside ours: the paper's own, and those of others with their settings."""

import math
from typing import Any

import pandas as pd

from recloss.analysis.stats import relative
from recloss.analysis.summaries import part_of
from recloss.experiment import published
from recloss.experiment.runs import runs_of_reading, whole
from recloss.experiment.schema import BACKBONE, CONTROL, LINEAR, label_of, loss_names, model_schema

PROTOCOL = "published"
METRICS = ("recall@20", "ndcg@20")
# Of the settings that all losses share, those that a reader asks for first.
SHOWN = ("score", "batch_size", "negatives", "learning_rate", "max_epochs", "l2")


def compare(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the published rows of the data sets in metrics.csv beside our means over seeds.

    Columns `protocol`, `settings` as text, and `ours recall@20`, `ours ndcg@20`, `seeds`, `path` of
    a first run: empty where no run has the settings, or another protocol. Runs that differ in what
    a row does not say are not mixed: those stand for it that change least of the main table's.
    What the paper prints without settings is in `paper_table`.
    """
    rows = published.table()
    rows = rows[rows["settings"].notna() | ~rows["source"].str.startswith(published.PAPER)]
    rows = rows[rows["dataset"].isin(metrics["dataset"])].reset_index(drop=True)
    comparable = metrics[metrics["protocol"] == PROTOCOL]
    found = []
    for row in rows.itertuples():
        runs = comparable[
            (comparable["dataset"] == row.dataset)
            & (comparable["loss"] == row.model)
            & comparable["backbone"].isin((row.backbone, LINEAR, CONTROL))
        ]
        for key, value in (row.settings or {}).items():
            column = f"settings.{key}"
            runs = runs[runs[column] == label_of(value)] if column in runs else runs[:0]
        if row.settings is None or runs.empty:
            found.append({"seeds": 0})
            continue
        least = min(runs["variant"], key=lambda name: (name != "base", len(name)))
        runs = runs[runs["variant"] == least]
        ours = {f"ours {m}": runs[m].mean() for m in METRICS}
        found.append(ours | {"seeds": len(runs), "path": runs["path"].iloc[0]})
    columns = [*(f"ours {m}" for m in METRICS), "seeds", "path"]
    ours = pd.DataFrame(found, columns=columns)
    return rows.assign(protocol=PROTOCOL, settings=rows["settings"].map(_text)).join(ours)


def _text(settings: dict[str, Any] | None) -> str:
    return ", ".join(f"{key} {label_of(value)}" for key, value in (settings or {}).items())


def paper_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return Table 2 of arXiv 2312.08520 with its rows of MF-BPR and iALS, cell by cell.

    Of every data set in metrics.csv that the paper has: the printed value, ours at the settings of
    the main table (mean and standard deviation over seeds), their relative difference, the number
    of seeds and our settings; empty where no run is.
    """
    runs, rows = part_of(metrics, "main"), []
    runs = runs[runs["protocol"] == PROTOCOL]
    runs = runs[runs["backbone"].isin((BACKBONE, LINEAR))]
    for row in published.paper().dropna(subset="model").itertuples(index=False):
        if row.dataset not in set(metrics["dataset"]):
            continue
        mine = runs[(runs["dataset"] == row.dataset) & (runs["loss"] == row.model)]
        cells: dict[str, Any] = {"dataset": row.dataset, "model": row.model, "source": row.source}
        for metric, value in zip(METRICS, (row[5], row[6]), strict=True):
            ours = mine[metric].mean()
            cells |= {metric: value, f"ours {metric}": ours, f"{metric} sd": mine[metric].std()}
            cells[f"{metric} difference"] = ours / value - 1
        rows.append(cells | {"seeds": len(mine), "settings": _settings_of(mine, row.model)})
    return pd.DataFrame(rows)


def readings_table(metrics: pd.DataFrame, config: dict[str, Any]) -> pd.DataFrame:
    """Return each reading of the configuration beside the printed numbers, the nearest first.

    config: completed. Both metrics, NDCG@20 over Recall@20 (a
    fingerprint of how a model was trained), and `distance`, the root mean square of the relative
    differences of the two metrics.
    """
    runs, rows = metrics.set_index("path"), []
    for entry in config["readings"]:
        for dataset in entry["datasets"]:
            theirs = [published.printed(dataset, entry["loss"], metric) for metric in METRICS]
            for name, settings in entry["read_as"].items():
                found = whole(runs_of_reading(config, entry, name), runs.index, ("path",))
                mine = runs.loc[[run.path for run in found if run.dataset == dataset]]
                if mine.empty:
                    continue
                ours = [mine[metric].mean() for metric in METRICS]
                row = {"dataset": dataset, "loss": entry["loss"], "reading": name}
                row |= dict(zip(METRICS, ours, strict=True)) | {
                    "ratio": relative(ours[1], ours[0]) + 1
                }
                row |= {f"printed {m}": v for m, v in zip(METRICS, theirs, strict=True)}
                row |= {"printed ratio": math.nan, "distance": math.nan}
                if None not in theirs:
                    row["printed ratio"] = theirs[1] / theirs[0]
                    apart = [mean / value - 1 for mean, value in zip(ours, theirs, strict=True)]
                    row["distance"] = (sum(x * x for x in apart) / 2) ** 0.5
                rows.append(row | {"seeds": len(mine), "settings": _text(settings)})
    table = pd.DataFrame(rows)
    return table.sort_values(["loss", "dataset", "distance"], kind="stable", ignore_index=True)


def _settings_of(runs: pd.DataFrame, model: str) -> str:
    """Return a model's own settings and the first of the common ones, as text."""
    if runs.empty:
        return ""
    first, names = runs.iloc[0], list(model_schema(model))
    if model in loss_names():
        common = set(model_schema("bpr")) - {"temperature"}
        names = [*(name for name in names if name not in common), *SHOWN]
    values = {name: first.get(f"settings.{name}") for name in names}
    return _text(
        {k: f"{v:g}" if isinstance(v, float) else v for k, v in values.items() if pd.notna(v)}
    )
