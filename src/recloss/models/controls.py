"""Rankings that learn nothing: item popularity and a random order, the floor of every table."""

import numpy as np
import torch

from recloss import seeds
from recloss.data.interactions import Split
from recloss.engine.ranking import ScoreBlock


def popularity(split: Split, seed: int) -> ScoreBlock:
    """Score every item by its number of train interactions; the seed is not used."""
    scores = torch.from_numpy(split.train.item_counts()).float()
    return lambda low, high: scores.repeat(high - low, 1)


def random(split: Split, seed: int) -> ScoreBlock:
    """Score every pair by a uniform number from the stream (seed, "control", block)."""
    n_items = split.train.n_items

    def block(low: int, high: int) -> torch.Tensor:
        generator = seeds.generator(seed, "control", low)
        return torch.from_numpy(generator.random((high - low, n_items), dtype=np.float32))

    return block


CONTROLS = {"popularity": popularity, "random": random}
