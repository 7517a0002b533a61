"""Rankings that learn nothing: item popularity and a random order, the floor of every table."""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from recloss import config, record, seeds
from recloss.evaluate import Ranking, ScoreBlock, means
from recloss.files import run_cli
from recloss.kernels import use_threads
from recloss.split import Split, load_split


def popularity(split: Split, seed: int) -> ScoreBlock:
    """Score every item by its number of train interactions; the seed is not used."""
    scores = torch.from_numpy(split.train.item_counts()).float()
    return lambda low, high: scores.repeat(high - low, 1)


def random(split: Split, seed: int) -> ScoreBlock:
    """Score every pair by a uniform number from the stream (seed, "control", block)."""
    n_items = split.train.n_items

    def block(low: int, high: int) -> torch.Tensor:
        generator = seeds.generator(seed, "control", low)
        return torch.from_numpy(generator.random((high - low, n_items), dtype=np.float32))

    return block


CONTROLS = {"popularity": popularity, "random": random}


def main() -> None:
    """Rank by a control and write the files of a training run."""
    p = argparse.ArgumentParser(prog="python -m recloss.controls", description=main.__doc__)
    p.add_argument("control", choices=CONTROLS)
    p.add_argument("--data", type=Path, required=True, help="split.npz written by recloss.split")
    p.add_argument("--manifest", type=Path, required=True, help="split.json beside it")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--out", type=Path, required=True, help="folder for the results")
    arguments = p.parse_args()
    use_threads(arguments.threads)
    manifest = json.loads(arguments.manifest.read_text())
    split = load_split(arguments.data)
    started = time.monotonic()
    scores = CONTROLS[arguments.control](split, arguments.seed)
    masked = [split.train, split.valid]
    users, values = Ranking(split.test, masked, torch.device("cpu")).per_user(scores)
    seconds = time.monotonic() - started
    identity = record.identity(
        manifest,
        config.CONTROL,
        arguments.control,
        "base",
        arguments.seed,
        {},
        record.CONTROL_SOURCES,
    )
    metrics = record.metrics_of(
        identity,
        values,
        "cpu",
        best_epoch=0,
        epochs=0,
        train_seconds=0.0,
        eval_seconds=seconds,
        peak_memory_mb=record.peak_memory_mb(),
        threads=arguments.threads,
    )
    history = [{"epoch": 0} | means(values) | {"seconds": round(seconds, 3)}]
    record.write_run(arguments.out, metrics, history, users, values)


if __name__ == "__main__":
    run_cli(main)
