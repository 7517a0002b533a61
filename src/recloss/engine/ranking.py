"""Full-ranking evaluation: Recall@k and NDCG@k of every user with at least one test item.

All items are ranked, the user's train items are left out, equal scores are ordered by item id.
Recall@k = hits / |test items|; NDCG@k has binary gain, discount 1/log2(rank + 1), and is divided by
the DCG of min(k, |test items|) hits at the top (the definitions behind the published numbers).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recloss.data.interactions import Interactions, Split
from recloss.engine.device import kernels_for

CUTOFFS = (20, 50)
RECOMMENDED = 20  # items of the lists that `Ranking.recommended` describes
METRICS = tuple(f"{metric}@{k}" for k in CUTOFFS for metric in ("recall", "ndcg"))
BLOCK_VALUES = (2**24, 2**27)  # scores held at a time, on the host and on a GPU: 64 and 512 MB

ScoreBlock = Callable[[int, int], Tensor]


def ranks_by_cosine(settings: dict[str, Any]) -> bool:
    """Tell whether a model of these settings ranks by cosine similarity, not by inner product."""
    return settings.get("score") == "cosine" and settings.get("rank_by", "score") == "score"


def dot_scores(users: Tensor, items: Tensor, cosine: bool) -> ScoreBlock:
    """Return a function giving the (high - low, I) scores of users low..high - 1.

    users (U, D), items (I, D). A user's norm does not change the ranking, so that cosine
    similarity only needs normalised items.
    """
    table = functional.normalize(items, dim=1) if cosine else items
    return lambda low, high: users[low:high] @ table.T


def top_k(scores: Tensor, k: int) -> Tensor:
    """Return the k best columns of each row, (rows, k) int64, equal scores by ascending column."""
    kernels = kernels_for(scores)
    if hasattr(kernels, "top_k"):
        return kernels.top_k(scores, k)
    # One more than asked for shows whether equal scores lie on both sides of the border.
    values, ids = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    border, beyond = values[:, k - 1 : k], values[:, k:]
    ids = ids[:, :k].sort(dim=1)[0]
    tied = (border == beyond).any(1)
    if bool(tied.any()):
        # torch.topk leaves open which of several equal scores at the border it takes.
        rows, border = scores[tied], border[tied]
        above, equal = rows > border, rows == border
        taken = above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdim=True)))
        ids[tied] = taken.nonzero()[:, 1].view(-1, k)
    order = scores.gather(1, ids).sort(dim=1, descending=True, stable=True)[1]
    return ids.gather(1, order)


def block_users(n_items: int, device: torch.device) -> int:
    """Return how many users are scored against all items at a time."""
    return max(1, BLOCK_VALUES[device.type == "cuda"] // n_items)


class Mask:
    """Pairs to be left out of a ranking, ready on `device`."""

    def __init__(self, pairs: Interactions, device: torch.device) -> None:
        self.keys, self.first = torch.from_numpy(pairs.keys()).to(device), pairs.indptr()

    def apply(self, scores: Tensor, low: int) -> None:
        """Write minus infinity into the scores (n, I) of users low..low + n - 1."""
        n, n_items = scores.shape
        here = self.keys[self.first[low] : self.first[low + n]] - low * n_items
        scores.view(-1).index_fill_(0, here, -torch.inf)


class Ranking:
    """Ranks all items for every user and compares with the user's items in `test`.

    Pairs in `masked` are left out of the ranking. What stays the same between evaluations is
    prepared once and lies on `device`.
    """

    def __init__(
        self, test: Interactions, masked: Sequence[Interactions], device: torch.device
    ) -> None:
        self.n_items, self.relevant = test.n_items, test.counts()
        self.test_keys = torch.from_numpy(test.keys()).to(device)
        self.masks = [Mask(pairs, device) for pairs in masked]
        self.device = device
        self.lists = torch.zeros(test.n_items, dtype=torch.int64, device=device)

    def per_user(self, score_block: ScoreBlock) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the users with at least one test item, (n,) int32, and each metric of theirs.

        score_block(low, high) gives scores (high - low, I) on `device`, in memory of their own
        that is written to. Metrics are those of `METRICS`, (n,) float32.
        """
        n_users, n_items = len(self.relevant), self.n_items
        depth, self.lists = min(max(CUTOFFS), n_items), torch.zeros_like(self.lists)
        hits = torch.zeros((n_users, depth), dtype=torch.bool, device=self.device)
        block = block_users(n_items, self.device)
        for low in range(0, n_users, block):
            high = min(low + block, n_users)
            if not self.relevant[low:high].any():
                continue
            scores = score_block(low, high)
            for mask in self.masks:
                mask.apply(scores, low)
            ranked = top_k(scores, depth)
            judged = torch.from_numpy(self.relevant[low:high] > 0).to(self.device)
            self.lists += ranked[judged, :RECOMMENDED].flatten().bincount(minlength=n_items)
            keys = torch.arange(low, high, device=self.device)[:, None] * n_items + ranked
            at = torch.searchsorted(self.test_keys, keys).clamp_(max=len(self.test_keys) - 1)
            hits[low:high] = self.test_keys[at] == keys
        users = np.flatnonzero(self.relevant)
        where = self.device if self.device.type == "cuda" else "cpu"  # MPS has no float64
        hits = hits.to(where)[torch.from_numpy(users).to(where)]
        relevant = torch.from_numpy(self.relevant[users]).to(where)
        return users.astype(np.int32), ranking_metrics(hits, relevant)

    def recommended(self, popularity: np.ndarray) -> dict[str, float]:
        """Describe the top 20 of the users that the last `per_user` judged: `concentration`."""
        return concentration(self.lists.cpu().numpy(), popularity)


def concentration(lists: np.ndarray, popularity: np.ndarray) -> dict[str, float]:
    """Return what is recommended, from the number of lists that each item is in, (I,) integers.

    coverage@20: the share of all items that are in some list; gini@20: the Gini coefficient of
    `lists` over all items, 0 where all are in equally many, towards 1 where few fill them all;
    popularity@20: the mean over recommended items of popularity (I,), their train users.
    """
    n, total = len(lists), lists.sum()
    ranks = np.arange(1, n + 1)
    return {
        "coverage@20": float(np.count_nonzero(lists) / n),
        "gini@20": float(((2 * ranks - n - 1) * np.sort(lists)).sum() / (n * total)),
        "popularity@20": float((lists * popularity).sum() / total),
    }


def on_test(split: Split, device: torch.device) -> Ranking:
    """Return the ranking by which a model is judged: of all but its train and validation items."""
    return Ranking(split.test, [split.train, split.valid], device)


def on_validation(split: Split, device: torch.device) -> Ranking:
    """Return the ranking by which an epoch or settings are picked under `heldout`."""
    return Ranking(split.valid, [split.train], device)


def ranking_metrics(hits: Tensor, relevant: Tensor) -> dict[str, np.ndarray]:
    """Return each metric of `METRICS` from hits (n, depth) bool, best first, and |test items| (n,).

    A user needs at least one test item. Where fewer than k items exist, all of them are ranked.
    """
    ranks = torch.arange(hits.shape[1], dtype=torch.float64, device=hits.device)
    discount = 1 / torch.log2(ranks + 2)
    gains, ideal = (hits * discount).cumsum(1), discount.cumsum(0)
    found = hits.cumsum(1)
    values = {}
    for k in CUTOFFS:
        at = min(k, hits.shape[1]) - 1
        values[f"recall@{k}"] = found[:, at] / relevant.double()
        values[f"ndcg@{k}"] = gains[:, at] / ideal[relevant.clamp(max=at + 1) - 1]
    return {name: value.float().cpu().numpy() for name, value in values.items()}


def means(values: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the mean of each per-user metric, accumulated in float64."""
    return {name: float(value.mean(dtype=np.float64)) for name, value in values.items()}
