"""The lower bounds that InfoNCE, MINE and BPR share, evaluated at trained vectors.

With d_j = y_uj - y_ui over N negatives (arXiv 2312.08520; Jensen's inequality and convexity):

    InfoNCE        >=  log(1 + N) + 1 / (1 + N) sum_j d_j
    MINE           >=  1 / N sum_j d_j
    BPR, mean_j    >=  log 2 + 1 / (2 N) sum_j d_j

each a constant plus a positive multiple of the same sum: what relates the three losses.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recloss.data.interactions import Interactions
from recloss.engine import sampling
from recloss.engine.scores import reference_scores
from recloss.losses import LOSSES

PAIRS = 2000
ROUNDING = 1e-9  # of float64 sums, relative to the loss or 1
BOUNDS: dict[str, Callable[[Tensor], Tensor]] = {
    "infonce": lambda d: math.log(1 + d.shape[1]) + d.sum(1) / (1 + d.shape[1]),
    "mine": lambda d: d.mean(1),
    "bpr": lambda d: math.log(2) + d.mean(1) / 2,
}


def evaluate(pos: Tensor, neg: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each loss and its bound for every pair, (B,) float64.

    pos (B,), neg (B, N): the scores of pairs and of their negatives, divided by the temperature.
    """
    found = {}
    for name, bound in BOUNDS.items():
        losses = [LOSSES[name](pos[k : k + 1], neg[k : k + 1]) for k in range(len(pos))]
        found[name] = torch.stack(losses), bound(neg - pos[:, None])
    return found


def sampled_pairs(
    run: Path, settings: dict[str, Any], train: Interactions, pairs: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the scores of train pairs (B,) and of N negatives each (B, N) under a run's vectors.

    pairs: how many are drawn; the negatives are uniform over all items.
    """
    generator = sampling.stream(seed, "bounds")
    chosen = torch.randperm(len(train), generator=generator)[:pairs].numpy()
    users = torch.from_numpy(train.users[chosen]).long()
    items = torch.from_numpy(train.items[chosen]).long()
    negatives = settings["negatives"]
    drawn = torch.randint(train.n_items, (len(users), negatives), generator=generator)
    with np.load(run / "vectors.npz", allow_pickle=False) as arrays:
        user_table, item_table = (torch.from_numpy(arrays[name]) for name in ("users", "items"))
    ids = torch.cat([items[:, None], drawn], dim=1)
    cosine = settings["score"] == "cosine"
    scores = reference_scores(user_table[users].double(), item_table.double(), ids, cosine)
    scores = scores / settings.get("temperature", 1.0)
    return scores[:, 0], scores[:, 1:]


def rows(run: Path, train: Interactions, pairs: int = PAIRS, seed: int = 0) -> list[dict[str, Any]]:
    """Return a row per inequality at the vectors of a run: how many pairs violate it, how near."""
    metrics = json.loads((run / "metrics.json").read_text())
    pos, neg = sampled_pairs(run, metrics["settings"], train, pairs, seed)
    found = []
    for name, (loss, bound) in evaluate(pos, neg).items():
        slack = loss - bound
        found.append(
            {
                "dataset": metrics["dataset"],
                "model": metrics["loss"],
                "inequality": name,
                "pairs": len(pos),
                "negatives": neg.shape[1],
                "violated": int((slack < -ROUNDING * loss.abs().clamp(min=1)).sum()),
                "smallest slack": float(slack.min()),
                "mean loss": float(loss.mean()),
                "mean bound": float(bound.mean()),
            }
        )
    return found
