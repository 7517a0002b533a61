"""Judge models by items shown at random: does a model rank what is liked of them first?

Items that users chose tell what they like among what they met; items shown at random tell it among
all, so that only these say whether debiasing debiases. A user's shown items are ranked by the
model's score, and nothing else is. Of n1 liked and n0 not liked ones with ranks r in ascending
order of score, equal scores sharing their mean rank,

    AUC = ( sum_liked r - n1 (n1 + 1) / 2 ) / (n1 n0),

which is the share of pairs of a liked and a not liked item in the right order, a tie counting half
(Mann and Whitney's U). NDCG@5 has binary gain, discount 1/log2(rank + 1) and is divided by the DCG
of min(5, n1) liked items at the top; equal scores are ordered by item id, as in `engine.ranking`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recloss.analysis.gains import RUN
from recloss.data.interactions import Interactions, Split
from recloss.files import ReclossError

CUTOFF = 5


def liked_of(shown: Interactions, test: Interactions) -> np.ndarray:
    """Return which shown pairs are liked, bool (nnz,): those of `test`, which are all shown."""
    liked = np.isin(shown.keys(), test.keys())
    if liked.sum() != len(test):
        raise ReclossError(
            f"{len(test) - liked.sum()} test pairs are not among the items shown at random; "
            "run recloss prepare again"
        )
    return liked


def per_user(shown: Interactions, liked: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """Return a row per user with shown items: user, auc, ndcg@5.

    shown: (nnz,) pairs; liked: bool (nnz,); scores: (nnz,). AUC is NaN of a user who likes all or
    none of the shown items, NDCG@5 of one who likes none.
    """
    frame = pd.DataFrame({"user": shown.users, "liked": liked, "score": scores})
    by_user = frame.groupby("user")["score"]
    place = by_user.rank(method="first", ascending=False)  # pairs are sorted by item
    gain = (frame["liked"] & (place <= CUTOFF)) / np.log2(place + 1)
    ranks = by_user.rank().where(frame["liked"], 0.0)
    sums = frame.assign(gain=gain, ranks=ranks).groupby("user")[["liked", "gain", "ranks"]].sum()
    n1 = sums["liked"].astype(float)
    n0 = frame.groupby("user").size() - n1
    best = np.cumsum([0, *1 / np.log2(np.arange(2, CUTOFF + 2))])  # by the number of hits
    ideal = best[n1.clip(upper=CUTOFF).astype(int)]
    # 0 / 0 of users who do not count is NaN.
    auc = (sums["ranks"] - n1 * (n1 + 1) / 2) / (n1 * n0)
    return pd.DataFrame({"auc": auc, "ndcg@5": sums["gain"] / ideal}).reset_index()


def scores_of_pairs(
    run: Path, metrics: dict[str, Any], split: Split, pairs: Interactions
) -> np.ndarray:
    """Return the scores (nnz,) float32 by which a run, given its metrics.json, ranks the pairs.

    A control, which learns nothing, is made again.
    """
    import torch  # and what needs it: tables and figures, which read what was judged, do not

    from recloss.analysis.scores import scores_of_run
    from recloss.engine.ranking import block_users, ranks_by_cosine
    from recloss.models.controls import CONTROLS

    loss, settings, found = metrics["loss"], metrics["settings"], []
    if loss in CONTROLS:
        block = CONTROLS[loss](split, metrics["seed"])
    else:
        block = scores_of_run(run, metrics, split.train, ranks_by_cosine(settings)).block
    step, first = block_users(pairs.n_items, torch.device("cpu")), pairs.indptr()
    for low in range(0, pairs.n_users, step):  # what is random depends on where a block begins
        high = min(low + step, pairs.n_users)
        mine = slice(first[low], first[high])
        found.append(block(low, high).numpy()[pairs.users[mine] - low, pairs.items[mine]])
    return np.concatenate(found)


def judge(run: Path, split: Split, shown: Interactions) -> pd.DataFrame:
    """Return a row per user with shown items: what run it is (`RUN`), user, auc, ndcg@5."""
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    scores = scores_of_pairs(run, metrics, split, shown)
    rows = per_user(shown, liked_of(shown, split.test), scores)
    for position, key in enumerate(RUN):
        rows.insert(position, key, metrics[key])
    return rows
