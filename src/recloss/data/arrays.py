"""Interactions as files of arrays: written whole, read without pickle, hashed by content."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from recloss.data.interactions import Interactions, Split
from recloss.files import ReclossError, atomic


def pack(**sets: Interactions) -> dict[str, np.ndarray]:
    """Return {<set>_users, <set>_items, ..., n_users, n_items} of sets over common ids."""
    arrays = {}
    for name, found in sets.items():
        arrays |= {f"{name}_users": found.users, f"{name}_items": found.items}
    return arrays | {"n_users": np.int64(found.n_users), "n_items": np.int64(found.n_items)}


def hash_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """Return a sha256 over the names, types, shapes and values of arrays."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode() + array.tobytes())
    return digest.hexdigest()


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed .npz atomically; equal arrays make equal bytes."""
    with atomic(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def unpack(path: str | Path, *names: str) -> tuple[Interactions, ...]:
    """Read the named sets back from a file of `pack`'s arrays."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            counts = int(arrays["n_users"]), int(arrays["n_items"])
            pairs = [(arrays[f"{name}_users"], arrays[f"{name}_items"]) for name in names]
    except FileNotFoundError:
        raise ReclossError(f"{path}: no such file; make it with recloss prepare") from None
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        what = f"has no {' and '.join(names)} arrays"
        raise ReclossError(f"{path}: {what}; delete it and make it again") from None
    return tuple(Interactions(users, items, *counts) for users, items in pairs)


def read_truth(path: str | Path, n_items: int) -> np.ndarray:
    """Return which items each user truly likes, bool (U, I), from a truth.npz of `simulate`."""
    with np.load(path, allow_pickle=False) as arrays:
        return np.unpackbits(arrays["truth"], axis=1, count=n_items).astype(bool)


def read_sets(path: str | Path) -> dict[str, Interactions]:
    """Return the sets of an interactions.npz by name: train, test and, if it has it, valid."""
    names = []
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            names = [
                name[:-6] for name in arrays.files if name.endswith("_users") and name != "n_users"
            ]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        pass  # `unpack` says what is wrong
    names = names or ["train", "test"]
    return dict(zip(names, unpack(path, *names), strict=True))


def load_split(path: str | Path) -> Split:
    """Read a split.npz."""
    return Split(*unpack(path, "train", "valid", "test"))
