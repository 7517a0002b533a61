"""An experiment on data of one's own: the configuration of a file, guessed from what it holds."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from recloss.data import sources
from recloss.data.files import files_of
from recloss.data.prepare import Prepared, of_entry
from recloss.data.story import story
from recloss.data.tables import Layout, is_table, layout_of, read_table
from recloss.engine.device import available_memory, pick_device
from recloss.experiment import config
from recloss.files import ReclossError
from recloss.models.sizes import ease_memory

HEAD = """\
# How {path} is read, as `recloss own` guessed it: change here what is wrong.
"""
BY_TIME = """\
  # It has timestamps: split {by: time} or {by: leave_one_out} judges by what came last.
"""
# From the highest rating of a scale to the lowest that says that an item is liked.
LIKED = {5: 4, 10: 8}


def name_for(path: Path) -> str:
    """Return a data set's name from its path, one that neither a rule nor published data have.

    A name of one small word, as `ratings`, might be a rule's: its folder's stands before it.
    """
    path = path.resolve()
    words = [re.sub(r"[^A-Za-z0-9_-]+", "-", word).strip("-_") for word in path.parts[-2:]]
    words[-1] = re.sub(r"[^A-Za-z0-9_-]+", "-", path.name.split(".")[0]).strip("-_") or "data"
    name = words[-1]
    if re.fullmatch("[a-z_]+", name):
        name = f"{words[0] or 'my'}-{name}" if len(words) > 1 else f"my-{name}"
    return f"my-{name}" if name in {row.dataset for row in sources.table()} else name


def liked_from(ratings: np.ndarray) -> float | None:
    """Return the rating from which an item is liked, if the values (n,) are of a known scale.

    Whole or half stars up to 5 or 10; 1 where there are but 1 and 0 or -1. None else, as of counts.
    """
    values = np.unique(ratings)
    if len(values) < 2:
        return None
    if values[-1] == 1 and set(values) <= {-1.0, 0.0, 1.0}:
        return 1
    if values[0] < 0 or not np.array_equal(values, np.round(2 * values) / 2):
        return None
    return LIKED.get(values[-1])


def guessed(path: Path, given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the entry of the configuration of a data set, and what was understood, in lines.

    path: of `files.files_of`; given: keys of the entry that are not guessed.
    """
    files = files_of(path)
    entry = {"name": given.get("name") or name_for(path), "path": str(path)}
    table = files.get("ratings") or files["train"]
    said = []
    if is_table(table):
        layout = layout_of(table, given.get("columns"), given.get("header"))
        entry["columns"] = {
            role: layout.names[at] if layout.header else at + 1
            for role, at in layout.columns.items()
        }
        if "rating" in layout.columns and "rating" not in given:
            values = read_table(table, layout, rating=True).rating
            threshold = liked_from(values)
            if threshold is not None:
                entry["rating"] = {"at_least": threshold}
            else:
                said.append(_no_scale(values, layout))
    if "ratings" in files:
        entry |= {"core": 1, "split": {"by": "share", "test_share": 0.2, "seed": 0}}
    return entry | {key: value for key, value in given.items() if key != "path"}, said


def _no_scale(values: np.ndarray, layout: Layout) -> str:
    column = layout.names[layout.columns["rating"]]
    return (
        f"every row counts as liked: {column} from {values.min():g} to {values.max():g} is no "
        "scale known here; set rating: {at_least: ...} if it is one"
    )


def prepared(entry: dict[str, Any], given: dict[str, Any]) -> tuple[Prepared, float]:
    """Return the data set of an entry as the experiment will have it, and the validation share.

    given: other configuration, whose `split` counts.
    """
    split = {"split": given["split"]} if "split" in given else {}
    full = config.load({"run": entry["name"], "datasets": [entry]} | split)
    validation = full["split"]["validation"]
    return of_entry(full["datasets"][0], validation), validation


def understood(entry: dict[str, Any], found: Prepared, validation: float) -> list[str]:
    """Say in lines what an entry's data set is; validation: share of each user's train pairs."""
    train, test = (found.sets[name] for name in ("train", "test"))
    lines = [f"{entry['name']}: {entry['path']}"]
    if told := story(found.source):
        lines.append(f"  {told}")
    lines.append(
        f"  {train.n_users:,} users, {train.n_items:,} items, {len(train) + len(test):,} pairs, "
        f"density {train.density + test.density:.2%}"
    )
    valid = f"{len(found.sets['valid']):,}" if "valid" in found.sets else f"{validation:.0%}"
    lines.append(
        f"  {len(train):,} pairs to train on, {valid} of them for validation; {len(test):,} to test"
    )
    return lines


def of_this_machine(found: Prepared, given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return what a configuration should say for this machine, and why, in lines.

    Without a GPU, that several runs train at once; and no EASE if its matrix of items would take
    half of the free memory. given: other configuration, which is not contradicted.
    """
    others, why = {}, []
    if "device" not in given and pick_device("auto").type == "cpu":
        others["device"] = "cpu"
    n_items = found.sets["train"].n_items
    need = ease_memory(n_items)
    if "linear" not in given and need > available_memory(torch.device("cpu")) / 2:
        others["linear"] = ["ials"]
        why = [f"without EASE, which takes {need / 1e9:.1f} GB of memory for {n_items:,} items"]
    return others, why


def text_of(path: Path, entry: dict[str, Any], others: dict[str, Any]) -> str:
    """Return the configuration's text: run, the data set, and what else `others` says."""
    body = yaml.safe_dump({"run": entry["name"]}) + "datasets:\n"
    lines = yaml.safe_dump(entry, sort_keys=False, default_flow_style=None, width=1000).splitlines()
    body += "".join(f"{'  ' if at else '- '}{line}\n" for at, line in enumerate(lines))
    if "split" in entry and "timestamp" in entry.get("columns", {}):
        body += BY_TIME
    return HEAD.format(path=path) + body + (yaml.safe_dump(others) if others else "")


def entry_in(file: Path, path: Path) -> dict[str, Any]:
    """Return the data set's entry of a configuration that is there already, of the same `path`."""
    try:
        (entry,) = yaml.safe_load(file.read_text("utf-8"))["datasets"]
        there = entry["path"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        raise ReclossError(f"{file}: not one of `recloss own`; delete it, or give --name") from None
    if there != str(path):
        raise ReclossError(f"{file}: is of {there}; delete it, or give --name (make: NAME=...)")
    return entry
