"""Random streams named by what they are for, so that no draw depends on another's order."""

import hashlib

import numpy as np


def derive(seed: int, purpose: str, *counters: int) -> int:
    """Return the 63-bit seed of the stream (seed, purpose, counters).

    Example: `derive(0, "negatives", epoch, step)`. Streams of different names are independent,
    so adding one never shifts another, and a resumed run draws what the unbroken one would have.
    """
    name = f"{seed}/{purpose}/" + "/".join(map(str, counters))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return a numpy generator on the stream (seed, purpose, counters)."""
    return np.random.Generator(np.random.Philox(derive(seed, purpose, *counters)))
