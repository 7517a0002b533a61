"""Download a published data set, or copy it from a mirror, and verify it."""

import argparse

from recloss.data.fetch import fetch
from recloss.data.sources import table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss fetch`."""
    known = ", ".join(sorted({row.dataset for row in table()}))
    parser.add_argument("name", help=f"one of {known}")
    parser.add_argument("--out", required=True, help="folder for its files, such as train.txt")
    parser.add_argument("--mirror", help="folder or URL holding NAME/train.txt, tried first")
    files = "only these of its files; by default all but a published validation set, valid.txt"
    parser.add_argument("--only", nargs="+", metavar="FILE", help=files)


def run(arguments: argparse.Namespace) -> None:
    """Fetch, and print the paths."""
    a = arguments
    print(*fetch(a.name, a.out, a.mirror, only=a.only), sep="\n")
