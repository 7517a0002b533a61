"""From trials on a validation set to tuned settings with their provenance."""

import json
import statistics
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from recloss.files import ReclossError

HEAD = """\
# Written by `snakemake tune`, to be laid over its configuration:
# --configfile FILE results/{run}/tuned.yaml
# best, median, worst: the metric on validation, over the trials of a model.
"""


def score(run: Path, metric: str) -> float:
    """Return a trial's best value of `metric` on validation, from its history.csv."""
    return float(pd.read_csv(run / "history.csv")[metric].max())


def best_settings(trials: list[tuple[float, dict[str, Any]]]) -> dict[str, Any]:
    """Return the settings of the best trial that differ between trials."""
    best = max(trials, key=lambda trial: trial[0])[1]
    return {key: best[key] for key in best if len({str(s[key]) for _, s in trials}) > 1}


def tuned(runs: list[Path]) -> dict[str, Any]:
    """Return the configuration's `tuned` from the folders of trials.

    Every trial must be of protocol heldout. The metric is the one by which the trials picked their
    epoch, Recall@20 for a linear model.
    """
    groups: dict[tuple[str, str], list[tuple[float, dict[str, Any]]]] = {}
    seconds: dict[tuple[str, str], float] = {}
    made_with: dict[str, set[str]] = {"commit": set(), "hardware": set(), "metric": set()}
    for run in runs:
        record = json.loads((run / "metrics.json").read_text("utf-8"))
        if record["protocol"] != "heldout":
            raise ReclossError(f"{run}: a trial of protocol {record['protocol']}; tune on heldout")
        metric = record["settings"].get("monitor", "recall@20")
        key = record["dataset"], record["loss"]
        groups.setdefault(key, []).append((score(run, metric), record["settings"]))
        cost = record["train_seconds"] + record["eval_seconds"]
        seconds[key] = seconds.get(key, 0.0) + cost
        for name, value in (("metric", metric), *((n, record[n]) for n in ("commit", "hardware"))):
            made_with[name].add(value)
    datasets: dict[str, Any] = {}
    for (dataset, model), trials in groups.items():
        values = [value for value, _ in trials]
        datasets.setdefault(dataset, {})[model] = {
            "settings": best_settings(trials),
            "trials": len(trials),
            "best": round(max(values), 5),
            "median": round(statistics.median(values), 5),
            "worst": round(min(values), 5),
            "seconds": round(seconds[dataset, model], 1),
        }
    provenance = {name: ", ".join(sorted(values)) for name, values in made_with.items()}
    return {"provenance": {"protocol": "heldout"} | provenance, "datasets": datasets}


def tuned_yaml(runs: list[Path], name: str) -> str:
    """Return results/<name>/tuned.yaml from the folders of the trials of the experiment `name`."""
    if not runs:
        raise ReclossError("the configuration has no tune.over; say which settings to try")
    found = tuned(runs)
    found["provenance"] = {"experiment": name} | found["provenance"]
    return HEAD.format(run=name) + yaml.safe_dump({"tuned": found}, sort_keys=False, width=100)
