"""How everything here is measured, and at which settings.

Rivals are measured in turns, round by round, so that what slows the machine slows all of them;
each figure is the median of the rounds. Rows of a device that is not there are absent.
"""

import argparse
import contextlib
import functools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from recloss.engine.device import use_threads
from recloss.experiment import plan
from recloss.experiment.schema import default_settings
from recloss.train import Trainer

SETTINGS = {"batch_size": 512, "negatives": 800, "dim": 64}  # and cosine: the targets' shape
LOSS = "mine_plus"
SHAPES = ("gowalla", "amazon-book")


def spread(seconds: list[float]) -> dict[str, float]:
    """Return the median of repeated measurements with their quartiles, and how many they are."""
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high, "rounds": len(seconds)}


def race(works: dict[str, Callable[[], float]], rounds: int) -> dict[str, dict[str, float]]:
    """Return the `spread` of the seconds that each work says, called in turns, once before."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(work())
    return {name: spread(values) for name, values in times.items()}


def timed(work: Callable[[], object], calls: int, device: torch.device) -> Callable[[], float]:
    """Return a function that makes `calls` calls of `work` and says the seconds of one."""

    def measure() -> float:
        _wait(device)
        started = time.perf_counter()
        for _ in range(calls):
            work()
        _wait(device)
        return (time.perf_counter() - started) / calls

    return measure


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def devices() -> list[torch.device]:
    """Return the CPU and, where there is one, the CUDA device."""
    names = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return [torch.device(name) for name in names]


@contextlib.contextmanager
def other_process(threads: int) -> Iterator[Callable[..., Any]]:
    """Yield a function that calls another in a process of its own, which runs as others' do.

    There the allocator gives memory back as by default: see `device.keep_memory`.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, initializer=use_threads, initargs=(threads,)) as pool:
        yield pool.apply


def counts_of(name: str) -> dict[str, int]:
    """Return n_users, n_items, n_train of a published data set."""
    return plan.counts_of({"name": name})


def settings_of(loss: str, **changes: Any) -> dict[str, Any]:
    """Return the settings of a loss: the schema's defaults, the benchmark's shape, `changes`."""
    defaults = default_settings(loss)
    prior = {"prior": plan.ANY_PRIOR} if "prior" in defaults else {}
    return defaults | SETTINGS | prior | changes


def trainer_of(
    counts: dict[str, int],
    loss: str,
    device: torch.device,
    n_train: int = 100 * 512,
    **changes: Any,
) -> Trainer:
    """Return a trainer on random pairs."""
    return Trainer(plan.stand_in(counts, n_train), loss, settings_of(loss, **changes), 0, device)


class Steps:
    """Calls take the whole steps of one epoch of the trainer after another."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.number = trainer, 0
        self.whole = len(trainer.split.train) // trainer.settings["batch_size"]

    def __call__(self) -> None:
        epoch, step = divmod(self.number, self.whole)
        if step == 0:
            self.trainer.sampler.start(1 + epoch)
        self.trainer.full_step(step)
        self.number += 1


def beside_field(
    arguments: argparse.Namespace,
    device: torch.device,
    trainer: Trainer,
    calls: int,
    field: Callable[[Path, torch.device], float],
) -> list[dict[str, Any]]:
    """Race `calls` steps of a trainer at a time against a step as the field writes it.

    field (folder of the data, device) says its seconds, in a process of its own.
    """
    with other_process(arguments.threads) as apply:
        works = {
            "ours": timed(Steps(trainer), calls, device),
            "field": functools.partial(apply, field, (arguments.data, device)),
        }
        times = race(works, arguments.rounds)
    return [{"device": device.type, "name": name, "seconds": times[name]} for name in times]
