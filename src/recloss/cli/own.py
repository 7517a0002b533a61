"""Write the configuration of an experiment on data of your own, guessed from its file.

What was understood is printed on stderr, the path of the configuration on stdout. One that is there
already is kept, so that what you changed in it stays.
"""

import argparse
import sys
from pathlib import Path

import yaml

from recloss.experiment.own import (
    entry_in,
    guessed,
    name_for,
    of_this_machine,
    prepared,
    text_of,
    understood,
)
from recloss.files import ReclossError, atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss own`."""
    parser.add_argument("data", type=Path, help="a table of ratings, lists of items, or a folder")
    parser.add_argument("--out", type=Path, default=Path("own"), help="folder of the configuration")
    parser.add_argument("--name", help="of the data set and the run (default: from DATA)")
    parser.add_argument(
        "--config",
        type=Path,
        nargs="+",
        default=[],
        help="configurations that it goes with: what their `datasets`, a single entry, say of the "
        "data is not guessed",
    )


def run(arguments: argparse.Namespace) -> None:
    """Guess, say what was understood, and write the configuration."""
    a = arguments
    given = _given(a.config)
    entry = given.get("datasets", [{}])[0] | ({"name": a.name} if a.name else {})
    file = a.out / f"{entry.setdefault('name', name_for(a.data))}.yaml"
    if file.exists():
        entry = entry_in(file, a.data)
        found, validation = prepared(entry, given)
        said = [f"as {file} says; delete it to guess anew"]
    else:
        entry, said = guessed(a.data, entry)
        found, validation = prepared(entry, given)
        others, why = of_this_machine(found, given)
        said += why
        with atomic(file) as temporary:
            temporary.write_text(text_of(a.data, entry, others), encoding="utf-8")
    for line in (*understood(entry, found, validation), *(f"  {line}" for line in said)):
        print(line, file=sys.stderr)
    print(file)


def _given(files: list[Path]) -> dict:
    """Return what configurations say, the last one winning."""
    found: dict = {}
    for file in files:
        try:
            found |= yaml.safe_load(file.read_text("utf-8")) or {}
        except (yaml.YAMLError, TypeError):
            raise ReclossError(f"{file}: no YAML of keys and values; mend it") from None
    if len(found.get("datasets", [{}])) != 1:
        raise ReclossError("--config: `datasets` has several entries; keep that of DATA")
    return found
