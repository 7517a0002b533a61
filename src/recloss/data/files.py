"""The files of a data set of one's own: one of ratings, or those of a given division."""

import os
from pathlib import Path
from typing import Any

from recloss.data.recognise import suffix_of
from recloss.files import ReclossError

SUFFIXES = (".txt", ".csv", ".tsv", ".tab", ".inter", ".data", ".dat", ".parquet", ".pq")
SETS = ("train", "valid", "test", "shown")


def own_files(entry: dict[str, Any]) -> dict[str, Path]:
    """Return `files_of` the `path` of a data set's completed entry, whose other keys must fit."""
    found = files_of(entry["path"])
    for key, given in (("split", "split" in entry), ("core", entry["core"] > 1)):
        if given and "ratings" not in found:
            raise ReclossError(
                f"{entry['path']}: the folder has a test set of its own; leave out {key}"
            )
    return found


def expanded(path: str | Path) -> Path:
    """Return a path with ~ and $VARIABLES in it replaced, as a shell does."""
    return Path(os.path.expanduser(os.path.expandvars(path)))


def files_of(path: str | Path) -> dict[str, Path]:
    """Return the files of a data set: `ratings`, a single file, or in a folder those of its sets.

    A folder holds train.* and test.*, or shown.* (ratings of items shown at random) in place of
    test.*, and perhaps valid.*; * is one of SUFFIXES, perhaps with .gz. Raises `ReclossError` with
    what is missing or there twice.
    """
    path = expanded(path)
    try:
        if path.is_file():
            return {"ratings": path}
    except OSError as error:  # as of a name that is too long
        raise ReclossError(f"{path}: {error.strerror}; give another path") from None
    kinds = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, also with .gz"
    if not path.is_dir():
        raise ReclossError(f"{path}: no such file or folder; give ratings, or a folder of {kinds}")
    found: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        name = file.name.split(".")[0]
        if name in SETS and suffix_of(file) in SUFFIXES:
            if name in found:
                raise ReclossError(f"{path}: has {found[name].name} and {file.name}; keep one")
            found[name] = file
    if "train" not in found or not {"test", "shown"} & set(found):
        missing = "train" if "train" not in found else "test"
        raise ReclossError(f"{path}: no {missing}.* in this folder; its suffix is {kinds}")
    if {"test", "shown"} <= set(found):
        fault = f"has {found['test'].name} and {found['shown'].name}"
        raise ReclossError(f"{path}: {fault}; of what is shown at random the liked are the test")
    return found
