"""Generate a data set whose true preferences and exposure are known, as text and as truth.npz."""

import argparse
import inspect
from pathlib import Path

import numpy as np

from recloss.data.arrays import write_arrays
from recloss.data.simulate import simulate, write_text
from recloss.files import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss simulate`: the parameters of `simulate`."""
    parser.epilog = inspect.getdoc(simulate)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    for name, parameter in inspect.signature(simulate).parameters.items():
        flag = f"--{name.replace('_', '-')}"
        default = None if parameter.default is parameter.empty else parameter.default
        given = {"required": True} if default is None else {"default": default}
        parser.add_argument(flag, type=parameter.annotation, **given)


def run(arguments: argparse.Namespace) -> None:
    """Simulate, and write four files."""
    parameters = dict(vars(arguments))
    out = parameters.pop("out")
    simulation = simulate(**parameters)
    write_text(out / "train.txt", simulation.train)
    write_text(out / "test.txt", simulation.test)
    truth = np.packbits(simulation.truth, axis=1)
    write_arrays(out / "truth.npz", {"truth": truth, "propensity": simulation.propensity})
    write_json(out / "simulation.json", simulation.summary())
