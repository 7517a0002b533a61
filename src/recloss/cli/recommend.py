"""Write the best items of every user of a finished run, under the data's own ids."""

import argparse
from pathlib import Path

from recloss.cli import options
from recloss.engine.device import use_threads
from recloss.recommend.finished import chosen_users, finished
from recloss.recommend.lists import recommend


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss recommend`."""
    options.add_finished(parser)
    parser.add_argument("--k", type=int, default=20, help="items a user (default 20)")
    parser.add_argument("--users", type=Path, help="text file, an id a line (default all users)")
    parser.add_argument(
        "--leave-out-test", action="store_true", help="leave out a user's test items, too"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="the .parquet, .csv or .csv.gz to write"
    )
    options.add_threads(parser)


def run(arguments: argparse.Namespace) -> None:
    """Rank and write."""
    a = arguments
    use_threads(a.threads)
    model = finished(a.run, a.data)
    users = a.users and chosen_users(a.users, model.users)
    recommend(model, a.out, a.k, users, a.leave_out_test)
