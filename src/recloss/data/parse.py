"""Parse lists of interactions: one line a user, `user item item ...`.

Published and simulated files have ids from 0, all of which count. Lists of one's own may have ids
of any kind.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import pyarrow as pa

from recloss.data.interactions import Interactions
from recloss.data.recognise import check_text, read_bytes
from recloss.data.sources import Source
from recloss.files import ReclossError

MAX_COUNT = np.iinfo(np.int32).max  # ids are int32, and so is their count
WIDTHS = {2: "two", 3: "three", 4: "four"}
SEPARATOR = re.compile(rb"::|[,;|]")
WORD = re.compile(rb"[^ \t\n]+")
FORMAT = "write `user item item ...`"


class _Words(NamedTuple):
    """The words of a file, in order: where each begins in `text`, its line, if it begins that."""

    path: str | Path
    text: bytes
    starts: np.ndarray
    lines: np.ndarray
    is_user: np.ndarray

    def fail(self, line: int, what: str, remedy: str) -> NoReturn:
        raise ReclossError(f"{self.path}:{line}: {what}; {remedy}")

    def word(self, at: int) -> str:
        return WORD.match(self.text, self.starts[at]).group().decode()[:40]


def _words(path: str | Path) -> _Words:
    """Divide a file into words; LF, CRLF or CR, tabs, trailing blanks, a byte order mark are legal.

    Raises `ReclossError` for separators other than blanks, control characters, and what `recognise`
    refuses.
    """
    raw = check_text(path, read_bytes(path))
    raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip()
    text = np.frombuffer(raw, np.uint8)
    space = np.append(True, text <= ord(" "))
    starts = np.flatnonzero(space[:-1] & ~space[1:])
    lines = np.searchsorted(np.flatnonzero(text == ord("\n")), starts) + 1
    found = _Words(path, raw, starts, lines, np.append(True, lines[1:] != lines[:-1]))
    if control := re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", raw):
        line = raw.count(b"\n", 0, control.start()) + 1
        found.fail(line, f"control character {control.group().decode()!r}", f"{FORMAT} as text")
    if separator := SEPARATOR.search(raw):
        line, mark = raw.count(b"\n", 0, separator.start()) + 1, separator.group().decode()
        remedy = "put commas between fields and name it .csv" if mark == "::" else "name it .csv"
        found.fail(line, f"fields are separated by {mark!r}", f"{remedy}, or use blanks")
    return found


def _pairs(found: _Words, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return users, items and lines of the pairs, sorted; refuse what is given twice, blank lines.

    codes: of each word, a number that stands for its id.
    """
    at_user, at_item = np.flatnonzero(found.is_user), np.flatnonzero(~found.is_user)
    numbers = found.lines[at_user]
    if len(gap := np.flatnonzero(numbers != np.arange(len(numbers)) + 1)):
        found.fail(gap[0] + 1, "blank line", "delete it, or give the user's id")
    users = codes[at_user]
    order = np.argsort(users, kind="stable")
    if len(again := np.flatnonzero(np.diff(users[order]) == 0)):
        before, after = order[again[0]], order[again[0] + 1]
        what, remedy = f"user {found.word(at_user[after])} has a second line", "join it with line"
        widths = np.unique(np.bincount(found.lines)[1:])
        if len(widths) == 1 and widths[0] in WIDTHS:
            what += f" and every line {WIDTHS[widths[0]]} columns: ratings, not lists of items"
            remedy = (
                "name it .tsv if tabs are between them, or put commas and name it .csv; or join"
            )
        found.fail(after + 1, what, f"{remedy} {before + 1}")
    if not len(at_item):
        found.fail(1, "no user has an item", FORMAT)
    lines = found.lines[at_item]
    users, items = users[lines - 1], codes[at_item]
    order = np.lexsort((items, users))
    users, items = users[order], items[order]
    if len(twice := np.flatnonzero((np.diff(users) == 0) & (np.diff(items) == 0))):
        at = order[twice[0]]
        user, item = found.word(at_user[lines[at] - 1]), found.word(at_item[at])
        found.fail(lines[at], f"user {user} has item {item} twice", "delete one of them")
    return users, items, lines[order]


def read(
    path: str | Path, n_users: int | None = None, n_items: int | None = None
) -> tuple[Interactions, np.ndarray]:
    """Parse and validate a file of ids from 0; return its pairs and the line of each, (nnz,) int64.

    `n_users` and `n_items` bound the ids; the counts returned are the file's largest ids + 1. A
    user without items and blank lines at the end are legal. Raises `ReclossError`, as
    `<file>:<line>: <what>; <remedy>`, for what is not an id in range, a user on two lines, an item
    twice on a line, a blank line between others, a file without a pair, and what is recognisably
    something else.
    """
    found = _words(path)
    if illegal := re.search(rb"[^0-9 \t\n]", found.text):
        at = np.searchsorted(found.starts, illegal.start(), side="right") - 1
        word = found.word(at)
        what = "negative id" if re.fullmatch("-[0-9]+", word) else "not an integer:"
        found.fail(found.lines[at], f"{what} {word!r}", f"{FORMAT} with ids from 0")
    ids = np.fromstring(found.text.decode(), np.int64, sep=" ")  # beyond int64: its maximum
    bounds = np.where(found.is_user, n_users or MAX_COUNT, n_items or MAX_COUNT)
    if len(beyond := np.flatnonzero(ids >= bounds)):
        at, kind = beyond[0], "user" if found.is_user[beyond[0]] else "item"
        what = f"{kind} {found.word(at)} is out of range"
        found.fail(found.lines[at], what, f"renumber: {kind} ids run from 0 to {bounds[at] - 1}")
    users, items, lines = _pairs(found, ids)
    counts = int(ids[found.is_user].max()) + 1, int(items.max()) + 1
    return Interactions(users.astype(np.int32), items.astype(np.int32), *counts), lines


def read_named(path: str | Path) -> tuple[pa.Array, pa.Array, np.ndarray, np.ndarray]:
    """Parse and validate a file of ids of any kind.

    Returns the users' and the items' ids, text in order of first appearance, and of each pair,
    sorted by these, the position of its user and of its item there, int32 (nnz,). Users without
    items are among the ids. Raises `ReclossError` as `read` does.
    """
    found = _words(path)
    words = pa.array(found.text.decode().split(), pa.large_string())
    kinds = [words.filter(pa.array(which)) for which in (found.is_user, ~found.is_user)]
    users, items = (words_of_kind.dictionary_encode() for words_of_kind in kinds)
    codes = np.empty(len(words), np.int64)
    codes[found.is_user], codes[~found.is_user] = users.indices, items.indices
    at_user, at_item, _ = _pairs(found, codes)
    pairs = (at_user.astype(np.int32), at_item.astype(np.int32))
    return users.dictionary, items.dictionary, *pairs


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
