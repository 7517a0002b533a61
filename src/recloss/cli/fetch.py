"""Download a published data set, or copy it from a mirror, and verify it."""

import argparse

from recloss.data.fetch import fetch
from recloss.data.sources import table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss fetch`."""
    known = ", ".join(sorted({row.dataset for row in table()}))
    parser.add_argument("name", help=f"one of {known}")
    parser.add_argument("--out", required=True, help="folder for train.txt and test.txt")
    parser.add_argument("--mirror", help="folder or URL holding NAME/train.txt, tried first")


def run(arguments: argparse.Namespace) -> None:
    """Fetch, and print the paths."""
    print(*fetch(arguments.name, arguments.out, arguments.mirror), sep="\n")
