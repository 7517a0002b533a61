"""What a finished run scores pairs by: from its vectors or, for EASE, solved again."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recloss.analysis.vectors import read_vectors
from recloss.data.interactions import Interactions
from recloss.engine.ranking import ScoreBlock, dot_scores
from recloss.models.ease import ease, gram

SMALLEST_NORM = 1e-12  # as in torch.nn.functional.normalize


@dataclasses.dataclass(frozen=True)
class Scores:
    """The scores of users 0..n - 1 with all items.

    block: gives them as evaluation ranks by them, for which a user's norm does not matter; norms
    (n, 1): what to divide them by to get cosine similarity, None where inner product is meant.
    """

    block: ScoreBlock
    norms: Tensor | None = None

    def meant(self, scores: Tensor, low: int) -> Tensor:
        """Return `scores` (rows, columns) of the users from `low`, some of a block's, as meant."""
        if self.norms is None:
            return scores
        # Rounding may lead a hair beyond 1.
        return (scores / self.norms[low : low + len(scores)]).clamp(-1, 1)


def of_users(pairs: Interactions, users: np.ndarray) -> Interactions:
    """Return the pairs of the distinct `users` (n,), the i-th of whom becomes user i."""
    first = pairs.indptr()
    counts = first[users + 1] - first[users]
    ends = np.cumsum(counts)
    places = np.arange(counts.sum()) + np.repeat(first[users] - (ends - counts), counts)
    rows = np.repeat(np.arange(len(users), dtype=np.int32), counts)
    return Interactions(rows, pairs.items[places], len(users), pairs.n_items)


def scores_of_run(
    run: Path,
    metrics: dict[str, Any],
    train: Interactions,
    cosine: bool,
    users: np.ndarray | None = None,
) -> Scores:
    """Return the scores of a trained run: of all users, or of the distinct `users` (n,) in order.

    metrics: its metrics.json; train: the pairs that it was trained on. A run keeps its vectors;
    EASE, which would keep an item-item matrix, is solved again.
    """
    if metrics["loss"] == "ease":
        rows = train if users is None else of_users(train, users)
        return Scores(ease(gram(train), metrics["settings"]["reg"]).scores(rows))
    user_table, item_table = read_vectors(run)
    if users is not None:
        user_table = user_table[torch.from_numpy(users)]
    norms = user_table.norm(dim=1, keepdim=True).clamp(min=SMALLEST_NORM) if cosine else None
    return Scores(dot_scores(user_table, item_table, cosine), norms)
