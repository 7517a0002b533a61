"""Divide the interactions into train, validation and test as a protocol says.

`published` trains on all of train.txt and leaves validation empty: the best epoch is then picked on
test, as the published numbers do. `heldout` moves a part of each user's train items to validation.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recloss import seeds
from recloss.data import Interactions, hash_arrays, pack, read_arrays, unpack, write_arrays
from recloss.files import ReclossError, run_cli, write_json

PROTOCOLS = ("published", "heldout")


@dataclass(frozen=True)
class Split:
    """Three disjoint sets of pairs over the same users and items."""

    train: Interactions
    valid: Interactions
    test: Interactions


def split(
    train: Interactions, test: Interactions, protocol: str, validation: float = 0.1, seed: int = 0
) -> Split:
    """Return the split of `protocol`, one of PROTOCOLS; `test` stays as it is.

    `heldout` draws floor(validation n) of a user's n train items for validation, at least one
    where n >= 5, never all n: a user with train items keeps one. The draw depends on `seed` only.
    """
    if protocol not in PROTOCOLS:
        raise ReclossError(f"unknown protocol {protocol!r}; take one of {', '.join(PROTOCOLS)}")
    if protocol == "published":
        return Split(train, train.select(np.zeros(len(train), bool)), test)
    if not 0 < validation < 1:
        raise ReclossError(f"validation {validation} is not a share between 0 and 1; take 0.1")
    counts = train.counts()
    held = np.floor(validation * counts + 1e-9).astype(np.int64)  # 0.29 * 100 is below 29
    held = np.maximum(held, counts >= 5)
    held = np.minimum(held, np.maximum(counts - 1, 0))
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
) -> dict[str, Any]:
    """Write split.npz and split.json, which describes it, to `out_dir`; return the latter."""
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
        "data_hash": hash_arrays(arrays),
    }
    write_arrays(Path(out_dir) / "split.npz", arrays)
    write_json(Path(out_dir) / "split.json", description)
    return description


def load_split(path: str | Path) -> Split:
    """Read a split.npz."""
    return Split(*unpack(path, "train", "valid", "test"))


def main() -> None:
    """Split the arrays of the command line."""
    parser = argparse.ArgumentParser(prog="python -m recloss.split", description=__doc__)
    parser.add_argument("--data", required=True, help="interactions.npz of recloss.data prepare")
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.json beside it")
    parser.add_argument("--protocol", choices=PROTOCOLS, required=True)
    parser.add_argument("--validation", type=float, required=True, help="share of train items")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", required=True, help="folder for split.npz and split.json")
    a = parser.parse_args()
    train, test = read_arrays(a.data)
    try:
        manifest = json.loads(a.manifest.read_text())
    except (OSError, ValueError):
        raise ReclossError(f"{a.manifest}: no JSON to read; run recloss.data prepare") from None
    if manifest.get("data_hash") != hash_arrays(pack(train=train, test=test)):
        raise ReclossError(f"{a.manifest}: describes other data than {a.data}; prepare both again")
    parts = split(train, test, a.protocol, a.validation, a.seed)
    write(a.out, parts, manifest["dataset"], a.protocol, a.validation, a.seed)


if __name__ == "__main__":
    run_cli(main)
