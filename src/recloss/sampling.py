"""What a training step draws: batches, negatives, extra positives.

Every draw is a function of (seed, purpose, epoch, step): a resumed run repeats exactly the draws
of an unbroken one, and two losses with the same seed meet the same batches and negatives.
"""

import numpy as np
import torch
from torch import Tensor

from recloss import seeds
from recloss.data import Interactions


def stream(device: torch.device, seed: int, purpose: str, *counters: int) -> torch.Generator:
    """Return a torch generator on `device` at the start of the stream (seed, purpose, counters)."""
    generator = torch.Generator(device)
    generator.manual_seed(seeds.derive(seed, purpose, *counters))
    return generator


def epoch_order(n: int, seed: int, epoch: int, device: torch.device) -> Tensor:
    """Return the order of the n training pairs in an epoch: (n,) int64, a permutation."""
    generator = stream(device, seed, "order", epoch)
    return torch.randperm(n, generator=generator, device=device)


class Negatives:
    """Draws items with probability proportional to popularity^exponent, with replacement.

    exponent 0 is uniform over all items. With `exclude_positives`, train items of the user are
    redrawn until none is left (rejection, so the proposal is restricted and renormalised per user).
    """

    def __init__(
        self,
        train: Interactions,
        count: int,
        exponent: float,
        exclude_positives: bool,
        seed: int,
        device: torch.device,
    ) -> None:
        self.count, self.seed, self.device = count, seed, device
        self.n_items = train.n_items
        popularity = np.bincount(train.items, minlength=train.n_items).astype(np.float64)
        weights = popularity**exponent
        q = weights / weights.sum()
        self.log_q = torch.from_numpy(np.log(np.maximum(q, 1e-300))).float().to(device)
        self.alias = None
        if exponent > 0:
            accept, other = alias_table(q)
            self.alias = (
                torch.from_numpy(accept).float().to(device),
                torch.from_numpy(other).to(device),
            )
        self.observed = None
        if exclude_positives:
            keys = train.users.astype(np.int64) * train.n_items + train.items
            self.observed = torch.from_numpy(np.sort(keys)).to(device)

    def draw(self, users: Tensor, epoch: int, step: int) -> Tensor:
        """Return the negatives of a step: (B, N) int64 item ids for users (B,)."""
        generator = stream(self.device, self.seed, "negatives", epoch, step)
        ids = self._propose((len(users), self.count), generator)
        if self.observed is not None:
            hit = self._is_observed(users, ids)
            while bool(hit.any()):
                ids = torch.where(hit, self._propose(tuple(ids.shape), generator), ids)
                hit = self._is_observed(users, ids)
        return ids

    def _propose(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        ids = torch.randint(self.n_items, shape, generator=generator, device=self.device)
        if self.alias is None:
            return ids
        accept, other = self.alias
        keep = torch.rand(shape, generator=generator, device=self.device) < accept[ids]
        return torch.where(keep, ids, other[ids])

    def _is_observed(self, users: Tensor, ids: Tensor) -> Tensor:
        keys = users[:, None] * self.n_items + ids
        at = torch.searchsorted(self.observed, keys).clamp(max=len(self.observed) - 1)
        return self.observed[at] == keys


def alias_table(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Walker's alias table of probabilities q (I,): accept (I,) float64, other (I,) int64.

    Drawing i uniformly and keeping it with probability accept[i], else other[i], is a draw of q.
    """
    accept, other = q * len(q), np.arange(len(q))
    small, large = list(np.flatnonzero(accept < 1)), list(np.flatnonzero(accept >= 1))
    while small and large:
        low, high = small.pop(), large[-1]
        other[low] = high
        accept[high] -= 1 - accept[low]
        if accept[high] < 1:
            small.append(large.pop())
    accept[small + large] = 1  # what is left differs from 1 by rounding only
    return accept, other


class ExtraPositives:
    """Draws M train items of each user, uniformly with replacement: the k of debiased losses."""

    def __init__(self, train: Interactions, count: int, seed: int, device: torch.device) -> None:
        self.count, self.seed, self.device = count, seed, device
        self.items = torch.from_numpy(train.items).to(device)
        indptr = torch.from_numpy(train.indptr())
        self.first, self.degree = indptr[:-1].to(device), indptr.diff().to(device)

    def draw(self, users: Tensor, epoch: int, step: int) -> Tensor:
        """Return the extra positives of a step: (B, M) int64 item ids for users (B,)."""
        generator = stream(self.device, self.seed, "extra", epoch, step)
        shape = (len(users), self.count)
        share = torch.rand(shape, generator=generator, device=self.device)
        degree = self.degree[users, None]
        offset = torch.minimum((share * degree).long(), degree - 1)  # share can round up to 1
        return self.items[self.first[users, None] + offset].long()


def groups(users: Tensor) -> Tensor:
    """Number the distinct users of a batch: (B,) int64 in [0, B), equal where the user is equal.

    Unlike torch.unique its shapes do not depend on the data, so that the device never waits.
    """
    ordered, order = users.sort()
    number = torch.zeros_like(users)
    number[1:] = (ordered[1:] != ordered[:-1]).cumsum(0)
    return torch.zeros_like(users).scatter_(0, order, number)
