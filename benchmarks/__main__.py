"""The command line: `python -m benchmarks PART --out DIR --data DIR`."""

import argparse
import sys
from pathlib import Path

from benchmarks.gowalla import epochs, evaluation, startup
from benchmarks.graph import lightgcn, propagation
from benchmarks.ials import ials
from benchmarks.in_batch import in_batch
from benchmarks.race import SETTINGS, devices
from benchmarks.step import step
from benchmarks.variation import every_loss, growth
from recloss.engine.device import keep_memory, use_threads
from recloss.experiment import record
from recloss.files import ReclossError, write_json

PARTS = {
    "step": step,
    "in_batch": in_batch,
    "losses": every_loss,
    "evaluation": evaluation,
    "growth": growth,
    "startup": startup,
    "epochs": epochs,
    "ials": ials,
    "propagation": propagation,
    "lightgcn": lightgcn,
}


def main() -> None:
    """Measure one part and write it as JSON."""
    p = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    p.add_argument("part", choices=PARTS)
    p.add_argument("--out", type=Path, required=True, help="the folder to write PART.json to")
    p.add_argument("--data", type=Path, help="folder of Gowalla's train.txt and test.txt")
    p.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    p.add_argument("--rounds", type=int, default=15, help="rounds of a race (default 15)")
    arguments = p.parse_args()
    use_threads(arguments.threads)
    keep_memory()
    rows = PARTS[arguments.part](arguments)
    about = {"part": arguments.part, "settings": SETTINGS, "threads": arguments.threads}
    about |= record.environment(devices()[-1].type)
    write_json(arguments.out / f"{arguments.part}.json", about | {"rows": rows})


if __name__ == "__main__":
    try:
        main()
    except ReclossError as error:
        sys.exit(f"error: {error}")
    except FileNotFoundError as error:
        sys.exit(f"error: no file {error.filename}; check the path")
