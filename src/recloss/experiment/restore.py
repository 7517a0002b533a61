"""The runs and studies of a published experiment, taken up again as those of another."""

import json
import shutil
from pathlib import Path
from typing import Any

# What is published of a run: its vectors are too large to commit.
FILES = ("history.csv", "per_user.npz", "metrics.json")  # the last says that the others are there
STUDY = ("trials.csv", "study.json")  # of a tuning


def restore(
    published: Path,
    results: Path,
    runs: dict[str, dict[str, Any]],
    judged: dict[str, list[str]],
) -> tuple[list[str], list[str]]:
    """Copy the runs and studies that an experiment asks for and that were published just so.

    published: folder with runs/PATH/metrics.json and its neighbours, of a study runs/tune/PATH;
    results: results/<run>; runs: {PATH: {"settings", "data_hash", "code_hash"}}, of a study more;
    judged: {file of the results: paths of the runs whose vectors it is made from}, copied if all of
    them are. What is there already stays. Returns the paths copied and those that differ from the
    published run of their name, not copied.
    """
    copied, other = [], []
    for path, wanted in runs.items():
        source, target = published / "runs" / path, results / path
        files = STUDY if path.startswith("tune/") else FILES
        if (target / files[-1]).exists() or not (source / files[-1]).exists():
            continue
        record = json.loads((source / files[-1]).read_text("utf-8"))
        if any(record[key] != json.loads(json.dumps(value)) for key, value in wanted.items()):
            other.append(path)
            continue
        target.mkdir(parents=True, exist_ok=True)
        for name in files:
            shutil.copyfile(source / name, target / name)
        copied.append(path)
    for file, paths in judged.items():
        if set(paths) <= set(copied) and (published / file).exists():
            (results / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(published / file, results / file)
    return copied, other
