"""Say what an experiment will take: its runs, and time, memory and disk measured here."""

import argparse
import json
from pathlib import Path

from recloss.experiment import config
from recloss.experiment.plan import describe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss plan`."""
    parser.add_argument("config", help="the configuration as JSON")
    parser.add_argument("--tune", action="store_true", help="with the trials of `snakemake tune`")
    parser.add_argument("--dataset", nargs="+", help="of these data sets alone")
    parser.add_argument("--elsewhere", action="store_true", help="the runs are another machine's")
    parser.add_argument("--results", type=Path, help="folder of results (default results/<run>)")


def run(arguments: argparse.Namespace) -> None:
    """Print the plan."""
    full = config.load(json.loads(arguments.config))
    results = arguments.results or Path("results") / full["run"]
    here = not arguments.elsewhere
    print(describe(full, results, arguments.tune, here, arguments.dataset), flush=True)
