"""Which kernels do the work of a step on a device: one place that chooses, and warns once."""

import ctypes
import functools
import importlib
import sys
import warnings
from types import ModuleType

import torch
from torch import Tensor

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def kernels_for(tensor: Tensor) -> ModuleType | None:
    """Return `kernels_cpu` or `kernels_cuda` for float32 work beside `tensor`, or None.

    None means that the plain PyTorch beside each caller does the work: on other devices, in other
    float types, and, after one warning, where the kernels cannot run.
    """
    if tensor.is_floating_point() and tensor.dtype != torch.float32:
        return None
    return _load(tensor.device.type)


@functools.cache
def _load(device: str) -> ModuleType | None:
    if device not in ("cpu", "cuda"):
        return None
    try:
        kernels = importlib.import_module(f"recloss.kernels_{device}")
        kernels.check()
    except Exception as error:  # a numba or Triton that does not fit, a compiler that is missing
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        warnings.warn(
            f"the {device} kernels are off and plain PyTorch runs instead, slower: {reason}",
            stacklevel=2,
        )
        return None
    return kernels


def use_threads(count: int) -> None:
    """Let PyTorch and the CPU kernels use `count` threads."""
    torch.set_num_threads(count)
    if _load("cpu") is not None:
        import numba

        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))


def keep_memory() -> None:
    """Let this process keep the memory that it frees, where the C library is glibc.

    By default a gradient as large as a table goes back to the system after every step and is taken
    again, zeroed page by page, in the next: a tenth of the step.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
