"""What linear models hold at a time, for those who plan and need no PyTorch for it."""

SYSTEM_VALUES = 2**24  # of iALS's systems and gathered vectors that are solved at a time
EASE_MATRICES = 1.3  # of I x I float32 that EASE holds at its peak, blocks of scores included


def ease_memory(n_items: int) -> float:
    """Return the bytes that EASE takes at its peak."""
    return EASE_MATRICES * 4 * n_items**2
