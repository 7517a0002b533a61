"""Measure the training time of RecBole's SimpleX and BPR, the peers of `snakemake bench`.

    python benchmarks/peers.py --data resources/gowalla --out peers.json

It runs in an environment of its own (envs/peers.txt) and imports nothing of recloss. RecBole's own
trainer trains each peer for a few steps, in a process of its own so that memory peaks do not mix.
A step is drawing the batch with its negatives, forward, backward and optimizer step. Reading the
data and building samplers and model are not timed, and nothing is evaluated. An epoch is
extrapolated: median step x steps per epoch.

With N negatives per positive the peers are SimpleX, BPR, and BPR with one negative, as it is
mostly used; and LightGCN of three layers with one negative. A step always holds `--batch-size`
positives, of LightGCN 2048; every batch is checked for that.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import metadata
from pathlib import Path
from typing import Any

WARM_UP_STEPS = 2
DATASET = "peers"

# A gamma of 1 makes SimpleX plain matrix factorisation: the user's vector alone, without the mean
# of the history. RecBole still computes that mean, so the shortest history is the cheapest.
PLAIN_SIMPLEX = {"gamma": 1.0, "aggregator": "mean", "history_len": 1}
LIGHTGCN_BATCH = 2048  # positives per step, as its authors train it


class PeerError(Exception):
    """What a user can mend: one line that names the fault and the remedy."""


def main() -> None:
    args = parse_arguments()
    try:
        versions = {name: metadata.version(name) for name in ("recbole", "torch")}
    except metadata.PackageNotFoundError as error:
        raise PeerError(
            f"no package {error.name} in {sys.executable}; install what envs/peers.txt says"
        ) from None
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        interactions = write_interactions(args.data / "train.txt", Path(folder))
        largest = max(args.batch_size, LIGHTGCN_BATCH)
        if interactions // largest < WARM_UP_STEPS + args.steps:
            raise PeerError(
                f"{interactions} interactions are too few for {WARM_UP_STEPS + args.steps} steps"
                f" of {largest}; lower --batch-size or --steps"
            )
        peers = [
            {"name": f"RecBole {model}", "version": versions["recbole"]}
            | in_child(measure, model, negatives, positives, settings, folder, interactions, args)
            for model, negatives, positives, settings in plan(args.negatives, args.batch_size)
        ]
    write_json(
        args.out,
        {
            "peers": peers,
            "torch": versions["torch"],
            "python": platform.python_version(),
            "threads": args.threads,
            "hardware": hardware(),
        },
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds train.txt")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--batch-size", type=positive, default=512, help="positives per step")
    parser.add_argument("--negatives", type=positive, default=800, help="per positive")
    parser.add_argument("--dim", type=positive, default=64, help="embedding size")
    parser.add_argument("--threads", type=positive, default=2, help="threads of torch")
    parser.add_argument("--steps", type=positive, default=12, help="steps to measure")
    return parser.parse_args()


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def plan(negatives: int, positives: int) -> list[tuple[str, int, int, dict[str, Any]]]:
    """Return model, negatives per positive, positives and settings of each row to measure."""
    rows: list[tuple[str, int, int, dict[str, Any]]] = [
        ("SimpleX", negatives, positives, PLAIN_SIMPLEX)
    ]
    rows += [("BPR", count, positives, {}) for count in sorted({negatives, 1}, reverse=True)]
    return [*rows, ("LightGCN", 1, LIGHTGCN_BATCH, {"n_layers": 3, "reg_weight": 1e-4})]


def write_interactions(train: Path, folder: Path) -> int:
    """Write `train` (a line a user: user item item ...) as RecBole's .inter; return its rows."""
    if not train.is_file():
        raise PeerError(f"no file {train}; --data is the folder that holds train.txt")
    target = folder / DATASET / f"{DATASET}.inter"
    target.parent.mkdir()
    interactions = 0
    with train.open() as lines, target.open("w") as out:
        out.write("user_id:token\titem_id:token\n")
        for line in lines:
            user, *items = line.split() or [""]
            out.writelines(f"{user}\t{item}\n" for item in items)
            interactions += len(items)
    return interactions


def in_child(function: Any, *arguments: Any) -> Any:
    """Call `function` in a fresh process, because ru_maxrss never falls within one."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except (BrokenProcessPool, MemoryError, RuntimeError) as error:
            # The system kills a process that is too large; torch and numpy may be refused first.
            if type(error) is RuntimeError and "memory" not in str(error):
                raise
            raise PeerError(
                "a peer ended early, probably for want of memory; lower --batch-size or --negatives"
            ) from None


def measure(
    model_name: str,
    negatives: int,
    positives: int,
    settings: dict[str, Any],
    folder: str,
    interactions: int,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Train a few steps of one model and return its row of the result, less name and version."""
    sys.argv = sys.argv[:1]  # RecBole takes every --name=value there for a setting of its own
    os.chdir(folder)  # RecBole writes its TensorBoard log into the working directory
    warnings.filterwarnings("ignore", category=FutureWarning)  # of torch, for RecBole's old calls
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    torch.set_num_threads(args.threads)
    settings = settings | {
        # RecBole counts rows, one a negative: it divides this by the negatives for its positives.
        "train_batch_size": positives * negatives,
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": negatives},
        "embedding_size": args.dim,
    }
    config = Config(
        model=model_name,
        dataset=DATASET,
        config_dict=settings
        | {
            "data_path": folder,
            "checkpoint_dir": folder,
            "load_col": {"inter": ["user_id", "item_id"]},
            "eval_args": {"split": {"RS": [1, 0, 0]}, "group_by": "none", "order": "RO"},
            "epochs": 1,
            "gpu_id": "",  # the CPU, even where there is a GPU
        },
    )
    init_seed(config["seed"], config["reproducibility"])
    loader, _, _ = data_preparation(config, create_dataset(config))
    if loader.sample_size != interactions:
        raise PeerError(f"RecBole trains on {loader.sample_size} of {interactions} interactions")
    model = get_model(model_name)(config, loader.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], model_name)(config, model)

    seconds: list[float] = []
    batches = timed(loader, WARM_UP_STEPS + args.steps, positives, negatives, seconds)
    # Saved, its checkpoint could not be read back: torch no longer unpickles such files.
    trainer.fit(batches, saved=False, verbose=False)

    measured = seconds[WARM_UP_STEPS:]
    median = statistics.median(measured)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "negatives": negatives,
        "batch_size": positives,
        "dim": args.dim,
        "settings": settings,
        "steps_measured": len(measured),
        "seconds_per_step": {"median": median, "min": min(measured), "max": max(measured)},
        "steps_per_epoch": len(loader),
        "seconds_per_epoch": median * len(loader),
        "extrapolated": True,
        "peak_memory_mb": (peak if sys.platform == "darwin" else peak * 1024) / 1e6,
    }


def timed(
    loader: Iterable[Any], steps: int, positives: int, negatives: int, seconds: list[float]
) -> Iterator[Any]:
    """Yield `steps` batches; append to `seconds` what drawing and using each of them took.

    The consumer comes back for the next batch when its step is done. Checks are not timed.
    """
    batches = iter(loader)
    for _ in range(steps):
        start = time.perf_counter()
        batch = next(batches)
        drawn = time.perf_counter() - start
        check_batch(batch, positives, negatives)
        start = time.perf_counter()
        yield batch
        seconds.append(drawn + time.perf_counter() - start)


def check_batch(batch: Any, positives: int, negatives: int) -> None:
    """Stop unless `batch` is `positives` interactions, each once for every negative."""
    # RecBole stacks copies of the positives, a copy for each negative: row k of every copy is one
    # and the same positive.
    users, items, drawn = (batch[name] for name in ("user_id", "item_id", "neg_item_id"))
    right = len(users) == len(items) == len(drawn) == positives * negatives and all(
        bool((column.view(negatives, positives) == column[:positives]).all())
        for column in (users, items)
    )
    if not right:
        raise PeerError(
            f"a RecBole batch of {len(users)} rows is not {positives} positives x {negatives}"
            " negatives; use the version in envs/peers.txt"
        )


def hardware() -> str:
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores"


def write_json(path: Path, value: object) -> None:
    """Write `value` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        main()
    except PeerError as error:
        sys.exit(f"error: {error}")
