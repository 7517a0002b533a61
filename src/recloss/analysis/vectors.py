"""The vectors that a run has kept."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recloss.files import ReclossError


def read_vectors(run: Path) -> tuple[Tensor, Tensor]:
    """Return the user vectors (U, D) and the item vectors (I, D) of the folder of a run."""
    try:
        with np.load(run / "vectors.npz", allow_pickle=False) as arrays:
            return torch.from_numpy(arrays["users"]), torch.from_numpy(arrays["items"])
    except FileNotFoundError:
        raise ReclossError(
            f"{run} has no vectors.npz, as runs taken from results/published; delete its "
            "metrics.json to train it again"
        ) from None
