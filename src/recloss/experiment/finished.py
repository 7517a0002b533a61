"""What of an experiment has finished: runs that are there, and what can be shown of them."""

import functools
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from recloss.experiment.code import code_hash
from recloss.experiment.runs import (
    bounded_runs,
    certifies,
    control_runs,
    every_run,
    first_runs,
    grid_runs,
    settings_for,
    studies,
)
from recloss.experiment.schema import CONTROL, LINEAR

# What is published of a run: its vectors are too large to commit. The last file is its record, and
# says that the others are there.
FILES = ("history.csv", "per_user.npz", "metrics.json")
STUDY = ("trials.csv", "study.json")  # of a tuning
CERTIFICATES = ("certificates.csv", "certificates.json")  # of the linear models on a data set


def files_of(path: str) -> tuple[str, ...]:
    """Return the files of a run, of a study (tune/...), or of certificates (data/DATASET)."""
    return {"tune": STUDY, "data": CERTIFICATES}.get(path.split("/")[0], FILES)


@functools.cache
def code_of(backbone: str, model: str, study: bool = False) -> str:
    """Return the hash of the code of a loss on a backbone, of a linear model, or of a control.

    study: that of its study, not of a run.
    """
    trained_by = backbone if backbone in (LINEAR, CONTROL) else "train"
    return code_hash(f"recloss.cli.{'tune' if study else trained_by}", (backbone, model))


def wanted(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what each run and study of a configuration is, and the certificates of a data set.

    By its path: data set, protocol, settings, code.
    """
    found = {
        study.path: {
            "dataset": study.dataset,
            "protocol": "heldout",
            "settings": study.settings,
            "code_hash": code_of(study.backbone, study.model, study=True),
            "over": study.over,
            "asked": study.asked,
        }
        for study in studies(config)
    }
    for entry in config["datasets"] if certifies(config) else []:
        dataset = entry["name"]
        models = {model: settings_for(config, dataset, model) for model in config["linear"]}
        found[f"data/{dataset}"] = {
            "dataset": dataset,
            "protocol": config["protocol"],
            "settings": models | config["debiasing"],
            "code_hash": code_hash("recloss.cli.certify"),
        }
    return found | {
        run.path: {
            "dataset": run.dataset,
            "protocol": "heldout" if run.stage == "heldout" else config["protocol"],
            "settings": run.settings,
            "code_hash": code_of(run.backbone, run.loss),
        }
        for run in [*control_runs(config), *every_run(config)]
    }


def with_data(runs: Mapping[str, dict[str, Any]], results: Path) -> dict[str, dict[str, Any]]:
    """Return wanted runs with the hash of the data that they would be trained on, `data_hash`.

    runs: {PATH: {"dataset", "protocol", ...}}, whose two keys go; results: results/<run>, with
    data/DATASET/PROTOCOL/split.json. Runs on data that are not there are left out.
    """
    hashes: dict[Path, str] = {}
    found = {}
    for path, run in runs.items():
        manifest = results / "data" / run["dataset"] / run["protocol"] / "split.json"
        if manifest not in hashes and manifest.exists():
            hashes[manifest] = json.loads(manifest.read_text("utf-8"))["data_hash"]
        if manifest in hashes:
            found[path] = {key: run[key] for key in run if key not in ("dataset", "protocol")}
            found[path]["data_hash"] = hashes[manifest]
    return found


def is_wanted(record: Path, wanted: dict[str, Any]) -> bool:
    """Tell whether a run, study or certificates are those wanted, from their record."""
    found = json.loads(record.read_text("utf-8"))
    return all(found.get(key) == json.loads(json.dumps(value)) for key, value in wanted.items())


def finished(runs: Mapping[str, dict[str, Any]], results: Path) -> set[str]:
    """Return the paths of what is there with the settings, data and code wanted.

    runs, results: as of `with_data`.
    """
    found = set()
    for path, run in with_data(runs, results).items():
        files = [results / path / name for name in files_of(path)]
        if all(file.exists() for file in files) and is_wanted(files[-1], run):
            found.add(path)
    return found


def so_far(
    config: dict[str, Any],
    member: Mapping[str, str],
    certified: Collection[str],
    bounded: Collection[Any],
) -> dict[str, Any]:
    """Return the part of a configuration that can be shown: of a whole experiment, all of it.

    member: `runs.experiments` of what has finished; certified: data sets with certificates;
    bounded: what has bounds.
    """
    names = {name for cell in member.values() for name in cell.split()}
    datasets = {path.split("/")[1] for path in member}
    firsts = first_runs(config)
    late = {run.loss for run in firsts} - {run.loss for run in firsts if run.path in member}
    grids, all_points = [], True
    for grid in config["grids"]:
        points = list(grid_runs(config, grid))
        kept = [p for p in points if f"grid:{grid['name']}" in member.get(p.path, "").split()]
        all_points = all_points and len(kept) == len(points)
        if kept:
            losses, seeds = {point.loss for point in kept}, {point.seed for point in kept}
            places = {point.dataset for point in kept}
            grids.append(_cut(grid, datasets=places, loss=losses, seeds=seeds))
    inflation = _cut(config["inflation"], datasets=datasets)
    found = config | {
        "datasets": [entry for entry in config["datasets"] if entry["name"] in datasets],
        "losses": [loss for loss in config["losses"] if loss not in late],
        "linear": [model for model in config["linear"] if model not in late],
        "grids": grids,
        "inflation": inflation if "inflation" in names else inflation | {"losses": []},
    }
    for key in ("ablations", "readings"):
        entries = config[key] if key in names else []
        found[key] = [_cut(entry, datasets=datasets) for entry in entries]
    if not certified:
        found["debiasing"] = config["debiasing"] | {"c": [], "tau": []}
    if not bounded and bounded_runs(config):
        found["bounds"] = False
    if not all_points:
        found.pop("optimum", None)
    return found


def _cut(entry: dict[str, Any], **kept: Collection[Any]) -> dict[str, Any]:
    """Return an entry with only what is kept in some of its lists."""
    cut = {key: [value for value in entry[key] if value in kept[key]] for key in kept}
    return entry | cut
