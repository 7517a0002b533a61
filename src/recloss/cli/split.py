"""Divide the interactions into train, validation and test as a protocol says."""

import argparse
import json
from pathlib import Path

from recloss.data.arrays import hash_arrays, pack, read_sets
from recloss.data.split import PROTOCOLS, split, write
from recloss.files import ReclossError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss split`."""
    parser.add_argument(
        "--data", type=Path, required=True, help="interactions.npz of `recloss prepare`"
    )
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.json beside it")
    parser.add_argument("--protocol", choices=PROTOCOLS, required=True)
    parser.add_argument("--validation", type=float, required=True, help="share of train items")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", required=True, help="folder for split.npz and split.json")


def run(arguments: argparse.Namespace) -> None:
    """Split the arrays, if the manifest is theirs."""
    a = arguments
    sets = read_sets(a.data)
    try:
        manifest = json.loads(a.manifest.read_text("utf-8"))
    except (OSError, ValueError):
        raise ReclossError(f"{a.manifest}: no JSON to read; run recloss prepare") from None
    if manifest.get("data_hash") != hash_arrays(pack(**sets)):
        raise ReclossError(f"{a.manifest}: describes other data than {a.data}; prepare both again")
    how = (a.protocol, a.validation, a.seed)
    parts = split(sets["train"], sets["test"], *how, sets.get("valid"))
    write(a.out, parts, manifest["dataset"], *how, manifest.get("source"))
