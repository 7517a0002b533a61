"""The state of a run on disk: written whole or not at all, read if it is that very run's."""

from pathlib import Path
from typing import Any

import torch

from recloss.files import atomic


class Stopped(Exception):
    """A run was told to stop, and did.

    kept: the last epoch, or whatever it went on to, that is on disk; 0 where none is.
    """

    def __init__(self, kept: int, what: str = "epoch") -> None:
        where = f"after {what} {kept}" if kept else "from the start"
        super().__init__(f"told to stop; the next call goes on {where}")


def write(path: Path, fingerprint: str, state: dict[str, Any]) -> str | None:
    """Write tensors and text; return why that is impossible, as on a full disk, or None.

    Where it is, an earlier checkpoint stays as it is.
    """
    try:
        # To a path PyTorch would not say why it cannot write.
        with atomic(path) as temporary, temporary.open("wb") as file:
            torch.save(state | {"fingerprint": fingerprint}, file)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        return f"{path}: {str(cause.strerror).lower()}"
    return None


def read(path: Path, fingerprint: str, device: torch.device) -> dict[str, Any] | str:
    """Return the state that `write` wrote of the same run, else what is wrong with it."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        found = state["fingerprint"]
    except Exception as error:  # cut short, empty, of another program
        return f"{path} is unreadable ({type(error).__name__})"
    return state if found == fingerprint else f"{path} is of other settings, data or code"
