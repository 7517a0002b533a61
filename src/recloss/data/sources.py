"""The published data sets: sources.csv has their checksums, counts and homes."""

import csv
import hashlib
import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from recloss.files import ReclossError


class Source(NamedTuple):
    """A row of sources.csv: one file of a published data set."""

    dataset: str
    version: str
    file: str
    md5: str
    sha256: str  # empty where nobody has recorded it
    users: int  # of the whole data set, as `items`
    items: int
    interactions: int  # of this file
    primary: str
    archive: str


def table() -> list[Source]:
    """Return the published files: of each data set train.txt, then test.txt."""
    text = importlib.resources.files("recloss.data").joinpath("sources.csv").read_text()
    counts = ("users", "items", "interactions")
    rows = csv.DictReader(text.splitlines())
    return [Source(**row | {name: int(row[name]) for name in counts}) for row in rows]


def rows_of(name: str, rows: Sequence[Source] | None = None) -> list[Source]:
    """Return the rows (of `table()` by default) of a data set."""
    rows = table() if rows is None else rows
    found = [row for row in rows if row.dataset == name]
    if not found:
        raise ReclossError(
            f"unknown data set '{name}': known are {', '.join(sorted({r.dataset for r in rows}))}; "
            "for your own data give `path:`, a folder with train.txt and test.txt"
        )
    return found


def checksum(path: str | Path, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()
