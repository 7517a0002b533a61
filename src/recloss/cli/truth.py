"""Judge runs on a simulated data set by its truth; write a CSV as `recloss certify` does."""

import argparse
import json
from pathlib import Path

import torch

from recloss.analysis.debiasing import write_rows
from recloss.analysis.truth import judge
from recloss.cli import options
from recloss.data.arrays import load_split, read_truth
from recloss.experiment.restore import published_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss truth`."""
    options.add_split(parser)
    parser.add_argument("--truth", type=Path, required=True, help="truth.npz of `recloss simulate`")
    options.add_judged(parser)


def run(arguments: argparse.Namespace) -> None:
    """Judge the runs."""
    a = arguments
    split, dataset = load_split(a.data), json.loads(a.manifest.read_text("utf-8"))["dataset"]
    liked = torch.from_numpy(read_truth(a.truth, split.train.n_items))
    rows = (
        entry
        for folder in a.runs
        for entry in published_rows(folder, a.published, a.out.name) or judge(folder, split, liked)
    )
    write_rows(a.out, ({"dataset": dataset} | entry for entry in rows))
