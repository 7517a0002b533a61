"""How a command that trains begins and ends: threads, its device, the signal that stops it."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from recloss.cli import gpus

if TYPE_CHECKING:
    import torch


def device_for(arguments: argparse.Namespace, deterministic: bool) -> "torch.device":
    """Return the device of a command line, with this process set up to train on it."""
    import torch

    from recloss.engine.device import keep_memory, pick_device, use_threads

    use_threads(arguments.threads)
    keep_memory()
    gpus.take(arguments.device)
    device = pick_device(arguments.device)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS refuses
        torch.use_deterministic_algorithms(True)
    return device


def speaker(label: str) -> Callable[[str], None]:
    """Return what says a line of progress on stderr, with a label before it."""

    def say(line: str) -> None:
        with contextlib.suppress(OSError):  # who reads it may be gone, by the signal that ends this
            # One write, even under PYTHONUNBUFFERED: runs side by side share a file of progress.
            sys.stderr.write(f"[{label}] {line}\n")
            sys.stderr.flush()

    return say


@contextlib.contextmanager
def stopping(stop: Callable[[], None], say: Callable[[str], None]) -> Iterator[None]:
    """Call `stop` at SIGTERM; let the process die by that signal where the block ends by Stopped.

    So whoever sent it finds what it expects.
    """
    from recloss.checkpoint import Stopped

    before = signal.signal(signal.SIGTERM, lambda *_: stop())
    try:
        yield
    except Stopped as end:
        say(str(end))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)
