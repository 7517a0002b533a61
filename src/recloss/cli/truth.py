"""Judge runs on a simulated data set by its truth; write a CSV as `recloss certify` does."""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from recloss.analysis.debiasing import write_rows
from recloss.analysis.truth import judge
from recloss.cli import options
from recloss.data.arrays import load_split


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss truth`."""
    options.add_split(parser)
    parser.add_argument("--truth", type=Path, required=True, help="truth.npz of `recloss simulate`")
    options.add_judged(parser)


def run(arguments: argparse.Namespace) -> None:
    """Judge the runs."""
    a = arguments
    split, dataset = load_split(a.data), json.loads(a.manifest.read_text())["dataset"]
    with np.load(a.truth, allow_pickle=False) as arrays:
        bits = np.unpackbits(arrays["truth"], axis=1, count=split.train.n_items)
    liked = torch.from_numpy(bits.astype(bool))
    rows = (entry for folder in a.runs for entry in judge(folder, split, liked))
    write_rows(a.out, ({"dataset": dataset} | entry for entry in rows))
