"""Evaluate the bounds of InfoNCE, MINE and BPR at the vectors of runs; write a CSV."""

import argparse
import csv

from recloss.analysis.bounds import rows
from recloss.cli import options
from recloss.data.arrays import load_split
from recloss.experiment.restore import published_rows
from recloss.files import atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss bounds`."""
    options.add_split(parser, manifest=False)
    options.add_judged(parser)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate the bounds."""
    a, found = arguments, []
    train = load_split(a.data).train
    for folder in a.runs:
        found += published_rows(folder, a.published, a.out.name) or rows(folder, train)
    with (
        atomic(a.out) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)
