"""Which GPU a job takes where it sees several: one that no other job of this user has."""

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

_HELD: list[BinaryIO] = []  # open to the end of the process, and with them their locks


def take(device: str) -> str | None:
    """Let this process see one GPU alone, to its end; call it before PyTorch uses CUDA.

    device: that of the command line; `cpu` and `mps` take none. Returns the name by which CUDA
    knows the GPU, an index or a UUID out of CUDA_VISIBLE_DEVICES where that is set; None where
    there are not several or none is free, and nothing was changed.

    A GPU is held by a record lock on a file, which ends with the process however it ends, and which
    no process that it starts inherits.
    """
    names = _visible() if device in ("auto", "cuda") and sys.platform == "linux" else []
    if len(names) < 2:
        return None
    import fcntl

    folder = Path(tempfile.gettempdir(), f"recloss-gpus-{os.getuid()}")
    with contextlib.suppress(OSError):  # without such a folder, GPUs are shared
        folder.mkdir(mode=0o700, exist_ok=True)
        for name in names:
            file = (folder / quote(name, safe="")).open("ab")
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            _HELD.append(file)
            os.environ["CUDA_VISIBLE_DEVICES"] = name
            return name
    return None


def _visible() -> list[str]:
    if (said := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in said.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]  # asked without starting CUDA
