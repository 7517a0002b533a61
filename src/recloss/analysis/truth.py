"""Judge models trained on simulated data by the truth that the simulation knows.

Sampled negatives come from all items, and some of them are liked. Of a loss whose negative term is
a mean of f(y_uj), the three versions are compared per user: over the items truly not liked (what is
meant), over all items (what sampling estimates), and debiased with the true class prior tau+,
( mean_all f - tau+ mean_observed f ) / tau- (arXiv 2312.08517, after arXiv 2007.00224).
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recloss.analysis.certificates import row
from recloss.analysis.scores import scores_of_run
from recloss.data.interactions import Interactions, Split
from recloss.engine.ranking import Ranking, means, ranks_by_cosine

Term = Callable[[Tensor], Tensor]


def negative_term(loss: str, settings: dict[str, Any]) -> tuple[str, Term] | None:
    """Return the name and the function f of a model's negative term; None for BPR, a loss of pairs.

    Of the losses with a logarithm it is what stands inside: e^y, up to a factor.
    """
    base = loss.removeprefix("debiased_")
    if base == "bpr":
        return None
    if base == "ccl":
        return "[y - m]+", lambda y: (y - settings["margin"]).clamp(min=0)
    if base in ("mse", "ials", "ease"):
        return "y^2", torch.square
    return "e^y", lambda y: (y - y.max()).exp()


def biases(scores: Tensor, term: Term, observed: Tensor, liked: Tensor) -> tuple[float, float]:
    """Return the relative bias of the plain and of the debiased negative term, users averaged.

    scores (U, I); observed train pairs and truly liked pairs: bool (U, I). NaN where the term is
    zero on all that is not liked, as below a margin.
    """
    values = term(scores.double())

    def mean(mask: Tensor) -> Tensor:
        return (values * mask).sum(1) / mask.sum(1).clamp(min=1)

    tau = float(liked.double().mean())
    every, meant = values.mean(1), float(mean(~liked).mean())
    # Without observed items there is nothing to subtract.
    positive = torch.where(observed.any(1), mean(observed), every)
    debiased = (every - tau * positive) / (1 - tau)
    if meant == 0:
        return math.nan, math.nan
    return float(every.mean()) / meant - 1, float(debiased.mean()) / meant - 1


def scores_of(run: Path, metrics: dict[str, Any], train: Interactions, cosine: bool) -> Tensor:
    """Return the scores (U, I) of a run, divided by its temperature if it has one."""
    found = scores_of_run(run, metrics, train, cosine)
    scores = found.meant(found.block(0, train.n_users), 0)
    return scores / metrics["settings"].get("temperature", 1.0)


def judge(run: Path, split: Split, liked: Tensor) -> Iterator[dict[str, Any]]:
    """Yield the measurements of a run: ranking of the truly liked, bias of the negative term.

    liked: bool (U, I), the truth. What was observed for training is not ranked.
    """
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    train, loss = split.train, metrics["loss"]
    cosine = metrics["settings"].get("score") == "cosine"
    scores = ranked = scores_of(run, metrics, train, cosine)
    if cosine != ranks_by_cosine(metrics["settings"]):
        ranked = scores_of(run, metrics, train, cosine=False)
    observed = torch.zeros_like(liked)
    observed[torch.from_numpy(train.users).long(), torch.from_numpy(train.items).long()] = True
    hidden = (liked & ~observed).nonzero().numpy().astype(np.int32)
    truth = Interactions(hidden[:, 0], hidden[:, 1], train.n_users, train.n_items)
    ranking = Ranking(truth, [train], torch.device("cpu"))
    true = means(ranking.per_user(lambda low, high: ranked[low:high].clone())[1])
    for metric in ("recall@20", "ndcg@20"):
        sentence = f"{metric} on the observed test items"
        yield row(loss, f"observed {metric}", None, metrics[metric], sentence)
        sentence = f"{metric} on all truly liked items but those trained on"
        yield row(loss, f"true {metric}", None, true[metric], sentence)
    term = negative_term(loss, metrics["settings"])
    if term is not None:
        found = biases(scores, term[1], observed, liked)
        for kind, value in zip(("plain", "debiased"), found, strict=True):
            sentence = f"relative bias of the mean of {term[0]} over negatives, {kind}"
            yield row(loss, f"bias, {kind}", None, value, sentence)
