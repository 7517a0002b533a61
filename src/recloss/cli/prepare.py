"""Validate train.txt and test.txt and write them as arrays with a manifest."""

import argparse
from pathlib import Path

from recloss.data.prepare import prepare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss prepare`."""
    parser.add_argument("name", help="what to call the data set")
    parser.add_argument(
        "--train", type=Path, required=True, help="text file, a line a user: user item item ..."
    )
    parser.add_argument("--test", type=Path, required=True, help="text file of the same format")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for interactions.npz and manifest.json"
    )
    parser.add_argument("--published", action="store_true", help="check NAME's published counts")


def run(arguments: argparse.Namespace) -> None:
    """Prepare the two files."""
    a = arguments
    prepare(a.name, a.train, a.test, a.out, a.published)
