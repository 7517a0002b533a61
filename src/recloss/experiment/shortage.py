"""What a run that ran out of memory needed, and what to change."""

import contextlib
from collections.abc import Iterator
from typing import Any

from recloss.experiment.schema import BACKBONE
from recloss.files import ReclossError, memory_asked


@contextlib.contextmanager
def said(
    counts: dict[str, int],
    model: str,
    settings: dict[str, Any],
    device: str,
    backbone: str = BACKBONE,
) -> Iterator[None]:
    """Turn an error of memory in the block into one line; counts, model, settings: `memory_mb`'s.

    device: the type of the one that computes.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if (asked := memory_asked(error)) is None:
            raise
        from recloss.experiment.memory import memory_mb  # for this error only

        needed = memory_mb(counts, model, settings, backbone) / 1e3
        smaller = [
            name for name in ("batch_size", "negatives", "dim", "layers") if name in settings
        ]
        change = f"lower {', '.join(smaller)}, or take" if smaller else "take"
        raise ReclossError(
            f"out of memory on {device}{asked}; this run needs about {needed:.1f} GB: {change} a "
            "machine with more or another device"
        ) from None
