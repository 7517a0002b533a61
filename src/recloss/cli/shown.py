"""Judge runs by items shown at random; write AUC and NDCG@5 of each user as CSV."""

import argparse
from pathlib import Path

import pandas as pd

from recloss.analysis.shown import judge
from recloss.cli import options
from recloss.data.arrays import load_split, unpack
from recloss.experiment.restore import published_rows
from recloss.files import atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss shown`."""
    options.add_split(parser, manifest=False)
    parser.add_argument(
        "--shown", type=Path, required=True, help="interactions.npz of `recloss prepare`"
    )
    options.add_judged(parser)


def run(arguments: argparse.Namespace) -> None:
    """Judge the runs."""
    a = arguments
    split, (shown,) = load_split(a.data), unpack(a.shown, "shown")
    found = []
    for folder in a.runs:
        rows = pd.DataFrame(published_rows(folder, a.published, a.out.name))
        found.append(judge(folder, split, shown) if rows.empty else rows)
    with atomic(a.out) as temporary:
        pd.concat(found, ignore_index=True).to_csv(temporary, index=False)
