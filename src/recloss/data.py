"""Fetch, parse and validate interaction data.

A data set is two text files, `train.txt` and `test.txt`, one line a user: `user item item ...`,
ids from 0. `fetch` downloads and verifies the published ones (datasets.csv has their checksums,
counts and homes), `load` parses and validates any, `prepare` writes them as arrays and a manifest.
"""

import argparse
import csv
import dataclasses
import hashlib
import importlib.resources
import os
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch
import requests

from recloss.files import ReclossError, atomic, run_cli, write_json

MAX_COUNT = np.iinfo(np.int32).max  # ids are int32, and so is their count
TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}


@dataclasses.dataclass(frozen=True)
class Interactions:
    """Distinct (user, item) pairs, sorted by user, then item.

    users, items: int32 (nnz,), with ids below `n_users` and `n_items`.
    """

    users: np.ndarray
    items: np.ndarray
    n_users: int
    n_items: int

    def __len__(self) -> int:
        return len(self.users)

    @property
    def density(self) -> float:
        """Share of all user-item pairs that are here."""
        return len(self) / (self.n_users * self.n_items)

    def counts(self) -> np.ndarray:
        """Return the number of items of each user, int64 (n_users,)."""
        return np.bincount(self.users, minlength=self.n_users)

    def item_counts(self) -> np.ndarray:
        """Return the number of users of each item, its popularity, int64 (n_items,)."""
        return np.bincount(self.items, minlength=self.n_items)

    def indptr(self) -> np.ndarray:
        """Return row pointers p, int64 (n_users + 1,): u's items are items[p[u]:p[u + 1]]."""
        return np.concatenate(([0], np.cumsum(self.counts())))

    def keys(self) -> np.ndarray:
        """Return a number for each pair, ascending, int64 (nnz,)."""
        return self.users.astype(np.int64) * self.n_items + self.items

    def select(self, mask: np.ndarray) -> "Interactions":
        """Return the pairs where the boolean `mask` (nnz,) holds."""
        return dataclasses.replace(self, users=self.users[mask], items=self.items[mask])

    def hold_out(
        self, held: np.ndarray, generator: np.random.Generator
    ) -> tuple["Interactions", "Interactions"]:
        """Return (kept, held out), where `held[u]` items of user u, drawn uniformly, are held out.

        held: integers (n_users,), at most `counts()`.
        """
        shuffled = np.lexsort((generator.random(len(self)), self.users))  # within each user
        rank = np.arange(len(self)) - self.indptr()[self.users]
        out = np.zeros(len(self), bool)
        out[shuffled] = rank < held[self.users]
        return self.select(~out), self.select(out)


class Source(NamedTuple):
    """A row of datasets.csv: one file of a published data set."""

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
    text = importlib.resources.files("recloss").joinpath("datasets.csv").read_text()
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


def fetch(
    name: str,
    out_dir: str | Path,
    mirror: str | Path | None = None,
    retries: int = 3,
    timeout: tuple[float, float] = (10, 60),
    rows: Sequence[Source] | None = None,
) -> list[Path]:
    """Bring train.txt and test.txt of a published data set into `out_dir`, verified.

    Tries the mirror (this argument, else RECLOSS_MIRROR: a folder or URL holding <name>/train.txt),
    then the primary home, then the archive. `retries` is the number of attempts where a failure
    may pass, `timeout` the seconds to connect and between two reads. Files already there with the
    right checksum are left alone. Raises `ReclossError` naming every home tried and its reason.
    """
    mirror = mirror or os.environ.get("RECLOSS_MIRROR")
    found = rows_of(name, rows)
    for row in found:
        target = Path(out_dir) / row.file
        if target.is_file() and _fault(target, row) is None:
            continue
        homes = [f"{str(mirror).rstrip('/')}/{name}/{row.file}"] if mirror else []
        tried = []
        for home in [*homes, row.primary, row.archive]:
            reason = _bring(home, target, row, max(retries, 1), timeout)
            if reason is None:
                break
            tried.append(f"{home}: {reason}")
        else:
            raise ReclossError(
                f"{name}/{row.file} could not be fetched: {'; '.join(tried)}; set data.mirror "
                f"or RECLOSS_MIRROR to a folder holding {name}/{row.file}"
            )
    return [Path(out_dir) / row.file for row in found]


def _bring(home: str, target: Path, row: Source, retries: int, timeout) -> str | None:
    """Copy or download `home` to `target`; return why not, or None when it is there, verified."""
    part = target.with_name(target.name + ".part")
    download = pooch.HTTPDownloader(sys.stderr.isatty(), chunk_size=1 << 16, timeout=timeout)
    for attempt in range(retries):
        if attempt:
            time.sleep(0.5 * 2**attempt)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if "://" in home:
                download(home, str(part), None)
            else:
                shutil.copyfile(Path(home).expanduser(), part)
            fault = _fault(part, row)
            if fault is None:
                os.replace(part, target)
            return fault
        except OSError as error:  # those of requests are OSErrors too
            reason, may_pass = _diagnose(error)
            if not may_pass:
                return reason
        finally:
            part.unlink(missing_ok=True)
    return f"{reason} (attempts: {retries})"


def _diagnose(error: OSError) -> tuple[str, bool]:
    """Return what went wrong in a few words, and whether trying again may help."""
    if isinstance(error, requests.HTTPError):
        return f"HTTP {error.response.status_code}", error.response.status_code in TRANSIENT_STATUS
    if isinstance(error, requests.Timeout):
        return "timed out", True
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "broke off before its end", True
    if isinstance(error, requests.ConnectionError):
        return "no connection", True
    return " ".join((error.strerror or str(error)).split()), False


def _fault(path: Path, row: Source) -> str | None:
    """Return how a file differs from the published one, or None."""
    for algorithm, expected in (("md5", row.md5), ("sha256", row.sha256)):
        found = checksum(path, algorithm)
        if expected and found != expected:
            with open(path, "rb") as stream:
                page = _is_page(stream.read(1024))
            wrong = f"wrong checksum ({algorithm} {found}, expected {expected})"
            return "an HTML page, not the data" if page else wrong
    return None


def _is_page(text: bytes) -> bool:
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
    if _is_page(raw[:1024]):
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


def pack(**sets: Interactions) -> dict[str, np.ndarray]:
    """Return {<set>_users, <set>_items, ..., n_users, n_items} of sets over common ids."""
    arrays = {}
    for name, found in sets.items():
        arrays |= {f"{name}_users": found.users, f"{name}_items": found.items}
    return arrays | {"n_users": np.int64(found.n_users), "n_items": np.int64(found.n_items)}


def hash_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """Return a sha256 over the names, types, shapes and values of arrays."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode() + array.tobytes())
    return digest.hexdigest()


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed .npz atomically; equal arrays make equal bytes."""
    with atomic(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def unpack(path: str | Path, *names: str) -> tuple[Interactions, ...]:
    """Read the named sets back from a file of `pack`'s arrays."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            counts = int(arrays["n_users"]), int(arrays["n_items"])
            pairs = [(arrays[f"{name}_users"], arrays[f"{name}_items"]) for name in names]
    except FileNotFoundError:
        raise ReclossError(f"{path}: no such file; make it with recloss.data prepare") from None
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        what = f"has no {' and '.join(names)} arrays"
        raise ReclossError(f"{path}: {what}; delete it and make it again") from None
    return tuple(Interactions(users, items, *counts) for users, items in pairs)


def read_arrays(path: str | Path) -> tuple[Interactions, Interactions]:
    """Return (train, test) from an interactions.npz of `prepare`."""
    return unpack(path, "train", "test")


def prepare(
    name: str, train_path: Path, test_path: Path, out_dir: Path, published: bool = False
) -> dict:
    """Validate two files, write interactions.npz and manifest.json to `out_dir`; return the latter.

    `published` holds the files to the counts that datasets.csv declares for `name`. What is written
    depends on nothing but the name and the two files' content.
    """
    train, test = load(train_path, test_path, rows_of(name) if published else None)
    arrays = pack(train=train, test=test)
    manifest = {
        "dataset": name,
        "n_users": train.n_users,
        "n_items": train.n_items,
        "n_train": len(train),
        "n_test": len(test),
        "density": train.density + test.density,
        "users_without_test": int((test.counts() == 0).sum()),
        "items_without_train": train.n_items - len(np.unique(train.items)),
        "sha256": {"train": checksum(train_path), "test": checksum(test_path)},
        "data_hash": hash_arrays(arrays),
    }
    write_arrays(Path(out_dir) / "interactions.npz", arrays)
    write_json(Path(out_dir) / "manifest.json", manifest)
    return manifest


def main() -> None:
    """Parse the command line and fetch or prepare a data set."""
    parser = argparse.ArgumentParser(prog="python -m recloss.data", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("fetch", help="download and verify a published data set")
    command.add_argument("name", help=f"one of {', '.join(sorted({r.dataset for r in table()}))}")
    command.add_argument("--out", required=True, help="folder for train.txt and test.txt")
    command.add_argument("--mirror", help="folder or URL holding NAME/train.txt, tried first")
    command.set_defaults(run=lambda a: print(*fetch(a.name, a.out, a.mirror), sep="\n"))
    command = commands.add_parser("prepare", help="write two text files as arrays and a manifest")
    command.add_argument("name", help="what to call the data set")
    command.add_argument("--train", required=True, help="text file, a line a user: user item ...")
    command.add_argument("--test", required=True, help="text file of the same format")
    command.add_argument("--out", required=True, help="folder for interactions.npz, manifest.json")
    command.add_argument("--published", action="store_true", help="check NAME's published counts")
    command.set_defaults(run=lambda a: prepare(a.name, a.train, a.test, a.out, a.published))
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    run_cli(main)
