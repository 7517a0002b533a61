"""One run of a linear model: from a split and settings to scores, factors and a history."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from recloss.data.interactions import Split
from recloss.engine.device import available_memory, pick_device
from recloss.engine.ranking import ScoreBlock, dot_scores, means, on_test, on_validation
from recloss.models.ease import ease, gram
from recloss.models.ials import initial, plain_ials
from recloss.models.sizes import ease_memory

Say = Callable[[str], None]


class Fitted(NamedTuple):
    """A fitted model: its scores, its factors if it has such, a row of history an iteration."""

    scores: ScoreBlock
    factors: tuple[torch.Tensor, torch.Tensor] | None
    history: list[dict[str, Any]]


def device_for(model: str, name: str, n_items: int) -> torch.device:
    """Return the device to solve on: `auto` leaves a GPU on which EASE does not fit."""
    device = pick_device(name)
    if name == "auto" and model == "ease" and ease_memory(n_items) > available_memory(device):
        return torch.device("cpu")
    return torch.device("cpu") if device.type == "mps" else device  # MPS has no float64


def fit(
    model: str,
    split: Split,
    settings: dict[str, Any],
    seed: int,
    device: torch.device,
    say: Say = lambda line: None,
) -> Fitted:
    """Return `ials` or `ease` fitted to the train pairs, with all settings of its schema."""
    return MODELS[model](split, settings, seed, device, say)


def _ease(
    split: Split, settings: dict[str, Any], _seed: int, device: torch.device, _: Say
) -> Fitted:
    started = time.monotonic()
    scores = ease(gram(split.train, device), settings["reg"]).scores(split.train)
    seconds = time.monotonic() - started
    return Fitted(scores, None, [{"epoch": 1, "train_loss": "", "seconds": seconds}])


def _ials(
    split: Split, settings: dict[str, Any], seed: int, device: torch.device, say: Say
) -> Fitted:
    started, history = time.monotonic(), []

    def log(iteration: int, objective: float) -> None:
        seconds = time.monotonic() - started
        history.append({"epoch": iteration, "train_loss": objective, "seconds": seconds})
        say(f"iteration {iteration} objective {objective:.6g}")

    problem = (settings["alpha0"], settings["reg"], settings["nu"])
    start = initial(split.train, settings["dim"], settings["init_std"], seed, device)
    factors = plain_ials(split.train, *problem, start, settings["iterations"], log)
    return Fitted(dot_scores(*factors, cosine=False), factors, history)


MODELS = {"ials": _ials, "ease": _ease}


def evaluate(
    fitted: Fitted, split: Split, device: torch.device
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, float], list[dict[str, Any]]]:
    """Return `Ranking.per_user` and `Ranking.recommended` on test, and the completed history.

    As for a loss, the history has the metrics that settings may be picked by: on validation where
    there is one, else on test.
    """
    ranking = on_test(split, device)
    users, values = ranking.per_user(fitted.scores)
    recommended = ranking.recommended(split.train.item_counts())
    picked = values
    if len(split.valid.users):
        picked = on_validation(split, device).per_user(fitted.scores)[1]
    history = [
        row | dict.fromkeys(values, "") | {"seconds": round(row["seconds"], 3)}
        for row in fitted.history
    ]
    history[-1] |= means(picked)
    return users, values, recommended, history
