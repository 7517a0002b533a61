"""From the studies of `snakemake tune` to tuned settings with their provenance."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from recloss.files import ReclossError, atomic, write_json

HEAD = """\
# Written by `snakemake tune`, to be laid over its configuration:
# --configfile FILE results/{run}/tuned.yaml
# untuned, best, median, worst: the metric on validation; of a model, the first trial and over all.
"""
# What a model's entry in tuned.yaml takes from its study.json.
KEPT = ("trials", "completed", "budget", "steps")
KEPT += ("untuned", "best", "median", "worst", "seconds")


def summary(
    identity: dict[str, Any], trials: list[Any], metric: str, steps: float
) -> dict[str, Any]:
    """Return what study.json says: best settings, how good, out of what.

    identity: of `record.identity`, its settings untuned; trials: of `study.Study.run`; metric: by
    which they were judged; steps: the budget. Raises `ReclossError` where no trial came to an
    evaluation without diverging: settings that diverge later are not chosen.
    """
    judged = [(trial.best(metric), trial) for trial in trials if trial.curve]
    sound = [pair for pair in judged if pair[1].outcome != "diverged"]
    model = identity["loss"]
    if not sound:
        raise ReclossError(f"{model}: no trial came to an evaluation; change tune.over.{model}")
    value, best = max(sound, key=lambda pair: pair[0])
    values = [value for value, _ in judged]
    found = {
        "chosen": best.chosen,
        "metric": metric,
        "trials": len(trials),
        "completed": sum(trial.outcome == "completed" for trial in trials),
        "best": round(value, 5),
        "median": round(statistics.median(values), 5),
        "worst": round(min(values), 5),
        "seconds": round(sum(trial.seconds for trial in trials), 1),
    }
    if steps < math.inf:
        found |= {"steps": sum(trial.steps for trial in trials), "budget": steps}
    if trials[0].curve:
        found["untuned"] = round(trials[0].best(metric), 5)
    return identity | found


def rows(identity: dict[str, Any], trials: list[Any]) -> list[dict[str, Any]]:
    """Return the rows of trials.csv: one an evaluation; of a trial without one, no metrics."""
    head = {key: identity[key] for key in ("dataset", "backbone", "loss")}
    return [
        head
        | {"trial": trial.number, "outcome": trial.outcome}
        | {f"settings.{key}": value for key, value in trial.chosen.items()}
        | row
        for trial in trials
        for row in trial.curve or [{}]
    ]


def write(out: Path, found: dict[str, Any], trials: list[Any]) -> None:
    """Write trials.csv and, last, study.json, each whole or not at all."""
    with atomic(out / "trials.csv") as temporary:
        pd.DataFrame(rows(found, trials)).to_csv(temporary, index=False)
    write_json(out / "study.json", found)


def tuned(studies: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the configuration's `tuned` from what study.json says of each study."""
    made_with: dict[str, set[str]] = {"metric": set(), "commit": set(), "hardware": set()}
    datasets: dict[str, Any] = {}
    for found in studies:
        entry = {"settings": found["chosen"]} | {key: found[key] for key in KEPT if key in found}
        datasets.setdefault(found["dataset"], {})[found["loss"]] = entry
        for name, values in made_with.items():
            values.add(found[name])
    provenance = {name: ", ".join(sorted(values)) for name, values in made_with.items()}
    return {"provenance": {"protocol": "heldout"} | provenance, "datasets": datasets}


def tuned_yaml(studies: list[Path], name: str) -> str:
    """Return results/<name>/tuned.yaml from the study.json of the studies of the run `name`."""
    if not studies:
        raise ReclossError("the configuration has no tune.over; say which settings to try")
    found = tuned([json.loads(path.read_text("utf-8")) for path in studies])
    found["provenance"] = {"experiment": name} | found["provenance"]
    return HEAD.format(run=name) + yaml.safe_dump({"tuned": found}, sort_keys=False, width=100)


def trials_csv(studies: list[Path]) -> pd.DataFrame:
    """Return the trials.csv of all studies as one table."""
    return pd.concat([pd.read_csv(path.with_name("trials.csv")) for path in studies])
