"""Make the tables of findings in Markdown pages anew, from the published runs."""

import argparse
from pathlib import Path

from recloss.files import atomic
from recloss.report.findings import write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss findings`."""
    parser.add_argument("published", type=Path, help="folder of the runs, as results/published")
    parser.add_argument("pages", type=Path, nargs="+", help="Markdown files with marks")


def run(arguments: argparse.Namespace) -> None:
    """Write the pages."""
    for page in arguments.pages:
        text = write(page.read_text("utf-8"), arguments.published)
        with atomic(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
