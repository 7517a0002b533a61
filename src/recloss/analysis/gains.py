"""What shown.csv says: how models rank items shown at random, and what debiasing gains there."""

import pandas as pd

from recloss.analysis.stats import Comparison, compare
from recloss.analysis.summaries import part_of

METRICS = ("auc", "ndcg@5")
RUN = ("dataset", "backbone", "loss", "variant", "seed")  # of metrics.json, which run it is


def compare_models(one: pd.DataFrame, other: pd.DataFrame, metric: str) -> Comparison | None:
    """Return `stats.compare` of two models at the seeds that both have, or None if there is none.

    one, other: rows of shown.csv, of a model each on one data set.
    """
    sides = [
        side.pivot(index="seed", columns="user", values=metric).dropna(axis=1)
        for side in (one, other)
    ]
    seeds = sides[0].index.intersection(sides[1].index)
    if seeds.empty:
        return None
    return compare(*(side.loc[seeds].to_numpy() for side in sides))


def validated(metrics: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """Return Recall@20 and NDCG@20 on validation of the main table's models, seeds averaged.

    Of runs under `heldout`, at the epoch picked: columns dataset, backbone, loss and
    `validation <metric>`.
    """
    keys, which = ["dataset", "backbone", "loss"], list(RUN)
    runs = part_of(metrics, "main")
    runs = runs.loc[runs["protocol"] == "heldout", [*which, "best_epoch"]]
    picked = runs.rename(columns={"best_epoch": "epoch"}).merge(history, on=[*which, "epoch"])
    table = picked.groupby(keys, sort=False)[["recall@20", "ndcg@20"]].mean()
    return table.add_prefix("validation ").reset_index()


def shown_table(rows: pd.DataFrame, validation: pd.DataFrame) -> pd.DataFrame:
    """Return a row per data set and model of how it ranks the items shown at random.

    rows: shown.csv of every data set; validation: that of `validated`. Of each metric the mean over
    users and seeds, `sd` over seeds and, of a debiased loss whose twin is there, the `gain` over it
    with `low` and `high` of its interval and `p` (`stats.compare`; not corrected). `users` count
    for AUC.
    """
    keys, found = ["dataset", "backbone", "loss"], []
    models = dict(iter(rows.groupby(keys, sort=False)))
    for (dataset, backbone, loss), mine in models.items():
        row = {"dataset": dataset, "backbone": backbone, "loss": loss}
        row |= {"seeds": mine["seed"].nunique()}
        row |= {"users": mine.loc[mine["auc"].notna(), "user"].nunique()}
        twin = models.get((dataset, backbone, loss.removeprefix("debiased_")))
        for metric in METRICS:
            of_seeds = mine.groupby("seed")[metric].mean()
            row |= {metric: of_seeds.mean(), f"{metric} sd": of_seeds.std()}
            over = None
            if loss.startswith("debiased_") and twin is not None:
                over = compare_models(mine, twin, metric)
            values = (None,) * 4 if over is None else (over.effect, over.low, over.high, over.p)
            names = ("gain", "low", "high", "p")
            row |= {f"{metric} {name}": x for name, x in zip(names, values, strict=True)}
        found.append(row)
    return pd.DataFrame(found).merge(validation, on=keys, how="left")
