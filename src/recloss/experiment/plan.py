"""The plan of an experiment, before anything expensive starts: runs, time, memory, disk.

The time is not looked up but measured: a few steps of every shape on the device found.
"""

import functools
import math
import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from recloss.data import prepare, simulate, sources
from recloss.data.interactions import Interactions, Split
from recloss.engine.device import keep_memory, pick_device, use_threads
from recloss.engine.ranking import CUTOFFS
from recloss.experiment.memory import memory_mb, negatives
from recloss.experiment.runs import Run, Study, every_run, studies
from recloss.experiment.schema import LINEAR
from recloss.files import ReclossError
from recloss.models.ease import ease
from recloss.models.ials import Solver, ials_problem, initial
from recloss.train import Trainer, duration

# A step takes as long whatever it is, and a user of random pairs may have more of them than items.
ANY_PRIOR = {"rule": "constant", "tau": 0.001}
STEPS = 4  # measured per shape, after as many to warm up; of a large shape fewer
LARGE = 2e8  # products of a step
LARGE_DIM = 256  # of iALS, whose time grows as the cube
SMALLER = "config/gowalla.yaml (hours) or config/demo.yaml (minutes)"


def counts_of(entry: dict[str, Any]) -> dict[str, int]:
    """Return n_users, n_items, n_train of a data set, before it is fetched or generated.

    A simulated data set's train pairs are an expectation, those of ratings at most all of them; one
    of the user's own is read, and `most` is what its user with the most train items has.
    """
    if "path" in entry:
        train = prepare.of_entry(entry).sets["train"]
        counts = {"n_users": train.n_users, "n_items": train.n_items, "n_train": len(train)}
        return counts | {"most": int(train.counts().max())}
    if "simulate" in entry:
        p = entry["simulate"]
        expected = round(p["users"] * p["observed"] * (1 - p["test_fraction"]))
        return {"n_users": p["users"], "n_items": p["items"], "n_train": expected}
    row = sources.rows_of(entry["name"])[0]  # what is trained on, of ratings a part
    return {"n_users": row.users, "n_items": row.items, "n_train": row.interactions}


def stand_in(counts: dict[str, int], n_train: int, n_test_users: int = 1) -> Split:
    """Return a split of the size `counts` says (n_users, n_items), of random pairs.

    n_train train pairs, which may repeat; four test pairs for each of the first n_test_users.
    """
    size = (counts["n_users"], counts["n_items"])
    rng = np.random.default_rng(0)

    def pairs(n: int, n_users: int) -> Interactions:
        users = np.sort(rng.integers(n_users, size=n)).astype(np.int32)
        return Interactions(users, rng.integers(size[1], size=n).astype(np.int32), *size)

    return Split(pairs(n_train, size[0]), pairs(0, 1), pairs(4 * n_test_users, n_test_users))


def measure(counts: dict[str, int], run: Run, device: Any) -> tuple[float, float]:
    """Return seconds per step and per evaluation of a run, measured on random pairs."""
    some_users = min(256, counts["n_users"])
    s = run.settings
    products = s["batch_size"] * negatives(s) * s["dim"]
    steps = int(min(STEPS, max(1, LARGE / products)))
    split = stand_in(counts, steps * s["batch_size"], some_users)
    settings = s | ({"prior": ANY_PRIOR} if "prior" in s else {})
    trainer = Trainer(split, run.loss, settings, 0, device, backbone=run.backbone)
    trainer.epoch(1)  # compiles, allocates, warms up, as an evaluation does
    trainer.evaluate(on_test=True)
    started = time.monotonic()
    trainer.epoch(2)
    step = (time.monotonic() - started) / trainer.steps
    started = time.monotonic()
    trainer.evaluate(on_test=True)
    return step, (time.monotonic() - started) * counts["n_users"] / some_users


def measure_linear(counts: dict[str, int], run: Run) -> float:
    """Return about how many seconds a linear model takes on the CPU, from a smaller one."""
    s = run.settings
    if run.loss == "ease":
        n = min(1024, counts["n_items"])
        matrix = torch.eye(n) + 0.5
        started = time.monotonic()
        ease(matrix, s["reg"])
        return (time.monotonic() - started) * (counts["n_items"] / n) ** 3
    share = max(1, counts["n_train"] // 20_000)
    fewer = {name: math.ceil(count / share) for name, count in counts.items()}
    train = stand_in(fewer, fewer["n_train"]).train
    step = Solver(ials_problem(train, s["alpha0"], s["reg"], s["nu"])).step
    dim = min(s["dim"], LARGE_DIM)
    start = initial(train, dim, s["init_std"], run.seed)
    step(start)  # loads and warms up
    started = time.monotonic()
    step(start)
    return (time.monotonic() - started) * share * s["iterations"] * (s["dim"] / dim) ** 3


def check(
    datasets: list[dict[str, Any]],
    counts: dict[str, dict[str, int]],
    runs: list[Run],
    device: Any,
    here: bool,
) -> None:
    """Refuse what no run of an experiment can do; raises `ReclossError`.

    datasets: their entries in its configuration; here: the runs are this machine's, whose memory
    must hold each.
    """
    for entry in datasets:
        size = simulate.memory_mb(**entry["simulate"]) if "simulate" in entry else 0
        if size > memory_here():
            raise ReclossError(
                f"simulating {entry['name']} needs {size / 1e3:,.1f} GB of memory, this machine "
                f"has {memory_here() / 1e3:,.1f} GB; lower users or items"
            )
    for name, count in counts.items():
        if count["n_items"] < max(CUTOFFS):
            raise ReclossError(
                f"{name} has {count['n_items']} items, fewer than the lists of {max(CUTOFFS)} that "
                "the metrics judge; give a larger data set"
            )
    for run in runs:
        count = counts[run.dataset]
        if run.settings.get("exclude_positives") and count.get("most") == count["n_items"]:
            raise ReclossError(
                f"{run.loss} on {run.dataset}: a user has every item, which leaves "
                "exclude_positives no negative; set it to false"
            )
        on_gpu = run.loss == "ease" and device.type == "cuda"
        if here and not on_gpu and not fits(count, run):
            remedy = "leave ease out of `linear`"
            if run.backbone != LINEAR:
                remedy = "lower batch_size, negatives or dim"
            raise ReclossError(
                f"{run.loss} on {run.dataset} needs {needed(count, run) / 1e3:,.1f} GB of memory, "
                f"this machine has {memory_here() / 1e3:,.1f} GB; {remedy}, or take a larger one"
            )


def needed(counts: dict[str, int], run: Run) -> int:
    """Return the memory that a run needs on the host, in MB."""
    return memory_mb(counts, run.loss, run.settings, run.backbone)


def fits(counts: dict[str, int], run: Run) -> bool:
    """Tell whether this machine's memory holds a run."""
    return needed(counts, run) <= memory_here()


@functools.cache
def memory_here() -> int:
    """Return this machine's memory, in MB."""
    return psutil.virtual_memory().total // 10**6


def describe(
    config: dict[str, Any],
    results: Path,
    tune: bool = False,
    here: bool = True,
    only: list[str] | None = None,
) -> str:
    """Return the plan of a completed configuration as lines of text; refuse one that cannot run.

    tune: with the studies of `snakemake tune`, which come before the runs; here: see `check`; only:
    the data sets that it is about, if not all.
    """
    datasets = [entry for entry in config["datasets"] if not only or entry["name"] in only]
    counts = {entry["name"]: counts_of(entry) for entry in datasets}
    tried = [study for study in studies(config) if study.dataset in counts] if tune else []
    runs = [run for run in every_run(config) if run.dataset in counts]
    # Another machine may have what this one has not.
    device = pick_device(config["device"] if here or config["device"] == "cpu" else "auto")
    pending = [r for r in runs if not (results / r.path / "metrics.json").exists()]
    untried = [s for s in tried if not (results / s.path / "study.json").exists()]
    largest = [*pending, *(study.largest for study in untried)]
    check(datasets, counts, largest, device, here)
    lines = [f"Plan of {config['run']!r} (protocol {config['protocol']}):"]
    total = Counter(run.dataset for run in runs)
    waiting = Counter(run.dataset for run in pending)
    for name, count in counts.items():
        n = sum(study.dataset == name for study in tried)
        before = f" after {n} studies to tune them" if tune else ""
        lines.append(
            f"  {name}: {total[name]} training runs{before}, {total[name] - waiting[name]} done; "
            f"{count['n_users']:,} users, {count['n_items']:,} items, {count['n_train']:,} pairs"
        )
    if largest:
        disk = sum(
            # One checkpoint at a time.
            28 * (c["n_users"] + c["n_items"]) * 64 * (waiting[name] > 0)
            + (4 * (c["n_users"] + c["n_items"]) * 64 + 12 * c["n_users"]) * total[name]
            + 24 * c["n_train"]
            for name, c in counts.items()
        )
        memory = max(needed(counts[run.dataset], run) for run in largest)
        lines.append(
            f"  disk about {max(disk / 1e9, 0.1):.1f} GB, memory up to {memory / 1e3:.1f} GB a run"
        )
        lines += _time_lines(config, counts, pending, untried, device)
    return "\n".join(lines)


def whole_trainings(study: Study) -> tuple[Run, float]:
    """Return a run and how many times its time a study takes, at most."""
    run = replace(study.largest, settings=study.settings)
    if study.epochs is None:
        grid = math.prod(map(len, study.over.values())) + 1  # with the untuned settings
        return run, min(study.trials or grid, grid)
    s = study.settings
    return run, study.epochs * s["batch_size"] / study.batch_size / s["max_epochs"]


def _time_lines(
    config: dict[str, Any],
    counts: dict[str, dict[str, int]],
    pending: list[Run],
    untried: list[Study],
    device: Any,
) -> list[str]:
    jobs = [*((run, 1) for run in pending), *(whole_trainings(study) for study in untried)]
    seconds = len(jobs) * time.process_time()  # every run starts as this process did
    measured: dict[tuple[Any, ...], Any] = {}
    unknown: dict[str, int] = {}  # what runs that this machine cannot hold need, in MB
    use_threads(config["threads"])
    keep_memory()
    for run, times in jobs:
        try:
            if not fits(counts[run.dataset], run):
                raise MemoryError
            seconds += times * _seconds(counts[run.dataset], run, device, measured)
        except (MemoryError, torch.OutOfMemoryError):
            unknown[f"{run.loss} on {run.dataset}"] = needed(counts[run.dataset], run)
    cpu = f"{config['threads']} CPU thread{'s' if config['threads'] > 1 else ''}"
    at_once = max(1, (os.cpu_count() or 1) // config["threads"]) if config["device"] == "cpu" else 1
    shared = f", {duration(seconds / at_once)} {at_once} at a time" if at_once > 1 else ""
    and_studies = f" and {len(untried)} studies" if untried else ""
    where = cpu if device.type == "cpu" else device.type
    lines = [
        f"  {len(pending)} runs{and_studies} to train on {where}: "
        f"at most {duration(seconds)} one after another{shared}, less where a run stops early",
        f"  how far each is: tail -F logs/{config['run']}/training.log",
    ]
    if config["device"] == "auto" and device.type == "cpu":
        lines.append(f"  no GPU found; smaller experiments: --configfile {SMALLER};")
        lines.append("  to train several runs at once on the CPU, add: --config device=cpu")
    if unknown:
        named = ", ".join(f"{name} ({mb / 1e3:,.1f} GB)" for name, mb in unknown.items())
        lines.append(f"  not in that time, as this machine is too small to measure it: {named}")
    return lines


def _seconds(
    counts: dict[str, int], run: Run, device: Any, measured: dict[tuple[Any, ...], Any]
) -> float:
    """Return how long a run takes; measured: what was measured of each shape, added to."""
    s = run.settings
    if run.backbone == LINEAR:
        shape = (run.dataset, run.loss, s.get("dim"), s.get("iterations"))
        if shape not in measured:
            measured[shape] = measure_linear(counts, run)
        return measured[shape]
    shape = (run.dataset, run.backbone, s.get("layers"), s["batch_size"], negatives(s))
    shape += (s["dim"], s["score"], s["negatives_from"], s["mask_same"])
    if shape not in measured:
        measured[shape] = measure(counts, run, device)
    step, evaluation = measured[shape]
    steps = math.ceil(counts["n_train"] / s["batch_size"]) * s["max_epochs"]
    return steps * step + math.ceil(s["max_epochs"] / s["eval_every"]) * evaluation
