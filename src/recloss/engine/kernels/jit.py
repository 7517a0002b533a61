"""How the CPU kernels are compiled."""

import numba

# Sums may be reordered, which lets them be vectorised; NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "arcp", "nsz"}
parallel = numba.njit(parallel=True, cache=True, fastmath=_FAST, nogil=True, error_model="numpy")
inline = numba.njit(cache=True, fastmath=_FAST, error_model="numpy", inline="always")
LANES = 16  # floats of the widest vector registers; narrower ones take several
