"""Write the vectors of a finished run under the data's own ids, for an index by inner product."""

import argparse
from pathlib import Path

from recloss.cli import options
from recloss.recommend.finished import finished
from recloss.recommend.vectors import export


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss export`."""
    options.add_finished(parser)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for users.parquet and items.parquet"
    )


def run(arguments: argparse.Namespace) -> None:
    """Read and write."""
    export(finished(arguments.run, arguments.data), arguments.out)
