"""What a training step draws: its pairs, negatives, extra positives.

Every draw is a function of (seed, purpose, epoch, step) and its place in the step: a resumed run
repeats exactly the draws of an unbroken one, two losses with the same seed meet the same batches
and negatives, and the CPU draws what a GPU does.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recloss import seeds
from recloss.data.interactions import Interactions
from recloss.engine.device import kernels_for
from recloss.files import ReclossError

_LOW = 0xFFFFFFFF  # the lower 32 bits
_MULTIPLIER = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85


def stream(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """Return a torch generator at the start of the stream (seed, purpose, counters).

    On the CPU, whatever the device of the run, so that every device starts from the same numbers.
    """
    return torch.Generator().manual_seed(seeds.derive(seed, purpose, *counters))


def philox(key: int, counters: tuple[Tensor, ...]) -> Tensor:
    """Return four words for each counter: int64 (n, 4), below 2^32.

    Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2,
    3"): a bijection of the counter under a key below 2^64, so that a draw needs no state but its
    place. counters: four int64 tensors (n,) of numbers below 2^32.
    """
    c0, c1, c2, c3 = counters
    k0, k1 = key & _LOW, key >> 32
    for _ in range(10):
        # The product of two words may pass 2^63 and wrap; its bits stay those of the product.
        p0, p1 = c0 * _MULTIPLIER[0], c2 * _MULTIPLIER[1]
        high0, high1 = (p0 >> 32) & _LOW, (p1 >> 32) & _LOW
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, p1 & _LOW, high0 ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return torch.stack([c0, c1, c2, c3], dim=1)


def words(key: int, clock: Tensor, rows: int, count: int, attempt: int = 0) -> Tensor:
    """Return the words of a step: int64 (rows, count), below 2^32.

    clock (2,) int64 holds epoch and step. A row has q = ceil(count / 4) counters, (their number in
    the step, attempt, step, epoch); word k of a row is number k // q of those of counter k % q.
    """
    kernels = kernels_for(clock)
    if kernels is not None and attempt == 0:
        return kernels.words(key, clock, rows, count)
    quads = -(-count // 4)
    place = torch.arange(rows * quads, device=clock.device)
    fixed = torch.full_like(place, attempt)
    drawn = philox(key, (place, fixed, clock[1].expand_as(place), clock[0].expand_as(place)))
    return drawn.view(rows, quads, 4).mT.reshape(rows, 4 * quads)[:, :count]


class Draws(NamedTuple):
    """What the draws of a run have in common; tensors lie on the device of the run.

    Negatives follow the alias table `accept`, `other` (I,), float32 and int32; (0,) for uniform
    draws. The train items of user u are items[first[u]:first[u + 1]], ascending, int32.
    """

    batch_size: int
    negatives: int
    extra: int  # extra positives
    key: int  # of the negatives' stream
    extra_key: int
    n_items: int
    accept: Tensor
    other: Tensor
    exclude: bool  # draw again what is a train item of the user
    first: Tensor
    items: Tensor
    keys: Tensor  # user x I + item of every train pair, int64, ascending; (0,) without `exclude`


def draw(draws: Draws, clock: Tensor, users: Tensor, items: Tensor, size: int) -> Tensor:
    """Return ids (size, 1 + negatives + extra) int32: positive, negatives, extra positives.

    clock (2,) int64: epoch and step. users, items (n,) int32: the train pairs in the order of the
    epoch; the step takes `size` of them from step x batch_size on. A word w becomes an item through
    its product with I: the upper 32 bits are the item, the lower a share for the alias table, so
    that probabilities are off by at most I / 2^32 of themselves.
    """
    kernels = kernels_for(clock)
    if kernels is not None:
        return kernels.draw(draws, clock, users, items, size)
    here = clock[1] * draws.batch_size + torch.arange(size, device=clock.device)
    u = users[here].long()
    ids = _propose(draws, words(draws.key, clock, size, draws.negatives))
    if draws.exclude:
        attempt, rows = 0, u[:, None] * draws.n_items
        while bool((hit := _among(draws.keys, rows + ids)).any()):
            attempt += 1
            again = words(draws.key, clock, size, draws.negatives, attempt)
            ids = torch.where(hit, _propose(draws, again), ids)
    low, high = draws.first[u, None], draws.first[u + 1, None]
    offset = (words(draws.extra_key, clock, size, draws.extra) * (high - low)) >> 32
    return torch.cat([items[here, None], ids, draws.items[low + offset]], dim=1)


def _among(keys: Tensor, wanted: Tensor) -> Tensor:
    """Tell of each of `wanted` whether it is one of the ascending `keys`."""
    return keys[torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)] == wanted


def _propose(draws: Draws, word: Tensor) -> Tensor:
    product = word * draws.n_items
    ids = (product >> 32).int()
    if len(draws.accept) == 0:
        return ids
    share = (product & _LOW).float() * 2.0**-32
    return torch.where(share < draws.accept[ids], ids, draws.other[ids])


def uniform(key: int, clock: Tensor, rows: int, count: int) -> Tensor:
    """Return the numbers of a step in [0, 1): float32 (rows, count), multiples of 2^-24."""
    return (words(key, clock, rows, count) >> 8).float() * 2.0**-24


class Sampler:
    """The steps of an epoch: train pairs, with negatives and extra positives.

    An epoch has as many pairs as train: each once, in random order, or, with `pairs` "users", of
    users drawn uniformly from those with train items, and one of their items, uniformly, both with
    replacement (the sampler of LightGCN, arXiv 2002.02126).
    Negatives have probability proportional to popularity^exponent, with replacement; exponent 0 is
    uniform over all items. With `exclude_positives`, train items of the user are drawn again until
    none is left (so probabilities are restricted and renormalised per user). Extra positives are
    train items of the user, uniform with replacement. Without negatives (0), those of a pair are
    the items of the batch's other pairs. log_q (I,): log of the probability that one draw of a
    negative gives an item. `clock` (2,) int64, on the device, holds
    epoch and step: a captured step finds there what to draw next.
    """

    def __init__(
        self,
        train: Interactions,
        batch_size: int,
        negatives: int,
        exponent: float,
        exclude_positives: bool,
        extra_positives: int,
        seed: int,
        device: torch.device,
        pairs: str = "pairs",
    ) -> None:
        self.seed, self.device, self.pairs = seed, device, pairs
        if negatives:
            weight = train.item_counts().astype(np.float64) ** exponent
        else:
            weight = item_odds(train, pairs)
        q = weight / weight.sum()
        if exclude_positives and train.counts().max() >= np.count_nonzero(q):
            user = train.counts().argmax()
            raise ReclossError(
                f"exclude_positives leaves user {user} no negative: all that can be drawn are "
                "train items; use exclude_positives false"
            )
        self.log_q = torch.from_numpy(np.log(np.maximum(q, 1e-300))).float().to(device)
        accept, other = alias_table(q) if exponent > 0 else (np.zeros(0), np.zeros(0))
        self.draws = Draws(
            batch_size,
            negatives,
            extra_positives,
            seeds.derive(seed, "negatives"),
            seeds.derive(seed, "extra"),
            train.n_items,
            torch.from_numpy(accept).float().to(device),
            torch.from_numpy(other).int().to(device),
            exclude_positives,
            torch.from_numpy(train.indptr()).to(device),
            torch.from_numpy(train.items).to(device),
            torch.from_numpy(train.keys() if exclude_positives else np.zeros(0)).long().to(device),
        )
        self._active = torch.from_numpy(np.flatnonzero(train.counts())).to(device)
        self._pairs = torch.from_numpy(np.stack([train.users, train.items]))
        # (nnz,) int32, in the order of the epoch; on the CPU too a copy, to be written to.
        self.users, self.items = self._pairs.to(device, copy=True)
        self.clock = torch.zeros(2, dtype=torch.int64, device=device)

    def start(self, epoch: int) -> None:
        """Make the pairs of the epoch and go to its first step."""
        self.clock.copy_(torch.tensor([epoch, 0]))
        users, items = self._drawn() if self.pairs == "users" else self._ordered(epoch)
        # In place: a captured step reads from these very tensors.
        self.users.copy_(users)
        self.items.copy_(items)

    def _ordered(self, epoch: int) -> tuple[Tensor, Tensor]:
        generator = stream(self.seed, "order", epoch)
        users, items = self._pairs[:, torch.randperm(self._pairs.shape[1], generator=generator)]
        return users, items

    def _drawn(self) -> tuple[Tensor, Tensor]:
        key, first = seeds.derive(self.seed, "pairs"), self.draws.first
        word = words(key, self.clock, len(self.users), 2)
        users = self._active[(word[:, 0] * len(self._active)) >> 32]
        offset = (word[:, 1] * (first[users + 1] - first[users])) >> 32
        return users, self.draws.items[first[users] + offset]

    def draw(self, size: int) -> tuple[Tensor, Tensor]:
        """Return the users (size,) int64 of the step and their items: `draw`'s ids."""
        here = self.clock[1] * self.draws.batch_size + torch.arange(size, device=self.device)
        users = self.users.index_select(0, here).long()
        return users, draw(self.draws, self.clock, self.users, self.items, size)

    def advance(self) -> None:
        """Go to the next step."""
        self.clock[1] += 1


def item_odds(train: Interactions, pairs: str) -> np.ndarray:
    """Return weights (I,) to which the odds that a pair of an epoch has an item are proportional.

    Of every train pair alike, its number of users; of users drawn uniformly, and then one of their
    items, the sum over its users of 1 / their number of items (derived).
    """
    weight = 1 / train.counts()[train.users] if pairs == "users" else None
    return np.bincount(train.items, weight, minlength=train.n_items).astype(np.float64)


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


def groups(users: Tensor) -> Tensor:
    """Number the distinct users of a batch: (B,) int64 in [0, B), equal where the user is equal.

    Unlike torch.unique its shapes do not depend on the data, so that the device never waits.
    """
    ordered, order = users.sort()
    number = torch.zeros_like(users)
    number[1:] = (ordered[1:] != ordered[:-1]).cumsum(0)
    return torch.zeros_like(users).scatter_(0, order, number)
