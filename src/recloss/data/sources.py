"""The published data sets: sources.csv has their checksums, counts and homes."""

import csv
import hashlib
import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from recloss.files import ReclossError

VALID = "valid.txt"  # a published validation set: pairs of train.txt, brought only when asked for
ROLES = {"user.txt": "train", "random.txt": "shown"}  # of Coat's files


class Source(NamedTuple):
    """A row of sources.csv: one file of a published data set."""

    dataset: str
    version: str  # whose split it is
    file: str
    holds: str  # `lists` (`user item item ...`) or `ratings` (`user,item,rating`, without header)
    md5: str  # of the file with LF line ends, as `sha256`
    sha256: str  # empty where nobody has recorded it
    users: int  # of the whole data set, as `items`
    items: int
    interactions: int  # of this file: pairs, or rows of ratings
    primary: str
    archive: str  # empty where no second home is known


def table() -> list[Source]:
    """Return the published files: of each data set first what is trained on, then the test."""
    text = importlib.resources.files("recloss.data").joinpath("sources.csv").read_text("utf-8")
    counts = ("users", "items", "interactions")
    rows = csv.DictReader(text.splitlines())
    return [Source(**row | {name: int(row[name]) for name in counts}) for row in rows]


def rows_of(
    name: str, rows: Sequence[Source] | None = None, only: Sequence[str] | None = None
) -> list[Source]:
    """Return the rows (of `table()` by default) of a data set: what is trained on, then the test.

    only: names of the files wanted; without it all but a published validation set.
    """
    rows = table() if rows is None else rows
    found = [row for row in rows if row.dataset == name]
    if not found:
        raise ReclossError(
            f"unknown data set '{name}': known are {', '.join(sorted({r.dataset for r in rows}))}; "
            "for your own data give `path:` (docs/own-data.md)"
        )
    names = [row.file for row in found]
    for file in only or ():
        if file not in names:
            raise ReclossError(f"{name} has no published {file}; it has {', '.join(names)}")
    return [row for row in found if (row.file in only if only else row.file != VALID)]


def roles(name: str) -> dict[str, str]:
    """Return the files of a published data set by what they are: train, valid, test, shown."""
    files = [row.file for row in table() if row.dataset == name]
    return {ROLES.get(file, Path(file).stem): file for file in files}


def checksum(path: str | Path, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()
