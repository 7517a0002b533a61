"""What was published of an experiment, taken up again as that of another."""

import functools
import json
from pathlib import Path
from typing import Any

from recloss.experiment.finished import files_of, is_wanted
from recloss.files import copy, csv_rows

_rows = functools.cache(csv_rows)  # of a table, which every run asks for


def restore(
    published: Path,
    results: Path,
    runs: dict[str, dict[str, Any]],
) -> tuple[list[str], list[str]]:
    """Copy what an experiment asks for and what was published just so.

    published: folder with runs/PATH/metrics.json and its neighbours, of a study runs/tune/PATH, of
    certificates data/DATASET; results: results/<run>; runs: {PATH: {"settings", "data_hash",
    "code_hash"}}, of a study more. What is there already stays. Returns the paths copied and those
    that differ from the published one of their name, not copied.
    """
    copied, other = [], []
    for path, wanted in runs.items():
        files, target = files_of(path), results / path
        source = published / path if path.startswith("data/") else published / "runs" / path
        if (target / files[-1]).exists() or not (source / files[-1]).exists():
            continue
        if not is_wanted(source / files[-1], wanted):
            other.append(path)
            continue
        target.mkdir(parents=True, exist_ok=True)
        for name in files:  # the last, which says that all are there, last
            copy(source / name, target / name)
        copied.append(path)
    return copied, other


def published_rows(run: Path, published: list[Path], table: str) -> list[dict[str, str]]:
    """Return what a published table says of a run that was taken from there, without its vectors.

    run: its folder, which ends in stage/data set/backbone/model/variant/seed; published: folders as
    of `restore`; table: the name of a CSV of its data set that is made from vectors. Empty of a run
    that has vectors, is not a published one to the byte, or is not in the table.
    """
    if (run / "vectors.npz").exists():
        return []
    record = (run / "metrics.json").read_bytes()
    metrics = json.loads(record)
    which = {key: str(metrics[key]) for key in ("dataset", "backbone", "loss", "variant", "seed")}
    which["model"] = metrics["loss"]
    for folder in published:
        source = folder.joinpath("runs", *run.parts[-6:], "metrics.json")
        file = folder / "data" / metrics["dataset"] / table
        if source.exists() and source.read_bytes() == record and file.exists():
            return [r for r in _rows(file) if all(r.get(k, v) == v for k, v in which.items())]
    return []


def has_rows(run: Path, published: list[Path], table: str) -> bool:
    """Tell whether a run has vectors, or a published table what is made from them."""
    return (run / "vectors.npz").exists() or bool(published_rows(run, published, table))
