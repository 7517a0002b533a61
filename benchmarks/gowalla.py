"""What a user waits for on Gowalla: the start, an epoch, an evaluation."""

import argparse
import functools
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.race import LOSS, Steps, devices, race, settings_of, spread, timed
from recloss.data.interactions import Split
from recloss.data.parse import load
from recloss.data.split import split, write
from recloss.engine.ranking import block_users
from recloss.files import ReclossError
from recloss.train import Trainer

# SimpleX's loss, and BPR; at last with LightGCN's propagation, in the batches of its authors.
PEER_WORK = (
    ("mf", "ccl", {"negatives": 800}),
    ("mf", "bpr", {"negatives": 800}),
    ("mf", "bpr", {"negatives": 1}),
    ("lightgcn", "bpr", {"negatives": 1, "batch_size": 2048, "score": "dot", "layers": 3}),
)


def gowalla(arguments: argparse.Namespace) -> Split:
    """Return Gowalla's published split, read from the folder --data."""
    if arguments.data is None:
        raise ReclossError(f"the part {arguments.part} needs --data, the folder of Gowalla's files")
    folder = arguments.data
    return split(*load(folder / "train.txt", folder / "test.txt"), "published")


def evaluation(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Race the evaluation of all users of Gowalla against its matrix product alone."""
    rows, parts = [], gowalla(arguments)
    for device in devices():
        trainer = Trainer(parts, LOSS, settings_of(LOSS), 0, device)
        users, items = (table.detach() for table in trainer.model())
        block = block_users(len(items), device)

        def product(users=users, items=items, block=block) -> None:
            for low in range(0, len(users), block):
                torch.mm(users[low : low + block], items.T)

        works = {
            "ours": timed(functools.partial(trainer.evaluate, on_test=True), 1, device),
            "product": timed(product, 1, device),
        }
        times = race(works, min(arguments.rounds, 7))
        rows += [{"device": device.type, "name": name, "seconds": times[name]} for name in times]
    return rows


def startup(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure `recloss train` on Gowalla from its call to its first step."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), gowalla(arguments), "gowalla", "published", 0.1, 0)
        command = [sys.executable, "-m", "recloss", "train", "--loss", LOSS, "--device", "cpu"]
        command += ["--data", f"{folder}/split.npz", "--manifest", f"{folder}/split.json"]
        command += ["--out", folder, "--threads", str(torch.get_num_threads())]
        for _ in range(6):
            started = time.perf_counter()
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
                line = process.stderr.readline()
                seconds.append(time.perf_counter() - started)
                process.kill()
            if "first step" not in line:
                raise ReclossError(f"{' '.join(command)} failed: {line.strip()}")
    return [{"device": "cpu", "name": "first step", "seconds": spread(seconds[1:])}]


def epochs(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure an epoch of Gowalla at the work of the peers, who never draw a user's train items.

    An epoch is its steps at their median; evaluation is not part of it.
    """
    rows, parts = [], gowalla(arguments)
    for device in devices():
        for backbone, loss, changes in PEER_WORK:
            settings = settings_of(loss, exclude_positives=True, **changes)
            steps = Steps(Trainer(parts, loss, settings, 0, device, backbone=backbone))
            seconds = race({"ours": timed(steps, 5, device)}, arguments.rounds)["ours"]
            for key in ("median", "low", "high"):
                seconds[key] *= steps.trainer.steps
            row = {"device": device.type, "backbone": backbone, "name": loss}
            row["negatives"] = settings["negatives"]
            rows.append(row | {"seconds": seconds})
    return rows
