"""Options that several commands share."""

import argparse
import os
from pathlib import Path


def add_split(parser: argparse.ArgumentParser, manifest: bool = True) -> None:
    """Add --data and, where it is needed, --manifest: a split and what describes it."""
    parser.add_argument("--data", type=Path, required=True, help="split.npz of `recloss split`")
    if manifest:
        parser.add_argument("--manifest", type=Path, required=True, help="split.json beside it")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add what every trained model takes: where it writes, its name, its seed."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--variant", default="base", help="name of the settings' variant, only recorded"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default 0)")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    add_threads(parser)


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add --threads."""
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="CPU threads (default all)"
    )


def add_judged(parser: argparse.ArgumentParser) -> None:
    """Add what a command takes that judges finished runs."""
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders of runs")
    parser.add_argument("--out", type=Path, required=True, help="the CSV to write")
    parser.add_argument(
        "--published",
        type=Path,
        nargs="+",
        default=[],
        help="folders of a published experiment, whose rows are taken of runs that were taken "
        "from there, without vectors",
    )


def add_finished(parser: argparse.ArgumentParser) -> None:
    """Add what a command takes that uses a finished run."""
    parser.add_argument(
        "--run",
        type=Path,
        required=True,
        help="its folder, as results/<run>/train/<data set>/mf/mine_plus/base/seed0",
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of its split and ids (default results/<run>/data/<data set>)",
    )
