"""Published numbers beside ours, of the runs that have the published settings.

`published.csv` holds every number known on these splits with its source; `model` and `settings` (a
JSON object) say which of our runs it compares with, where the settings are known. All of them pick
the best epoch on test, so that only runs under `protocol: published` compare.
"""

import importlib.resources
import json

import pandas as pd

PROTOCOL = "published"


def text() -> str:
    """Return published.csv as text."""
    return importlib.resources.files("recloss").joinpath("published.csv").read_text()


def table() -> pd.DataFrame:
    """Return published.csv with `settings` as dictionaries, None where they are not known."""
    with importlib.resources.files("recloss").joinpath("published.csv").open() as file:
        frame = pd.read_csv(file)
    settings = [json.loads(cell) if isinstance(cell, str) else None for cell in frame["settings"]]
    return frame.assign(settings=settings)


def compare(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the published rows of the data sets in metrics.csv beside our means over seeds.

    Columns `protocol`, `settings` as text, and `ours recall@20`, `ours ndcg@20`, `seeds`, `path` of
    a first run: empty where no run has the settings, or another protocol.
    """
    published = table()
    published = published[published["dataset"].isin(metrics["dataset"])].reset_index(drop=True)
    comparable = metrics[metrics["protocol"] == PROTOCOL]
    found = []
    for row in published.itertuples():
        runs = comparable[
            (comparable["dataset"] == row.dataset) & (comparable["loss"] == row.model)
        ]
        for key, value in (row.settings or {}).items():
            column = f"settings.{key}"
            runs = runs[runs[column] == value] if column in runs else runs[:0]
        if row.settings is None or runs.empty:
            found.append({"seeds": 0})
            continue
        ours = {f"ours {m}": runs[m].mean() for m in ("recall@20", "ndcg@20")}
        found.append(ours | {"seeds": len(runs), "path": runs["path"].iloc[0]})
    columns = ["ours recall@20", "ours ndcg@20", "seeds", "path"]
    ours = pd.DataFrame(found, columns=columns)
    text = [", ".join(f"{k} {v}" for k, v in (s or {}).items()) for s in published["settings"]]
    return published.assign(protocol=PROTOCOL, settings=text).join(ours)
