"""The memory that a run needs, from the size of its data and its settings."""

import math
from typing import Any

from recloss.experiment.schema import BACKBONE
from recloss.models.sizes import SYSTEM_VALUES, ease_memory

LIBRARIES_MB = 500  # Python, torch, numpy and scipy as loaded
EVALUATION_MB = 600  # blocks of scores, their order and the masks
# Bytes a parameter beyond those of matrix factorisation, of a step and of each layer kept for its
# gradient, as measured on Gowalla.
GRAPH_BYTES = {"lightgcn": (28, 0), "ngcf": (28, 64)}


def memory_mb(
    counts: dict[str, int], model: str, settings: dict[str, Any], backbone: str = BACKBONE
) -> int:
    """Return the memory that a run of a model needs on the host, in MB, rounded up to 100.

    counts: n_users, n_items, n_train. A loss: tables, gradients, Adam's two moments, the best and a
    saved copy (6 x 4 bytes a parameter), ids, scores and their gradients (some 40 bytes each), the
    pairs and their order. Measured on Gowalla: 0.9 GB where this says 1.3 GB (mf), 1.0 of 1.4
    (lightgcn), 1.6 of 2.3 (ngcf, 3 layers). A linear model: its tables twice and the systems solved
    at a time, or EASE's matrix.
    """
    tables = (counts["n_users"] + counts["n_items"]) * settings.get("dim", 0)
    if model == "ease":
        own = ease_memory(counts["n_items"])
    elif model == "ials":
        own = 8 * tables + 16 * SYSTEM_VALUES
    else:
        scores = negatives(settings) + settings.get("extra_positives", 0)
        own = 24 * tables + 40 * settings["batch_size"] * scores
        step, layer = GRAPH_BYTES.get(backbone, (0, 0))
        own += (step + layer * settings.get("layers", 0)) * tables
    pairs = 32 * counts["n_train"]
    return 100 * math.ceil(LIBRARIES_MB / 100 + EVALUATION_MB / 100 + (own + pairs) / 1e8)


def negatives(settings: dict[str, Any]) -> int:
    """Return the scores of negatives that a pair has, within one."""
    in_batch = settings["negatives_from"] == "batch"
    return settings["batch_size" if in_batch else "negatives"]
