"""The command `recloss`: from raw files to metrics, one step a subcommand."""

import argparse
import gc
import importlib
import signal
import sys
from collections.abc import Sequence

from recloss import forkserver
from recloss.files import fault

# A module of recloss.cli each, imported when it is called: `recloss --help` needs none.
COMMANDS = {
    "fetch": "download and verify a published data set",
    "simulate": "generate a data set from known true preferences",
    "own": "write the configuration of an experiment on data of your own",
    "prepare": "write two text files as arrays and a manifest",
    "split": "divide the interactions into train, validation and test",
    "train": "train one loss on one data set with one seed",
    "linear": "train iALS or EASE",
    "tune": "try settings of one model on one data set, on validation",
    "control": "rank by popularity or at random",
    "recommend": "write the best items of every user of a finished run",
    "export": "write the vectors of a finished run, for an index",
    "certify": "certify that iALS and EASE absorb debiasing",
    "truth": "judge runs on simulated data by the truth",
    "shown": "judge runs by items shown at random",
    "bounds": "evaluate the bounds of InfoNCE, MINE and BPR at the vectors of runs",
    "plan": "say what an experiment will take: runs, time, memory, disk",
    "compare": "say what changed between two results folders, and what did not",
    "findings": "make the tables of findings in Markdown pages anew",
    "reference": "write the page that describes every key of the configuration",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line; a fault of its user becomes one line on stderr and exit status 1."""
    if arguments is None:
        arguments = sys.argv[1:]
        if arguments[:1] == [forkserver.FLAG]:
            return forkserver.serve(int(arguments[1]), main)
        if (status := forkserver.submit(arguments)) is not None:
            sys.exit(status)
    gc.set_threshold(50_000)  # imports make objects by the hundred thousand, and no garbage
    arguments = list(arguments)
    name = arguments[0] if arguments and arguments[0] in COMMANDS else None
    if name is None:
        _overview().parse_args(arguments)  # says what is wrong, or helps; and exits
    command = importlib.import_module(f"recloss.cli.{name}")
    parser = argparse.ArgumentParser(
        prog=f"recloss {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    try:
        command.run(parser.parse_args(arguments[1:]))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        if (line := fault(error)) is None:
            raise
        sys.exit(f"error: {line}")


def _overview() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recloss",
        description=__doc__,
        epilog="`recloss COMMAND --help` tells of each. The workflow calls them: snakemake.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text)
    return parser


if __name__ == "__main__":
    main()
