"""What others published on these splits: numbers, their sources and, where known, the settings.

published.csv holds every number known; `model`, `backbone` (empty for `mf`) and `settings` (a JSON
object) say which of our runs it compares with. All of them pick the best epoch on test. figures.csv
has the points of the figures of arXiv 2312.08520, with the value where it can be read off;
choices.csv says why the settings that it does not print are what they are.
"""

import functools
import importlib.resources
import io
import json

import pandas as pd

from recloss.experiment.schema import BACKBONE

PAPER = "arXiv 2312.08520"


def text() -> str:
    """Return published.csv and figures.csv as text."""
    return "\n".join(map(_text, ("published.csv", "figures.csv")))


def _text(name: str) -> str:
    return importlib.resources.files("recloss.experiment").joinpath(name).read_text("utf-8")


def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(_text(name)))


@functools.cache
def table() -> pd.DataFrame:
    """Return published.csv with `settings` as dictionaries, None where they are not known."""
    frame = _read("published.csv").fillna({"backbone": BACKBONE})
    settings = [json.loads(cell) if isinstance(cell, str) else None for cell in frame["settings"]]
    return frame.assign(settings=settings)


def paper() -> pd.DataFrame:
    """Return the rows of `table` that arXiv 2312.08520 prints."""
    rows = table()
    return rows[rows["source"].str.startswith(PAPER)]


def printed(dataset: str, model: str, metric: str) -> float | None:
    """Return what arXiv 2312.08520 prints for a loss or linear model, or None."""
    rows = paper()
    found = rows.loc[(rows["dataset"] == dataset) & (rows["model"] == model), metric]
    return None if found.empty else float(found.iloc[0])


@functools.cache
def choices() -> pd.DataFrame:
    """Return choices.csv: settings that the paper does not print, and what ours go by."""
    return _read("choices.csv").fillna({"loss": ""})


@functools.cache
def figures() -> pd.DataFrame:
    """Return figures.csv: a row per point, `printed` where its value can be read."""
    return _read("figures.csv")
