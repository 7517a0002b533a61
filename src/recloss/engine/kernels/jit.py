"""How the CPU kernels are compiled."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numba

# Sums may be reordered, which lets them be vectorised; NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "arcp", "nsz"}
LANES = 16  # floats of the widest vector registers; narrower ones take several


def compiled(**options: Any) -> Callable:
    """Return numba's decorator `njit`, which keeps what it compiles where it can."""

    def decorate(function: Callable) -> Callable:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # neither the library's folder nor the home can be written to
            _say_slow()
            return numba.njit(**options)(function)

    return decorate


@functools.cache
def _say_slow() -> None:
    remedy = "set NUMBA_CACHE_DIR to a folder that can be written to"
    warnings.warn(f"every process compiles its kernels anew, a minute: {remedy}", stacklevel=2)


parallel = compiled(parallel=True, fastmath=_FAST, nogil=True, error_model="numpy")
inline = compiled(fastmath=_FAST, error_model="numpy", inline="always")
