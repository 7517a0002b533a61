"""Divide the interactions into train, validation and test as a protocol says.

`published` trains on all of train.txt and leaves validation empty: the best epoch is then picked on
test, as the published numbers do. `heldout` moves a part of each user's train items to validation,
or those that the data set says.
"""

from pathlib import Path
from typing import Any

import numpy as np

from recloss import seeds
from recloss.data.arrays import hash_arrays, pack, write_arrays
from recloss.data.interactions import Interactions, Split
from recloss.data.shares import shares
from recloss.files import ReclossError, write_json

PROTOCOLS = ("published", "heldout")


def split(
    train: Interactions,
    test: Interactions,
    protocol: str,
    validation: float = 0.1,
    seed: int = 0,
    valid: Interactions | None = None,
) -> Split:
    """Return the split of `protocol`, one of PROTOCOLS; `test` stays as it is.

    `heldout` moves `valid`, pairs of train, to validation; without it, the share `validation` of
    each user's train items (`shares`), drawn at random from the stream of `seed`.
    """
    if protocol not in PROTOCOLS:
        raise ReclossError(f"unknown protocol {protocol!r}; take one of {', '.join(PROTOCOLS)}")
    if protocol == "published":
        return Split(train, train.select(np.zeros(len(train), bool)), test)
    if valid is not None:
        if not len(valid):
            raise ReclossError(
                "no pair is left for validation; take a larger share or more data, or protocol "
                "published"
            )
        return Split(train.select(~np.isin(train.keys(), valid.keys())), valid, test)
    held = shares(train.counts(), validation, "validation")
    if not held.any():
        raise ReclossError("no user has train items to spare for validation; raise validation")
    return Split(*train.hold_out(held, seeds.generator(seed, "split")), test)


def write(
    out_dir: str | Path,
    parts: Split,
    dataset: str,
    protocol: str,
    validation: float,
    seed: int,
    source: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write split.npz and split.json, which describes it, to `out_dir`; return the latter.

    source: what the manifest of `prepare` says of where the data came from.
    """
    arrays = pack(train=parts.train, valid=parts.valid, test=parts.test)
    description = {
        "dataset": dataset,
        "n_users": parts.train.n_users,
        "n_items": parts.train.n_items,
        "n_train": len(parts.train),
        "n_valid": len(parts.valid),
        "n_test": len(parts.test),
        "density": parts.train.density + parts.valid.density + parts.test.density,
        "users_without_test": int((parts.test.counts() == 0).sum()),
        "items_without_train": parts.train.n_items - len(np.unique(parts.train.items)),
        "protocol": protocol,
        "validation": validation,
        "seed": seed,
        **({"source": source} if source else {}),
        "data_hash": hash_arrays(arrays),
    }
    write_arrays(Path(out_dir) / "split.npz", arrays)
    write_json(Path(out_dir) / "split.json", description)
    return description
