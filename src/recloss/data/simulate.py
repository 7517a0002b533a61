"""Generate interactions whose true preferences and exposure are known, so bias can be measured.

Users and items have latent tastes; a user truly likes the `prior` share of the catalogue nearest to
their taste. A liked item is observed with a probability that falls with its popularity rank as a
power law, whatever the user. So the observed pairs are all positives, but most of the pairs that
are not observed and yet liked are of unpopular items: the setting in which debiased losses differ.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recloss import seeds
from recloss.data.interactions import Interactions
from recloss.files import ReclossError, atomic

TESTS = ("observed", "uniform")


@dataclass(frozen=True)
class Simulation:
    """A generated data set: truth is bool (users, items), propensity float32 (items,)."""

    train: Interactions
    test: Interactions
    truth: np.ndarray
    propensity: np.ndarray  # P(observed | liked)
    parameters: dict[str, Any]

    def summary(self) -> dict[str, Any]:
        """Return the parameters and what came of them.

        `prior` is the share of all pairs that are liked (tau+), `residual_prior` that of the pairs
        not observed, `observed_share` the share of the liked pairs that are observed. Of an
        observed test set these are observed; of a uniform one only those of train.
        """
        seen = len(self.test) if self.parameters["test"] == "observed" else 0
        liked, observed = int(self.truth.sum()), len(self.train) + seen
        right = int(self.truth[self.train.users, self.train.items].sum()) + seen
        return {
            "parameters": self.parameters,
            "prior": liked / self.truth.size,
            "residual_prior": (liked - right) / (self.truth.size - observed),  # of the unobserved
            "observed_share": right / liked,
            "true_positives_per_user": liked / len(self.truth),
            "n_train": len(self.train),
            "n_test": len(self.test),
        }


def check(items: int, prior: float, observed: float) -> int:
    """Return how many items a user likes; raises `ReclossError` if no such data set can exist."""
    liked = round(prior * items)
    if not 0 < liked < items:
        raise ReclossError(f"simulate: prior {prior} is {liked} of {items} items; change prior")
    if not 0 < observed < liked:
        raise ReclossError(
            f"simulate: observed {observed} is not between 0 and the {liked} items that a user "
            "likes; lower observed or raise prior"
        )
    return liked


def memory_mb(users: int, items: int, **_: Any) -> int:
    """Return the memory that a simulation takes: 20 bytes for each user and item, in MB."""
    return 20 * users * items // 10**6


def simulate(
    users: int,
    items: int,
    dim: int,
    prior: float,
    observed: float,
    skew: float,
    test_fraction: float,
    seed: int,
    noise: float = 0.0,
    test: str = "observed",
) -> Simulation:
    """Return a simulation; it takes `memory_mb`.

    prior: share of the items that each user likes (tau+), rounded to whole items;
    observed: mean number of observed items a user; skew: exponent of the power law of exposure;
    test_fraction: share of each user's observed items held out, who keeps one for training;
    noise: share of the train pairs, on average, that are not liked: beside the liked ones, and with
    a probability that falls with the rank of the item as theirs;
    test: `observed`, the items held out, or `uniform`, for each user as many of all the liked ones
    that are not in train, whatever their exposure: what is truly liked, in an unbiased sample.
    """
    parameters = dict(locals())
    if test not in TESTS:
        raise ReclossError(f"simulate: test {test!r} is not one of {', '.join(TESTS)}")
    liked = check(items, prior, observed)
    if not 0 < test_fraction < 1:
        raise ReclossError(f"simulate: test_fraction {test_fraction} is not between 0 and 1")
    if not 0 <= noise < 1:
        raise ReclossError(f"simulate: noise {noise} is not from 0 to below 1")
    taste = seeds.generator(seed, "simulate taste")
    user_vectors = taste.standard_normal((users, dim), np.float32)
    item_vectors = taste.standard_normal((items, dim), np.float32)
    # Of equal length, so that no item is liked by many for its norm: popularity is exposure.
    item_vectors /= np.linalg.norm(item_vectors, axis=1, keepdims=True)
    nearest = np.argpartition(-user_vectors @ item_vectors.T, liked - 1, axis=1)[:, :liked]
    truth = np.zeros((users, items), bool)
    np.put_along_axis(truth, nearest, True, axis=1)

    exposure = seeds.generator(seed, "simulate exposure")
    # The most exposed item comes last: that it is seen tells a reader of the files how many exist.
    rank = np.append(exposure.permutation(items - 1) + 2, 1)
    propensity = _scaled(rank ** -float(skew), truth.sum(0), observed * users)
    seen = truth & (exposure.random(truth.shape, np.float32) < propensity)
    if not seen[:, -1].any():
        raise ReclossError("simulate: the most exposed item is never seen; raise users or observed")
    pairs = Interactions(*(ids.astype(np.int32) for ids in np.nonzero(seen)), users, items)
    held = np.round(test_fraction * pairs.counts()).astype(int)
    held = np.minimum(held, np.maximum(pairs.counts() - 1, 0))
    train, tested = pairs.hold_out(held, seeds.generator(seed, "simulate split"))
    if noise:
        wanted, exposed = noise / (1 - noise) * len(train), (~truth * propensity).sum()
        if wanted > exposed:
            raise ReclossError(f"simulate: noise {noise} is more than users see; lower it")
        chance = seeds.generator(seed, "simulate noise").random(truth.shape, np.float32)
        shown = ~truth & (chance < propensity * (wanted / exposed))
        shown[train.users, train.items] = True
        train = Interactions(*(ids.astype(np.int32) for ids in np.nonzero(shown)), users, items)
    if test == "uniform":
        true = Interactions(*(ids.astype(np.int32) for ids in np.nonzero(truth)), users, items)
        hidden = true.select(~np.isin(true.keys(), train.keys()))
        tested = hidden.hold_out(held, seeds.generator(seed, "simulate uniform test"))[1]
    return Simulation(train, tested, truth, propensity, parameters)


def _scaled(weights: np.ndarray, liked: np.ndarray, total: float) -> np.ndarray:
    """Return min(1, c weights), float32 (items,), with c such that `total` pairs are expected.

    liked: the number of users who like each item, (items,).
    """
    low, high = 0.0, 1 / weights.min()  # at `high` every liked pair is observed
    for _ in range(60):
        middle = (low + high) / 2
        below = (liked * np.minimum(1, middle * weights)).sum() < total
        low, high = (middle, high) if below else (low, middle)
    return np.minimum(1, high * weights).astype(np.float32)


def write_text(path: str | Path, interactions: Interactions) -> None:
    """Write one line a user, `user item item ...`; `parse.read` reads it."""
    rows = np.split(interactions.items, interactions.indptr()[1:-1])
    with atomic(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        for user, items in enumerate(rows):
            print(user, *items, file=stream)
