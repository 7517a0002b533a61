"""How a step varies with the loss, N and D, and an epoch with the number of interactions."""

import argparse
import functools
from typing import Any

from benchmarks.race import LOSS, SHAPES, Steps, counts_of, devices, race, timed, trainer_of
from recloss.losses import LOSSES

GROWTH = {
    "negatives": (100, 200, 400, 800, 1600, 3200),
    "dim": (32, 64, 128, 256),
    "interactions": (800_000, 2_500_000, 8_000_000, 20_000_000),
}


def every_loss(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Race the steps of all losses."""
    rows = []
    for device in devices():
        counts = counts_of(SHAPES[0])
        works = {name: timed(Steps(trainer_of(counts, name, device)), 5, device) for name in LOSSES}
        times = race(works, arguments.rounds)
        rows += [{"device": device.type, "name": name, "seconds": times[name]} for name in times]
    return rows


def growth(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure how a step grows with N and D, and an epoch with the number of interactions.

    An epoch is its beginning (the order of the pairs) and its steps at their median.
    """
    rows = []
    for device in devices():
        counts = counts_of(SHAPES[0])
        for axis in ("negatives", "dim"):
            for value in GROWTH[axis]:
                work = timed(Steps(trainer_of(counts, LOSS, device, **{axis: value})), 5, device)
                times = race({"ours": work}, arguments.rounds)["ours"]
                rows.append({"device": device.type, "axis": axis, "value": value, "seconds": times})
        for value in GROWTH["interactions"]:
            trainer = trainer_of(counts, LOSS, device, value)
            begin = functools.partial(trainer.sampler.start, 1)
            works = {"begin": timed(begin, 1, device), "step": timed(Steps(trainer), 5, device)}
            times = race(works, arguments.rounds)
            seconds = {
                key: times["begin"][key] + trainer.steps * times["step"][key]
                for key in ("median", "low", "high")
            }
            seconds["rounds"] = arguments.rounds
            rows.append(
                {"device": device.type, "axis": "interactions", "value": value, "seconds": seconds}
            )
    return rows
