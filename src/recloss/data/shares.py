"""How many of each user's pairs are held out at random, for validation or for the test."""

import numpy as np

from recloss.files import ReclossError


def shares(counts: np.ndarray, share: float, what: str) -> np.ndarray:
    """Return how many of each user's n pairs (counts, (U,)) are held out, int64 (U,).

    floor(share n), at least one where n >= 5, never all: a user with pairs keeps one.
    what: names the share in the fault that it is none.
    """
    if not 0 < share < 1:
        raise ReclossError(f"{what} {share} is not a share between 0 and 1; take 0.1")
    held = np.floor(share * counts + 1e-9).astype(np.int64)  # 0.29 * 100 is below 29
    return np.minimum(np.maximum(held, counts >= 5), np.maximum(counts - 1, 0))
