"""Which device a run takes, and which kernels do its work: one place that chooses."""

import ctypes
import functools
import resource
import sys
import warnings
from types import ModuleType

import psutil
import torch
from torch import Tensor

from recloss.files import REMEDIES, ReclossError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def kernels_for(tensor: Tensor) -> ModuleType | None:
    """Return `kernels.cpu` or `kernels.cuda` for float32 work beside `tensor`, or None.

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
        if device == "cpu":
            from recloss.engine.kernels import cpu as kernels
        else:
            from recloss.engine.kernels import cuda as kernels
        kernels.check()
    except Exception as error:  # a numba or Triton that does not fit, a compiler that is missing
        if getattr(error, "errno", None) in REMEDIES:
            raise  # a full disk, on which they cannot be kept, is no reason for other numbers
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        warnings.warn(
            f"the {device} kernels are off and plain PyTorch runs instead, slower: {reason}",
            stacklevel=2,
        )
        return None
    return kernels


def use_threads(count: int) -> None:
    """Let PyTorch and the CPU kernels use `count` threads."""
    if _load("cpu") is not None:
        import numba

        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    # Last: as numba's kernels are loaded, they set the number of the OpenMP library that both use.
    torch.set_num_threads(count)


def keep_memory() -> None:
    """Let this process keep the memory that it frees, where the C library is glibc.

    By default a gradient as large as a table goes back to the system after every step and is taken
    again, zeroed page by page, in the next: a tenth of the step.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def pick_device(name: str) -> torch.device:
    """Return the torch device of `auto`, `cuda`, `mps` or `cpu`."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((kind for kind, there in available.items() if there), "cpu")
    if not available.get(name, True):
        raise ReclossError(f"device {name} is not available here; use device auto or cpu")
    return torch.device(name)


def available_memory(device: torch.device) -> float:
    """Return the bytes free on a device: of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory so far in MB (10^6 bytes): of the GPU in use, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
