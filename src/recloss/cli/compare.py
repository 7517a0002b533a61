"""Put two results folders beside each other: what changed beyond noise, and what did not."""

import argparse
from pathlib import Path

from recloss.analysis.compare import folder_of
from recloss.files import ReclossError, atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss compare`."""
    parser.add_argument("ours", type=Path, help="a results folder, as results/gowalla")
    parser.add_argument(
        "theirs", type=Path, help="another one, or a folder that has one of the same run"
    )
    parser.add_argument(
        "--template", type=Path, default=Path("report"), help="report/ of the clone"
    )
    parser.add_argument("--out", type=Path, required=True, help="the page, .html")


def run(arguments: argparse.Namespace) -> None:
    """Compare them and write the page."""
    from recloss.report.compared import render

    a = arguments
    if not (a.template / "compare.html.j2").exists():
        raise ReclossError(f"{a.template}: no compare.html.j2 there; give --template CLONE/report")
    html = render(folder_of(a.ours, ""), folder_of(a.theirs, a.ours.name), a.template)
    with atomic(a.out) as temporary:
        temporary.write_text(html, encoding="utf-8")
    print(a.out)
