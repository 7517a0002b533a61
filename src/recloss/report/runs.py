"""What stands behind a number of the report: the runs, for its dialog and its table of all runs."""

from typing import Any

import pandas as pd

from recloss.analysis.names import family_of, header, model_name, name_of
from recloss.analysis.results import Results
from recloss.analysis.summaries import CUTOFFS
from recloss.report.tables import COST

FORMATS = dict.fromkeys(CUTOFFS, "{:.4f}") | {"best_epoch": "{:.0f}", "epochs": "{:.0f}"}
FORMATS |= {"train_seconds": "{:,.1f}", "eval_seconds": "{:,.1f}", "peak_memory_mb": "{:,.0f}"}
MADE_BY = ("commit", "device", "hardware", "platform", "threads", "code_hash", "data_hash")


def key_of(dataset: str, backbone: str, loss: str, variant: str = "base") -> str:
    """Return what names the runs of a model that differ in their seed alone."""
    return f"{dataset}/{backbone}/{loss}/{variant}"


def embedded(results: Results) -> dict[str, Any]:
    """Return all runs as the page's dialog reads them.

    `models`: by `key_of` the names, index of the settings and runs: path, seed, values in the
    order of `columns`, index of what made it, evaluations as [epoch, Recall@20]. `settings` and
    `made`: what several runs share, each once.
    """
    metrics, settings, made = results.metrics, _Once(), _Once()
    curves = _curves(results.history)
    columns = [name for name in FORMATS if name in metrics]
    versions = [name for name in metrics if name.startswith("versions.")]
    of_settings = [name for name in metrics if name.startswith("settings.")]
    models: dict[str, Any] = {}
    for row in metrics.to_dict("records"):
        stage = "" if row["path"].startswith("train/") else f"{row['path'].split('/')[0]}/"
        which = (row["dataset"], row["backbone"], row["loss"], row["variant"])
        entry = models.setdefault(
            stage + key_of(*which),
            {
                "dataset": name_of(row["dataset"]),
                "model": model_name(row["loss"], row["backbone"]),
                "family": family_of(row["loss"], row["backbone"]),
                "variant": row["variant"],
                "protocol": row["protocol"],
                "settings": settings.index(_known(row, of_settings, "settings.")),
                "runs": [],
            },
        )
        by = _known(row, MADE_BY, "") | _known(row, versions, "versions.")
        entry["runs"].append(
            {
                "path": row["path"],
                "seed": row["seed"],
                "values": [
                    "" if pd.isna(row[name]) else FORMATS[name].format(row[name])
                    for name in columns
                ],
                "made": made.index(by),
                "curve": curves.get((*which, row["seed"]), []),
            }
        )
    heads = [header(COST.get(name, name)) for name in columns]
    found = {"columns": heads, "models": models, "settings": settings.seen, "made": made.seen}
    return found | {"folder": folder_name(results), "run": results.config["run"]}


def folder_name(results: Results) -> str:
    """Return the results folder as commands name it, from the repository."""
    parts = results.folder.parts
    return "/".join(parts[parts.index("results") :] if "results" in parts else parts[-1:])


class _Once:
    """A list without repetition."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self._places: dict[tuple, int] = {}

    def index(self, value: dict[str, Any]) -> int:
        key = tuple(value.items())
        if key not in self._places:
            self._places[key] = len(self.seen)
            self.seen.append(value)
        return self._places[key]


def _known(row: dict[str, Any], names: Any, prefix: str) -> dict[str, Any]:
    found = {name: row.get(name) for name in names}
    return {k.removeprefix(prefix): _short(v) for k, v in found.items() if pd.notna(v)}


def _short(value: Any) -> Any:
    """Return a value as JSON has it, a number with six digits that count."""
    if isinstance(value, float):
        return None if pd.isna(value) else float(f"{value:.6g}")
    return value.item() if hasattr(value, "item") else value


def _curves(history: pd.DataFrame) -> dict[tuple, list[list[float]]]:
    known = history.dropna(subset="recall@20")
    keys = ["dataset", "backbone", "loss", "variant", "seed"]
    return {
        which: [[int(epoch), round(value, 5)] for epoch, value in rows.to_numpy().tolist()]
        for which, rows in known.groupby(keys)[["epoch", "recall@20"]]
    }
