"""From two text files to arrays and a manifest that describes them."""

from pathlib import Path

import numpy as np

from recloss.data.arrays import hash_arrays, pack, write_arrays
from recloss.data.parse import load
from recloss.data.sources import checksum, rows_of
from recloss.files import write_json


def prepare(
    name: str, train_path: Path, test_path: Path, out_dir: Path, published: bool = False
) -> dict:
    """Validate two files, write interactions.npz and manifest.json to `out_dir`; return the latter.

    `published` holds the files to the counts that sources.csv declares for `name`. What is written
    depends on nothing but the name and the two files' content.
    """
    train, test = load(train_path, test_path, rows_of(name) if published else None)
    arrays = pack(train=train, test=test)
    manifest = {
        "dataset": name,
        "n_users": train.n_users,
        "n_items": train.n_items,
        "n_train": len(train),
        "n_test": len(test),
        "density": train.density + test.density,
        "users_without_test": int((test.counts() == 0).sum()),
        "items_without_train": train.n_items - len(np.unique(train.items)),
        "sha256": {"train": checksum(train_path), "test": checksum(test_path)},
        "data_hash": hash_arrays(arrays),
    }
    write_arrays(Path(out_dir) / "interactions.npz", arrays)
    write_json(Path(out_dir) / "manifest.json", manifest)
    return manifest
