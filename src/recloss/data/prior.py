"""The class prior of each user: which share of all items the user likes, known or assumed."""

from typing import Any

import numpy as np

from recloss.data.interactions import Interactions
from recloss.files import ReclossError


def class_prior(
    train: Interactions, rule: dict[str, Any], truth: np.ndarray | None = None
) -> np.ndarray:
    """Return tau_u+ of every user, float32 (U,).

    rule: {"rule": "more", "k": K} for (|I_u+| + K) / |I|, {"rule": "share", "alpha": a} for
    (1 + a) |I_u+| / |I| (arXiv 2312.08520; |I_u+| counts train items), {"rule": "constant", "tau":
    t}, or {"rule": "truth"} for `truth` (U,), the true share of liked items. Raises `ReclossError`
    where a user's prior is 1 or more, and where the truth is not known.
    """
    share = train.counts() / train.n_items
    name = rule["rule"]
    if name == "more":
        prior = share + rule["k"] / train.n_items
    elif name == "share":
        prior = (1 + rule["alpha"]) * share
    elif name == "constant":
        prior = np.full(train.n_users, rule["tau"], float)
    elif truth is None:
        raise ReclossError(
            "prior: rule truth needs simulated data, with --truth; use rule more, share or constant"
        )
    else:
        prior = truth
    if len(beyond := np.flatnonzero(prior >= 1)):
        user = beyond[0]
        remedy = " and ".join(f"lower prior.{key}" for key in rule if key != "rule")
        raise ReclossError(f"prior: user {user} has a class prior of {prior[user]:.3g}; {remedy}")
    return prior.astype(np.float32)


def row_weights(train: Interactions, estimator: str) -> np.ndarray:
    """Return what a row of each user counts in `losses.debiased_mean`, float32 (U,).

    `per_user`: |I| / |I_u+|, so that every user counts alike; `per_pair`: |I| over the mean of
    |I_u+|, alike for all rows. A user without train items has no row.
    """
    counts = np.maximum(train.counts(), 1)
    if estimator == "per_pair":
        counts = np.full(train.n_users, len(train) / train.n_users)
    return (train.n_items / counts).astype(np.float32)
