"""Full-ranking evaluation: Recall@k and NDCG@k of every user with at least one test item.

All items are ranked, the user's train items are left out, equal scores are ordered by item id.
Recall@k = hits / |test items|; NDCG@k has binary gain, discount 1/log2(rank + 1), and is divided by
the DCG of min(k, |test items|) hits at the top (the definitions behind the published numbers).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recloss.data import Interactions
from recloss.scores import cpu_kernels

CUTOFFS = (20, 50)
METRICS = tuple(f"{metric}@{k}" for k in CUTOFFS for metric in ("recall", "ndcg"))
BLOCK_VALUES = 2**24  # scores held at a time: 64 MB

ScoreBlock = Callable[[int, int], Tensor]


def dot_scores(users: Tensor, items: Tensor, cosine: bool) -> ScoreBlock:
    """Return a function giving the (high - low, I) scores of users low..high - 1.

    users (U, D), items (I, D). A user's norm does not change the ranking, so that cosine
    similarity only needs normalised items.
    """
    table = functional.normalize(items, dim=1) if cosine else items
    return lambda low, high: users[low:high] @ table.T


def top_k(scores: Tensor, k: int) -> Tensor:
    """Return the k best columns of each row, (rows, k) int64, equal scores by ascending column."""
    if scores.device.type == "cpu" and cpu_kernels() is not None:
        return torch.from_numpy(cpu_kernels().top_k(scores.contiguous().numpy(), k))
    values, ids = scores.topk(k, dim=1)
    ids = ids.sort(dim=1)[0]
    border = values[:, -1:]
    tied = (scores >= border).sum(1) > k
    if bool(tied.any()):
        # torch.topk leaves open which of several equal scores at the border it takes.
        rows, border = scores[tied], border[tied]
        above, equal = rows > border, rows == border
        taken = above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdim=True)))
        ids[tied] = taken.nonzero()[:, 1].view(-1, k)
    order = scores.gather(1, ids).sort(dim=1, descending=True, stable=True)[1]
    return ids.gather(1, order)


def per_user(
    score_block: ScoreBlock,
    test: Interactions,
    masked: Sequence[Interactions],
    device: torch.device,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rank all items for every user and compare with the test items.

    score_block(low, high) gives scores (high - low, I) on `device`, in memory of their own that is
    written to: pairs in `masked` are left out of the ranking. Returns the users with at least one
    test item, (n,) int32, and their values of each metric of `METRICS`, (n,) float32.
    """
    n_users, n_items = test.n_users, test.n_items
    relevant, test_keys = test.counts(), test.keys()
    pointers = [pairs.indptr() for pairs in masked]
    block = max(1, BLOCK_VALUES // n_items)
    depth = min(max(CUTOFFS), n_items)
    hits = np.zeros((n_users, depth), dtype=bool)
    for low in range(0, n_users, block):
        high = min(low + block, n_users)
        if not relevant[low:high].any():
            continue
        scores = score_block(low, high)
        for pairs, indptr in zip(masked, pointers, strict=True):
            part = slice(indptr[low], indptr[high])
            rows = torch.from_numpy(pairs.users[part].astype(np.int64) - low).to(device)
            columns = torch.from_numpy(pairs.items[part].astype(np.int64)).to(device)
            scores[rows, columns] = -torch.inf
        ranked = top_k(scores, depth).cpu().numpy()
        keys = np.arange(low, high, dtype=np.int64)[:, None] * n_items + ranked
        at = np.searchsorted(test_keys, keys).clip(max=len(test_keys) - 1)
        hits[low:high] = test_keys[at] == keys
    users = np.flatnonzero(relevant).astype(np.int32)
    return users, ranking_metrics(hits[users], relevant[users])


def ranking_metrics(hits: np.ndarray, relevant: np.ndarray) -> dict[str, np.ndarray]:
    """Return each metric of `METRICS` from hits (n, depth) bool, best first, and |test items| (n,).

    A user needs at least one test item. Where fewer than k items exist, all of them are ranked.
    """
    discount = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    gains, ideal = np.cumsum(hits * discount, axis=1), np.cumsum(discount)
    found = np.cumsum(hits, axis=1)
    values = {}
    for k in CUTOFFS:
        at = min(k, hits.shape[1]) - 1
        values[f"recall@{k}"] = (found[:, at] / relevant).astype(np.float32)
        best = ideal[np.minimum(relevant, at + 1) - 1]
        values[f"ndcg@{k}"] = (gains[:, at] / best).astype(np.float32)
    return values


def means(values: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the mean of each per-user metric, accumulated in float64."""
    return {name: float(value.mean(dtype=np.float64)) for name, value in values.items()}
