"""Rank by a control, item popularity or at random, and write the files of a training run."""

import argparse
import json
import time
from pathlib import Path

import torch

from recloss.cli import options
from recloss.data.arrays import load_split
from recloss.engine.device import peak_memory_mb, use_threads
from recloss.engine.ranking import means, on_test
from recloss.experiment import record
from recloss.experiment.code import code_hash
from recloss.experiment.schema import CONTROL
from recloss.models.controls import CONTROLS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss control`."""
    parser.add_argument("control", choices=CONTROLS)
    options.add_split(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")


def run(arguments: argparse.Namespace) -> None:
    """Rank, evaluate, record."""
    a = arguments
    use_threads(a.threads)
    manifest, split = json.loads(a.manifest.read_text("utf-8")), load_split(a.data)
    started, cpu = time.monotonic(), torch.device("cpu")
    scores = CONTROLS[a.control](split, a.seed)
    ranking = on_test(split, cpu)
    users, values = ranking.per_user(scores)
    seconds = time.monotonic() - started
    identity = record.identity(
        manifest, CONTROL, a.control, "base", a.seed, {}, code_hash(__name__)
    )
    metrics = record.metrics_of(
        identity,
        values,
        ranking.recommended(split.train.item_counts()),
        "cpu",
        best_epoch=0,
        epochs=0,
        train_seconds=0.0,
        eval_seconds=seconds,
        peak_memory_mb=peak_memory_mb(cpu),
        threads=a.threads,
    )
    history = [{"epoch": 0} | means(values) | {"seconds": round(seconds, 3)}]
    record.write_run(a.out, metrics, history, users, values)
