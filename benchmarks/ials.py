"""An iteration of our iALS beside irspack's."""

import argparse
import functools
import importlib.util
from typing import Any

import torch

from benchmarks.gowalla import gowalla
from benchmarks.race import race, timed
from recloss.models.ials import Solver, ials_problem, initial, irspack_step

IALS_DIMS = (64, 128)


def ials(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Race an iteration of our weighted iALS solver against irspack's plain one, on Gowalla."""
    if importlib.util.find_spec("irspack") is None:
        return []
    train, rows = gowalla(arguments).train, []
    device, settings = torch.device("cpu"), (0.1, 0.003, 1.0)
    for dim in IALS_DIMS:
        problem = ials_problem(train, *settings)
        start = initial(train, dim, 0.1, 0)
        steps = {
            "ours": Solver(problem).step,
            "irspack": irspack_step(train, *settings, start),
        }
        works = {
            name: timed(functools.partial(step, start), 1, device) for name, step in steps.items()
        }
        times = race(works, min(arguments.rounds, 5))
        rows += [{"device": "cpu", "name": n, "dim": dim, "seconds": times[n]} for n in times]
    return rows
