"""Parse and validate interaction data: `train.txt` and `test.txt`, one line a user.

`user item item ...`, ids from 0.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recloss.data.interactions import Interactions
from recloss.data.sources import Source
from recloss.files import ReclossError

MAX_COUNT = np.iinfo(np.int32).max  # ids are int32, and so is their count


def is_page(text: bytes) -> bool:
    """Tell whether a file that begins with `text` is an HTML page."""
    return text.lstrip()[:1] == b"<"


def read(
    path: str | Path, n_users: int | None = None, n_items: int | None = None
) -> tuple[Interactions, np.ndarray]:
    """Parse and validate a file; return its pairs and the line, from 1, of each: int64 (nnz,).

    `n_users` and `n_items` bound the ids; the counts returned are the file's largest ids + 1. A
    user without items and blank lines at the end are legal. Raises `ReclossError`, as
    `<file>:<line>: <what>; <remedy>`, for what is not an id in range, a user on two lines, an item
    twice on a line, a blank line between others, a file without a pair, and an HTML page.
    """

    def fail(line: int, what: str, remedy: str):
        raise ReclossError(f"{path}:{line}: {what}; {remedy}")

    try:
        raw = Path(path).read_bytes().replace(b"\r\n", b"\n").rstrip()
    except OSError as error:
        raise ReclossError(f"{path}: {error.strerror}; give a readable text file") from None
    if not raw:
        fail(1, "the file is empty", "delete it, and fetch or write it again")
    if is_page(raw[:1024]):
        fail(1, "this is an HTML page, not interactions", "delete it and fetch again")
    if illegal := re.search(rb"[^0-9 \t\n]", raw):
        line = raw.count(b"\n", 0, illegal.start()) + 1
        words = raw.split(b"\n")[line - 1].decode(errors="replace").replace("\t", " ").split(" ")
        word = next(word for word in words if not re.fullmatch("[0-9]*", word))
        what = "negative id" if re.fullmatch("-[0-9]+", word) else "not an integer:"
        fail(line, f"{what} {word[:40]!r}", "write `user item item ...` with ids from 0")

    text = np.frombuffer(raw, np.uint8)
    space = np.append(True, text <= ord(" "))
    starts = np.flatnonzero(space[:-1] & ~space[1:])
    ids = np.fromstring(raw.decode(), np.int64, sep=" ")  # an id beyond int64 becomes its maximum
    lines = np.searchsorted(np.flatnonzero(text == ord("\n")), starts) + 1
    is_user = np.append(True, lines[1:] != lines[:-1])  # the first id of its line
    line_users = ids[is_user]
    if len(gap := np.flatnonzero(lines[is_user] != np.arange(len(line_users)) + 1)):
        fail(gap[0] + 1, "blank line", "delete it, or give the user's id")
    bounds = np.where(is_user, n_users or MAX_COUNT, n_items or MAX_COUNT)
    if len(beyond := np.flatnonzero(ids >= bounds)):
        at, kind = beyond[0], "user" if is_user[beyond[0]] else "item"
        what = f"{kind} {raw[starts[at] :].split(maxsplit=1)[0].decode()} is out of range"
        fail(lines[at], what, f"renumber: {kind} ids run from 0 to {bounds[at] - 1}")
    order = np.argsort(line_users, kind="stable")
    if len(again := np.flatnonzero(np.diff(line_users[order]) == 0)):
        before, after = order[again[0]], order[again[0] + 1]
        what = f"user {line_users[after]} has a second line"
        fail(after + 1, what, f"join it with line {before + 1}")

    users, items, lines = line_users[lines - 1][~is_user], ids[~is_user], lines[~is_user]
    if not len(items):
        fail(1, "no user has an item", "write `user item item ...`")
    order = np.lexsort((items, users))
    users, items, lines = users[order], items[order], lines[order]
    if len(twice := np.flatnonzero((np.diff(users) == 0) & (np.diff(items) == 0))):
        at = twice[0]
        fail(lines[at], f"user {users[at]} has item {items[at]} twice", "delete one of them")
    counts = int(line_users.max()) + 1, int(items.max()) + 1
    return Interactions(users.astype(np.int32), items.astype(np.int32), *counts), lines


def load(
    train_path: str | Path, test_path: str | Path, declared: Sequence[Source] | None = None
) -> tuple[Interactions, Interactions]:
    """Read two files as (train, test) over common users and items.

    declared: the rows of train.txt and test.txt, to whose counts the files are held; without them
    the counts are the largest id + 1. Raises `ReclossError` as `read` does, for other counts than
    declared (a published file cut short still parses), and for a pair in both files.
    """
    paths, rows = (train_path, test_path), declared or (None, None)
    parsed = [
        read(path, row and row.users, row and row.items)
        for path, row in zip(paths, rows, strict=True)
    ]
    n_users, n_items = (max(getattr(s, n) for s, _ in parsed) for n in ("n_users", "n_items"))
    train, test = (Interactions(s.users, s.items, n_users, n_items) for s, _ in parsed)
    for path, row, found in zip(paths, rows, (train, test), strict=True):
        for what, count in (("interactions", len(found)), ("users", n_users), ("items", n_items)):
            if row and count != getattr(row, what):
                raise ReclossError(
                    f"{path}: wrong counts: expected {getattr(row, what)} {what}, found {count}; "
                    "the file is truncated or another version: delete it and fetch again"
                )
    if len(both := np.flatnonzero(np.isin(test.keys(), train.keys(), assume_unique=True))):
        at, line = both[0], parsed[1][1][both[0]]
        raise ReclossError(
            f"{test_path}:{line}: user {test.users[at]} has item {test.items[at]} in {train_path} "
            "too; delete it from one of them"
        )
    return train, test
