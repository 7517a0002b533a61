"""What a run leaves behind: its metrics, history, per-user values, and where they came from."""

import csv
import functools
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from recloss.data.arrays import write_arrays
from recloss.files import atomic, write_json


@functools.cache  # git is asked once
def environment(device: str) -> dict[str, Any]:
    """Return versions and hardware: what a reader needs to judge a number or its time."""
    packages = ("recloss", "torch", "numpy", "scipy", "numba")
    return {
        "commit": commit(),
        "device": device,
        "hardware": _gpu_name() if device == "cuda" else _cpu_name(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in packages},
    }


def commit() -> str:
    """Return the commit of the checkout this library runs from, `+` if changed, else ``."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    try:
        done = subprocess.run([*command, "--abbrev=12"], capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def _gpu_name() -> str:
    import torch  # only a run on a GPU gets here, and it has torch loaded

    return torch.cuda.get_device_name()


def _cpu_name() -> str:
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores"


def identity(
    manifest: dict[str, Any],
    backbone: str,
    loss: str,
    variant: str,
    seed: int,
    settings: dict[str, Any],
    code_hash: str,
) -> dict[str, Any]:
    """Return what a run is: its data (a split's manifest), model, settings and code.

    code_hash: that of the command that makes it (`code.code_hash`).
    """
    return {
        "dataset": manifest["dataset"],
        "backbone": backbone,
        "loss": loss,
        "variant": variant,
        "seed": seed,
        "protocol": manifest["protocol"],
        "settings": settings,
        "data_hash": manifest["data_hash"],
        "code_hash": code_hash,
    }


def metrics_of(
    identity: dict[str, Any],
    values: dict[str, np.ndarray],
    recommended: dict[str, float],
    device: str,
    *,
    best_epoch: int,
    epochs: int,
    train_seconds: float,
    eval_seconds: float,
    peak_memory_mb: float,
    threads: int,
) -> dict[str, Any]:
    """Return what metrics.json says of a run: what it is, how good, at what cost, made with what.

    values: those of `ranking.Ranking.per_user`; recommended: its `recommended`; device: its type.
    """
    from recloss.engine.ranking import means  # with PyTorch, without which records are read

    users = len(next(iter(values.values())))
    return (
        identity
        | {"best_epoch": best_epoch, "epochs": epochs, "n_test_users": users}
        | means(values)
        | recommended
        | {
            "train_seconds": round(train_seconds, 3),
            "eval_seconds": round(eval_seconds, 3),
            "peak_memory_mb": round(peak_memory_mb, 1),
            "threads": threads,
        }
        | environment(device)
    )


def write_run(
    out: Path,
    metrics: dict[str, Any],
    history: list[dict[str, Any]],
    users: np.ndarray,
    values: dict[str, np.ndarray],
    vectors: Sequence[np.ndarray] = (),
) -> None:
    """Write per_user.npz, history.csv and, last, metrics.json, each whole or not at all.

    users (n,) int32 and, in `values`, recall@20 and ndcg@20 (n,) float32 of each. Of a model that
    has vectors, users (U, D) and items (I, D), also vectors.npz.
    """
    if vectors:
        write_arrays(out / "vectors.npz", dict(zip(("users", "items"), vectors, strict=True)))
    kept = {name: values[name] for name in ("recall@20", "ndcg@20")}
    write_arrays(out / "per_user.npz", {"users": users} | kept)
    with atomic(out / "history.csv") as path, path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    write_json(out / "metrics.json", metrics)
