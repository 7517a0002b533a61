"""The bounds of InfoNCE, MINE and BPR (arXiv 2312.08520, Eq. 11 to 13) at trained vectors.

With d_j = y_uj - y_ui over N negatives, for one pair; MINE and BPR in the form with the sum over j:

    InfoNCE  log(1 + sum_j e^{d_j})      MINE  log sum_j e^{d_j}      BPR  sum_j log(1 + e^{d_j})

    Eq. 11   InfoNCE, MINE, BPR  >=  a constant plus a positive multiple of E_j d_j  (Jensen)
    Eq. 12   max_j d_j  <=  InfoNCE, MINE  <=  max(0, max_j d_j) + log(N + 1)  (LogSumExp)
    Eq. 13   BPR  >=  sum_j max(0, d_j)

The lower side of Eq. 12 is max(0, max_j d_j) for InfoNCE. Every loss is evaluated at every bound:
which losses share one shows in the bounds that a loss does not obey.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recloss.analysis.vectors import read_vectors
from recloss.data.interactions import Interactions
from recloss.engine import sampling
from recloss.engine.scores import reference_scores
from recloss.losses import LOSSES

PAIRS = 2000
CHUNK = 250  # pairs scored at a time, against every item
ROUNDING = 1e-9  # of float64 sums, relative to the loss or 1
CLAIMED = {11: ("infonce", "mine", "bpr"), 12: ("infonce", "mine"), 13: ("bpr",)}

Bound = Callable[[Tensor], Tensor]  # d (B, N) -> (B,)


def _largest(d: Tensor) -> Tensor:
    return d.amax(1)


def _largest_or_zero(d: Tensor) -> Tensor:
    return d.amax(1).relu()


def _above_largest(d: Tensor) -> Tensor:
    return d.amax(1).relu() + math.log(d.shape[1] + 1)


def _hinges(d: Tensor) -> Tensor:
    return d.relu().sum(1)


# BPR has no form of Eq. 12 in the paper: it gets InfoNCE's, as InfoNCE and MINE get BPR's Eq. 13.
BOUNDS: dict[tuple[int, str], dict[str, Bound]] = {
    (11, "lower"): {
        "infonce": lambda d: math.log(1 + d.shape[1]) + d.sum(1) / (1 + d.shape[1]),
        "mine": lambda d: math.log(d.shape[1]) + d.mean(1),
        "bpr": lambda d: d.shape[1] * math.log(2) + d.sum(1) / 2,
    },
    (12, "lower"): {"infonce": _largest_or_zero, "mine": _largest, "bpr": _largest_or_zero},
    (12, "upper"): dict.fromkeys(("infonce", "mine", "bpr"), _above_largest),
    (13, "lower"): dict.fromkeys(("infonce", "mine", "bpr"), _hinges),
}


def summed_losses(pos: Tensor, neg: Tensor) -> dict[str, Tensor]:
    """Return InfoNCE, MINE and BPR of every pair in the form with the sum over j, (B,) each.

    pos (B,), neg (B, N). From the functions that are trained, which take the mean over j: MINE is
    log N and BPR a factor N away.
    """
    n = neg.shape[1]
    infonce, mine, bpr = (
        torch.vmap(LOSSES[name])(pos[:, None], neg[:, None]) for name in ("infonce", "mine", "bpr")
    )
    return {"infonce": infonce, "mine": math.log(n) + mine, "bpr": n * bpr}


def evaluate(pos: Tensor, neg: Tensor) -> dict[tuple[int, str, str], tuple[Tensor, Tensor]]:
    """Return, by equation, side and loss, the loss and the bound of every pair, (B,) each.

    pos (B,), neg (B, N): float64 scores of pairs and of their negatives, over the temperature.
    """
    losses, d = summed_losses(pos, neg), neg - pos[:, None]
    return {
        (*place, name): (losses[name], bound(d))
        for place, bounds in BOUNDS.items()
        for name, bound in bounds.items()
    }


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
    user_table, item_table = read_vectors(run)
    ids = torch.cat([items[:, None], drawn], dim=1)
    cosine, item_table = settings["score"] == "cosine", item_table.double()
    parts = zip(user_table[users].double().split(CHUNK), ids.split(CHUNK), strict=True)
    scores = torch.cat([reference_scores(u, item_table, i, cosine) for u, i in parts])
    scores = scores / settings.get("temperature", 1.0)
    return scores[:, 0], scores[:, 1:]


def rows(run: Path, train: Interactions, pairs: int = PAIRS, seed: int = 0) -> list[dict[str, Any]]:
    """Return a row per equation, side and loss at the vectors of a run.

    claimed: the paper says that the loss obeys the bound; violated: pairs that do not; slack and
    gap: how far the loss lies on the right side of it; above Eq. 11: where a lower bound is claimed
    beside that of Eq. 11, at how many pairs it is the higher of the two, which is the tighter.
    """
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    pos, neg = sampled_pairs(run, metrics["settings"], train, pairs, seed)
    values = evaluate(pos, neg)
    found = []
    for (equation, side, name), (loss, bound) in values.items():
        slack = loss - bound if side == "lower" else bound - loss
        claimed = name in CLAIMED[equation]
        rivals = claimed and side == "lower" and equation != 11
        loose = values[11, "lower", name][1]
        found.append(
            {
                "dataset": metrics["dataset"],
                "model": metrics["loss"],
                "equation": equation,
                "side": side,
                "inequality": name,
                "claimed": claimed,
                "pairs": len(pos),
                "negatives": neg.shape[1],
                "violated": int((slack < -ROUNDING * loss.abs().clamp(min=1)).sum()),
                "smallest slack": float(slack.min()),
                "mean loss": float(loss.mean()),
                "mean bound": float(bound.mean()),
                "mean gap": float(slack.mean()),
                "above Eq. 11": int((bound > loose).sum()) if rivals else None,
            }
        )
    return found
