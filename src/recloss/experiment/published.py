"""What others published on these splits: numbers, their sources and, where known, the settings.

published.csv holds every number known; `model` and `settings` (a JSON object) say which of our runs
it compares with. All of them pick the best epoch on test.
"""

import importlib.resources
import json

import pandas as pd


def text() -> str:
    """Return published.csv as text."""
    return importlib.resources.files("recloss.experiment").joinpath("published.csv").read_text()


def table() -> pd.DataFrame:
    """Return published.csv with `settings` as dictionaries, None where they are not known."""
    with importlib.resources.files("recloss.experiment").joinpath("published.csv").open() as file:
        frame = pd.read_csv(file)
    settings = [json.loads(cell) if isinstance(cell, str) else None for cell in frame["settings"]]
    return frame.assign(settings=settings)
