"""Read and validate a data set; write it as arrays with its ids and a manifest.

It is one file of ratings, which is divided, or the files of a given division.
"""

import argparse
from pathlib import Path

from recloss.data.files import SETS
from recloss.data.prepare import Division, Reading, from_indices, from_ratings, from_sets, write
from recloss.data.tables import KNOWN
from recloss.data.testset import WAYS
from recloss.files import ReclossError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss prepare`."""
    add = parser.add_argument
    add("name", help="what to call the data set")
    add("--ratings", type=Path, help="a table of users and items, or lists, to be divided")
    for name in SETS:
        add(f"--{name}", type=Path, help=f"the file of a given division's {name} pairs")
    out = "folder for interactions.npz, users.parquet, items.parquet, manifest.json"
    add("--out", type=Path, required=True, help=out)
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--published", action="store_true", help="check NAME's published counts")
    kinds.add_argument("--indices", action="store_true", help="ids are indices from 0, all count")
    columns = "of user, item, rating, timestamp, as user=uid item=2: names or places from 1"
    add("--columns", nargs="+", default=[], metavar="ROLE=COLUMN", help=columns)
    header = argparse.BooleanOptionalAction
    add("--header", action=header, help="whether a table has a header; guessed by default")
    add("--at-least", type=float, help="the lowest rating of an item that is liked")
    add("--duplicates", choices=["first", "last"], default="last", help="which of a pair's counts")
    add("--core", type=int, default=1, help="pairs that each user and item has at least")
    add("--by", choices=WAYS, default="share", help="how ratings are divided")
    add("--test-share", type=float, default=0.2, help="share of pairs in the test set")
    add("--validation", type=float, default=0.1, help="share of train that is validation")
    add("--seed", type=int, default=0, help="seed of the division")


def run(arguments: argparse.Namespace) -> None:
    """Prepare the files."""
    a = arguments
    files = {name: getattr(a, name) for name in SETS if getattr(a, name) is not None}
    reading = Reading(_columns(a.columns), a.header, a.at_least, a.duplicates, a.core)
    if a.ratings is not None:
        if files:
            raise ReclossError(f"--ratings and --{next(iter(files))}: give one file, or its parts")
        files = {"ratings": a.ratings}
        division = Division(a.by, a.test_share, a.validation, a.seed)
        found = from_ratings(a.ratings, reading, division)
    elif "train" not in files or not {"test", "shown"} & set(files):
        raise ReclossError("give --ratings, or --train and --test (or --shown)")
    elif (a.published or a.indices) and "shown" not in files:
        found = from_indices(files, a.name if a.published else None)
    else:
        found = from_sets(files, reading, a.name if a.published else None)
    write(a.name, found, files, a.out)


def _columns(words: list[str]) -> dict[str, str | int]:
    found: dict[str, str | int] = {}
    for word in words:
        role, equals, column = word.partition("=")
        if role not in KNOWN or not equals:
            known = ", ".join(KNOWN)
            raise ReclossError(f"--columns {word}: write ROLE=COLUMN; roles are {known}")
        found[role] = int(column) if column.isdecimal() else column
    return found
