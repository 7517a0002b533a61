"""Divide pairs into train and test: at random, the last of each user, by time, or balanced.

Of the last three a validation set is taken from train by the same rule, so that settings are picked
by what they will be judged by; of the first, `split` draws it.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from recloss import seeds
from recloss.data.implicit import Pairs
from recloss.data.interactions import Interactions
from recloss.data.shares import shares
from recloss.files import ReclossError


def divide(
    path: str | Path,
    found: Pairs,
    by: str = "share",
    test_share: float = 0.2,
    validation: float = 0.1,
    seed: int = 0,
) -> tuple[Interactions, Interactions, Interactions | None, dict[str, int]]:
    """Return train (validation included), test, validation or None, and counts for the manifest.

    by: `share`, a random share of each user's pairs; `leave_one_out`, each user's last by time;
    `time`, of all users the pairs from the moment on that leaves the share, without users and items
    that are new then; `balanced`, a share in which every item is equally often (`_even`). A user
    keeps a pair for training. test_share, validation: of all pairs, and of the rest; path: named by
    faults.
    """
    pairs = found.pairs
    if by in ("leave_one_out", "time") and found.when is None:
        raise ReclossError(
            f"{path}: a split by {by} needs times: say which column has them, as in columns: "
            "{timestamp: NAME}, or split by share"
        )
    way = WAYS[by]
    if way is None:
        held = shares(pairs.counts(), test_share, "test share")
        out = _drawn(pairs.users, held, seeds.generator(seed, "test set"))
        return pairs.select(~out), _not_empty(path, pairs.select(out), by), None, {}

    def held_out(these: np.ndarray, share: float, stream: str) -> np.ndarray:
        """Return which of all pairs (nnz,) are held out of `these`."""
        when, rows = (x if x is None else x[these] for x in (found.when, found.rows))
        out = np.zeros(len(pairs), bool)
        out[these] = way(pairs.select(these), when, rows, share, seeds.generator(seed, stream))
        return out

    out = held_out(np.ones(len(pairs), bool), test_share, "test set")
    inner = held_out(~out, validation, "validation set")
    train, counts = ~out, {}
    if by == "time":
        new = ~_known(pairs, pairs.select(~out & ~inner))
        counts["test pairs new to train"] = int((out & new).sum())
        counts["validation pairs new to train"] = int((inner & new).sum())
        out, train, inner = out & ~new, train & ~(inner & new), inner & ~new
    return pairs.select(train), _not_empty(path, pairs.select(out), by), pairs.select(inner), counts


def _known(pairs: Interactions, train: Interactions) -> np.ndarray:
    """Return of which pairs (nnz,) both user and item are in train."""
    return (train.counts()[pairs.users] > 0) & (train.item_counts()[pairs.items] > 0)


def _not_empty(path: str | Path, held: Interactions, by: str) -> Interactions:
    if not len(held):
        raise ReclossError(
            f"{path}: the split by {by} leaves no test pair; take more data, or another share"
        )
    return held


def _drawn(sides: np.ndarray, wanted: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return `wanted[s]` pairs of each user or item s, drawn uniformly, as a mask (nnz,).

    sides: the user or the item of each pair (nnz,).
    """
    order = np.argsort(sides + generator.random(len(sides)))  # shuffled within each
    counts = np.bincount(sides, minlength=len(wanted))
    place = np.arange(len(sides)) - np.repeat(np.cumsum(counts) - counts, counts)
    out = np.zeros(len(sides), bool)
    out[order] = place < np.repeat(wanted, counts)
    return out


def _last(pairs, when, rows, share, generator) -> np.ndarray:
    """Return the last pair of each user that has another, by time, then by place in the file."""
    counts = pairs.counts()
    of_users = counts[counts > 0]
    begin = np.cumsum(of_users) - of_users  # pairs are sorted by user
    out = when == np.repeat(np.maximum.reduceat(when, begin), of_users)
    rows = np.where(out, rows, -1)
    out = rows == np.repeat(np.maximum.reduceat(rows, begin), of_users)
    return out & (counts[pairs.users] > 1)


def _latest(pairs, when, rows, share, generator) -> np.ndarray:
    """Return the pairs from a moment on: a share of all, or less where many came at that moment."""
    n = round((1 - share) * len(when))
    cut = np.partition(when, n - 1)[n - 1]  # the last moment of train
    return when > cut


def _even(pairs, when, rows, share, generator) -> np.ndarray:
    """Return a share of all pairs in which every item is equally often.

    Each item gives q of its p pairs, drawn at random, q such that the share is met; one with fewer
    than 2 q gives half of them, so that train knows it. A user whose every pair is drawn keeps one.
    """
    popularity, total = pairs.item_counts(), share * len(pairs)
    low, high = 0.0, float(popularity.max())
    for _ in range(60):
        q = (low + high) / 2
        low, high = (q, high) if np.minimum(q, popularity / 2).sum() < total else (low, q)
    wanted = np.minimum(high, popularity / 2)
    wanted = np.floor(wanted + generator.random(len(wanted))).astype(np.int64)
    wanted = np.minimum(wanted, np.maximum(popularity - 1, 0))
    out = _drawn(pairs.items, wanted, generator)
    begin = pairs.indptr()[:-1][pairs.counts() > 0]
    emptied = np.logical_and.reduceat(out, begin)
    out[begin[emptied]] = False
    return out


WAYS: dict[str, Callable[..., np.ndarray] | None] = {
    "share": None,
    "leave_one_out": _last,
    "time": _latest,
    "balanced": _even,
}
