"""The time that a training run may take, from the size of its data and its settings."""

import math
from typing import Any

from recloss.experiment.memory import negatives
from recloss.experiment.schema import BACKBONE

# Seconds for each of D, about four times what docs/speed.md measures on two cores: a score of a
# step, a row of the tables, an edge of a layer, a score of a ranking.
SCORE, ROW, EDGE, RANKED = 2.4e-9, 4e-9, 8e-10, 1.2e-10
LOADING = 10  # minutes: a node's file system may be slow
LONGEST = 240  # a queue takes short jobs first, and a training that is cut off resumes


def minutes(counts: dict[str, int], settings: dict[str, Any], backbone: str = BACKBONE) -> int:
    """Return the minutes that a run may take to its last epoch on a CPU, 240 at most.

    counts: n_users, n_items, n_train. Gowalla's epoch with 800 negatives took 26 s where this says
    138 s, one of LightGCN with 3 layers 22 s where this says 116 s.
    """
    s, dim = settings, settings["dim"]
    step = SCORE * s["batch_size"] * (1 + negatives(s)) * dim
    step += ROW * (counts["n_users"] + counts["n_items"]) * dim
    if backbone != BACKBONE:
        step += EDGE * 2 * counts["n_train"] * s.get("layers", 0) * dim
    steps = math.ceil(counts["n_train"] / s["batch_size"])
    ranking = RANKED * counts["n_users"] * counts["n_items"] * dim / s["eval_every"]
    seconds = s["max_epochs"] * (steps * step + ranking)
    return min(LONGEST, LOADING + math.ceil(seconds / 60))
