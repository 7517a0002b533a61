"""Write the page that describes every key of the configuration, generated from its schema."""

import argparse
from pathlib import Path

from recloss.experiment.reference import page
from recloss.files import atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss reference`."""
    parser.add_argument("out", type=Path, help="the Markdown file to write")


def run(arguments: argparse.Namespace) -> None:
    """Write the page."""
    with atomic(arguments.out) as temporary:
        temporary.write_text(page(), encoding="utf-8")
