"""From ratings to implicit feedback: what is liked, each pair once, users and items with enough."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from recloss.data.interactions import Interactions
from recloss.data.tables import Ratings
from recloss.files import ReclossError


class Pairs(NamedTuple):
    """Distinct pairs of users and items, the ids of both, and when they came.

    when: their times (nnz,), or None where none are known; rows: their places in the file (nnz,);
    counts: what was left out on the way, for the manifest.
    """

    pairs: Interactions
    user_ids: pa.Array
    item_ids: pa.Array
    when: np.ndarray | None
    rows: np.ndarray
    counts: dict[str, int]


def to_implicit(
    path: str | Path,
    ratings: Ratings,
    at_least: float | None = None,
    duplicates: str = "last",
    core: int = 1,
) -> Pairs:
    """Return the pairs of a table of ratings.

    A pair rated more than once keeps the rating that is `first` or `last` by time, by place in the
    file where no time is known or times are equal; then those rated `at_least` that stay; then,
    again and again, users and items with fewer than `core` pairs go. Users and items that have no
    pair left are not in the result; ids stay in order of first appearance in the file.
    path: named by faults.
    """
    rows = _once(ratings, duplicates)
    counts = {"rows": len(ratings), "duplicates": len(ratings) - len(rows)}
    if at_least is not None:
        liked = ratings.rating[rows] >= at_least
        counts["rated lower"] = int((~liked).sum())
        rows = rows[liked]
        if not len(rows):
            top = f"the highest is {ratings.rating.max():g}"
            raise ReclossError(f"{path}: no rating is at least {at_least:g}; {top}; lower at_least")
    users, items = ratings.users[rows], ratings.items[rows]
    keep = in_core(users, items, core)
    if not keep.any():
        raise ReclossError(f"{path}: no {core}-core: no user or item is left; lower core")
    counts["pairs outside core"] = int((~keep).sum())
    sides, ids = [], []
    for what, codes, names in (
        ("users", users, ratings.user_ids),
        ("items", items, ratings.item_ids),
    ):
        before = int(np.count_nonzero(np.bincount(codes)))
        codes, kept = _renumbered(codes[keep], len(names))
        counts[f"{what} outside core"] = before - len(kept)
        sides.append(codes)
        ids.append(names.take(pa.array(kept)))
    # Sorted by the codes of the file they are sorted by these, which keep their order.
    found, rows = Interactions(*sides, *map(len, ids)), rows[keep]
    when = None if ratings.timestamp is None else ratings.timestamp[rows]
    return Pairs(found, *ids, when, rows, counts)


def _once(ratings: Ratings, duplicates: str) -> np.ndarray:
    """Return the rows that are kept of those of the same pair, int64, sorted by user, then item."""
    key = ratings.users.astype(np.int64) * len(ratings.item_ids) + ratings.items
    order = np.argsort(key, kind="stable")
    key = key[order]
    same = key[1:] == key[:-1]
    if not same.any():
        return order
    if ratings.timestamp is not None:
        twice = np.append(same, False) | np.append(False, same)
        mine = order[twice]
        order[twice] = mine[np.lexsort((ratings.timestamp[mine], key[twice]))]
    ends = np.append(~same, True) if duplicates == "last" else np.append(True, ~same)
    return order[ends]


def in_core(users: np.ndarray, items: np.ndarray, core: int) -> np.ndarray:
    """Return which pairs (n,) are in the largest part where every user and item has `core` of them.

    Users and items below are taken out again and again until none is (the k-core of the graph).
    """
    keep = np.arange(len(users))
    while len(keep):
        enough = [np.bincount(side[keep]) >= core for side in (users, items)]
        good = enough[0][users[keep]] & enough[1][items[keep]]
        if good.all():
            break
        keep = keep[good]
    mask = np.zeros(len(users), bool)
    mask[keep] = True
    return mask


def _renumbered(ids: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids (n,) counted among those that occur, int32, and which these are."""
    used = np.bincount(ids, minlength=n) > 0
    return (np.cumsum(used, dtype=np.int32) - 1)[ids], np.flatnonzero(used)
