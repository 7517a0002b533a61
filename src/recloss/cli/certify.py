"""Certify, on one data set, that iALS and EASE absorb debiasing; write a CSV."""

import argparse
import json
from pathlib import Path

from recloss.analysis.certificates import Ials
from recloss.analysis.debiasing import certify, write_rows
from recloss.cli import options
from recloss.data.arrays import load_split
from recloss.engine.device import use_threads
from recloss.experiment.schema import default_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss certify`."""
    options.add_split(parser)
    parser.add_argument("--out", type=Path, required=True, help="the CSV to write")
    parser.add_argument("--c", type=float, nargs="*", default=[1.5, 3.0], help="c of the theorems")
    parser.add_argument("--tau", type=float, nargs="*", default=[0.001, 0.01], help="tau+")
    parser.add_argument("--kappa", type=float, nargs="*", default=[0.5, 2.0])
    parser.add_argument("--ials", metavar="JSON", help='as {"alpha0": 0.1, "reg": 0.003, ...}')
    parser.add_argument("--ease", metavar="JSON", help='as {"reg": 200}')
    parser.add_argument("--iterations", type=int, default=4, help="of iALS on either side")
    parser.add_argument("--columns", type=int, default=100, help="of EASE's weights, looked at")
    parser.add_argument("--seed", type=int, default=0)
    options.add_threads(parser)


def run(arguments: argparse.Namespace) -> None:
    """Certify the models given."""
    a = arguments
    use_threads(a.threads)
    split, dataset = load_split(a.data), json.loads(a.manifest.read_text("utf-8"))["dataset"]
    ials = reg = None
    if a.ials is not None:
        settings = default_settings("ials") | json.loads(a.ials)
        ials = Ials(*(settings[name] for name in Ials._fields))
    if a.ease is not None:
        reg = (default_settings("ease") | json.loads(a.ease))["reg"]
    values = (a.c, a.tau, a.kappa)
    rows = certify(split, ials, reg, *values, a.iterations, a.columns, a.seed)
    write_rows(a.out, ({"dataset": dataset} | entry for entry in rows))
