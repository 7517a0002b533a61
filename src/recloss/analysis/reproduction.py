"""Published numbers beside ours, of the runs that have the published settings."""

import pandas as pd

from recloss.experiment import published
from recloss.experiment.schema import label_of

PROTOCOL = "published"


def compare(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the published rows of the data sets in metrics.csv beside our means over seeds.

    Columns `protocol`, `settings` as text, and `ours recall@20`, `ours ndcg@20`, `seeds`, `path` of
    a first run: empty where no run has the settings, or another protocol.
    """
    rows = published.table()
    rows = rows[rows["dataset"].isin(metrics["dataset"])].reset_index(drop=True)
    comparable = metrics[metrics["protocol"] == PROTOCOL]
    found = []
    for row in rows.itertuples():
        runs = comparable[
            (comparable["dataset"] == row.dataset) & (comparable["loss"] == row.model)
        ]
        for key, value in (row.settings or {}).items():
            column = f"settings.{key}"
            runs = runs[runs[column] == label_of(value)] if column in runs else runs[:0]
        if row.settings is None or runs.empty:
            found.append({"seeds": 0})
            continue
        ours = {f"ours {m}": runs[m].mean() for m in ("recall@20", "ndcg@20")}
        found.append(ours | {"seeds": len(runs), "path": runs["path"].iloc[0]})
    columns = ["ours recall@20", "ours ndcg@20", "seeds", "path"]
    ours = pd.DataFrame(found, columns=columns)
    text = [", ".join(f"{k} {label_of(v)}" for k, v in (s or {}).items()) for s in rows["settings"]]
    return rows.assign(protocol=PROTOCOL, settings=text).join(ours)
