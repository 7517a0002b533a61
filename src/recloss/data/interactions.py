"""Pairs of a user and an item, and their division into train, validation and test."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse


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


@dataclasses.dataclass(frozen=True)
class Split:
    """Three disjoint sets of pairs over the same users and items."""

    train: Interactions
    valid: Interactions
    test: Interactions


def interaction_matrix(train: Interactions) -> "sparse.csr_matrix":
    """Return the interactions as a sparse matrix of ones, (U, I) float32."""
    from scipy import sparse  # half a second that only linear models need

    ones = np.ones(len(train), np.float32)
    return sparse.csr_matrix(
        (ones, train.items, train.indptr()), shape=(train.n_users, train.n_items)
    )
