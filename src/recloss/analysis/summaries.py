"""From tidy results to what each table says, as numbers."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recloss.analysis.names import name_of
from recloss.analysis.stats import beside_best, relative, user_values
from recloss.data.story import story
from recloss.experiment.runs import runs_of_ablation, settings_for, step_runs, whole
from recloss.experiment.schema import label_of

CUTOFFS = ("recall@20", "ndcg@20", "recall@50", "ndcg@50")
RECOMMENDED = ("coverage@20", "gini@20", "popularity@20")  # of `ranking.concentration`


def tidy_row(path: str, experiments: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return a run's row of metrics.csv; nested keys are flattened, as in `settings.dim`."""
    row: dict[str, Any] = {"path": path, "experiments": experiments}
    for key, value in record.items():
        if isinstance(value, dict):
            row |= {f"{key}.{name}": label_of(entry) for name, entry in value.items()}
        else:
            row[key] = value
    return row


def tidy(runs: dict[str, str], results: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return metrics.csv and history.csv of runs given as {path: experiments}."""
    records = [json.loads((results / path / "metrics.json").read_text("utf-8")) for path in runs]
    rows = [tidy_row(*run, record) for run, record in zip(runs.items(), records, strict=True)]
    histories = [pd.read_csv(results / path / "history.csv") for path in runs]
    lengths, history = list(map(len, histories)), pd.concat(histories, ignore_index=True)
    for position, key in enumerate(("dataset", "backbone", "loss", "variant", "seed")):
        values = pd.Series([record[key] for record in records])
        history.insert(position, key, values.repeat(lengths).array)
    history["experiments"] = pd.Series(list(runs.values())).repeat(lengths).array
    return pd.DataFrame(rows), history


def part_of(frame: pd.DataFrame, *names: str) -> pd.DataFrame:
    """Return the rows that belong to one of the experiments `names` (see `tidy`)."""
    member = [not set(names).isdisjoint(cell.split()) for cell in frame["experiments"]]
    return frame[np.array(member, bool)]


def grid_table(metrics: pd.DataFrame, results: Path, grid: dict[str, Any]) -> pd.DataFrame:
    """Return a row per point of a grid: mean and standard deviation over its seeds.

    metrics: metrics.csv, whose paths are below `results`. The settings that the grid varies are
    plain columns. `<metric> low` and `high` are the interval of the difference to the best point of
    the model on the data set, each user paired with themselves (`stats.beside_best`), laid at the
    best point's value: a point whose interval reaches that value is not told apart from it.
    """
    points = part_of(metrics, f"grid:{grid['name']}")
    columns = {f"settings.{key}": key for key in grid["over"]}
    points = points.rename(columns=columns)
    model, over = ["dataset", "backbone", "loss"], list(grid["over"])
    groups = points.groupby([*model, *over, "variant"], sort=False, dropna=False)
    values = [*CUTOFFS, *(name for name in RECOMMENDED if name in points)]
    table = groups[values].mean()
    for metric in ("recall@20", "ndcg@20"):
        table[f"{metric} sd"] = groups[metric].std()
    table = table.assign(seeds=groups.size()).reset_index()
    paths = groups["path"].agg(list).tolist()
    for metric in ("recall@20", "ndcg@20"):
        for _, rows in table.groupby(model, sort=False):
            users = [user_values([results / path / "per_user.npz" for path in paths[row]], metric)
                     for row in rows.index]  # fmt: skip
            table.loc[rows.index, [f"{metric} low", f"{metric} high"]] = beside_best(users)
    return table.sort_values([*model, *over], ignore_index=True)


def data_table(manifests: list[dict[str, Any]]) -> pd.DataFrame:
    """Return a row per data set from the manifests of the splits; `origin` says how it was made."""
    columns = {
        "dataset": "dataset",
        "n_users": "users",
        "n_items": "items",
        "n_train": "train",
        "n_valid": "validation",
        "n_test": "test",
        "density": "density",
        "users_without_test": "users without test",
        "items_without_train": "items without train",
        "protocol": "protocol",
        "data_hash": "hash",
    }
    frame = pd.DataFrame(manifests)[list(columns)].rename(columns=columns)
    origin = [story(manifest.get("source", {})) for manifest in manifests]
    return frame.assign(hash=frame["hash"].str[:12], origin=origin)


def cost_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per data set and model: mean epochs, seconds, memory, and the device."""
    groups = part_of(metrics, "main").groupby(["dataset", "backbone", "loss"], sort=False)
    frame = groups.agg(
        runs=("seed", "size"),
        epochs=("epochs", "mean"),
        train_seconds=("train_seconds", "mean"),
        eval_seconds=("eval_seconds", "mean"),
        peak_memory_mb=("peak_memory_mb", "max"),
        device=("device", "first"),
    ).reset_index()
    frame.insert(5, "seconds_per_epoch", frame["train_seconds"] / frame["epochs"])
    return frame


def recommended_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per data set and model of what its top 20 hold, seeds averaged.

    Runs of before these columns give no row.
    """
    keys = ["dataset", "backbone", "loss"]
    if not set(RECOMMENDED) <= set(metrics):
        return pd.DataFrame(columns=[*keys, "seeds", "recall@20", *RECOMMENDED])
    runs = part_of(metrics, "main", "control").dropna(subset=list(RECOMMENDED))
    groups = runs.groupby(keys, sort=False)
    table = groups[["recall@20", *RECOMMENDED]].mean()
    table.insert(0, "seeds", groups.size())
    return table.reset_index()


def certificates(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row per data set, model, claimant and certificate: its worst value over all cases.

    rows: debiasing.csv, of `certificates.row`, `passed` as text. A case: a c, or a tau+ and kappa.
    """
    certified = rows[rows["passed"].notna()]
    groups = certified.groupby(["dataset", "model", "claimed", "certificate"], sort=False)
    table = groups.agg(
        cases=("value", "size"),
        worst=("value", "max"),
        tolerance=("tolerance", "first"),
        verdict=("passed", lambda column: "passes" if (column == "True").all() else "FAILS"),
        value=("sentence", "first"),
    )
    return table.reset_index()


def of_truth(rows: pd.DataFrame) -> pd.Series:
    """Return which rows of debiasing.csv are of `truth.judge`: they have neither tau+ nor kappa."""
    return rows["tau"].isna() & rows["kappa"].isna()


def moved(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what was measured where the condition does not hold: rows without a verdict."""
    measured = rows[rows["passed"].isna() & ~of_truth(rows)]
    return measured[["dataset", "model", "certificate", "tau", "kappa", "value", "sentence"]]


def truth(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row per simulated data set and model with what the truth says of it."""
    judged = rows[of_truth(rows)]
    table = judged.pivot_table(
        "value", ["dataset", "model"], "certificate", sort=False, dropna=False
    )
    return table.reset_index().rename_axis(columns=None)


def bounds(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row per data set, equation, side and loss: its bound over all trained models.

    rows: bounds.csv, of `bounds.rows`. `mean gap` is the mean over models; `tighter`, of a claimed
    lower bound beside that of Eq. 11, the models where it is the higher at over half of the pairs.
    """
    known = rows["above Eq. 11"].notna()
    tighter = (rows["above Eq. 11"] > rows["pairs"] / 2).astype(float).where(known)
    keys = ["dataset", "equation", "side", "inequality"]
    groups = rows.assign(tighter=tighter).groupby(keys, sort=False)
    table = groups.agg(
        claimed=("claimed", "all"),
        models=("model", "size"),
        pairs=("pairs", "sum"),
        violated=("violated", "sum"),
        **{"smallest slack": ("smallest slack", "min"), "mean gap": ("mean gap", "mean")},
    )
    return table.assign(tighter=groups["tighter"].sum(min_count=1)).reset_index()


def obeyed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row per data set, equation and loss: whether the loss obeys every side of it.

    rows: bounds.csv, of `bounds.rows`. What the paper claims holds where `obeys` is `claimed`:
    no pair violates what a loss is claimed to obey, and some pair what it is not. `violated` counts
    pairs that violate either side; the other columns are those of the lower side in `bounds`.
    """
    keys = ["dataset", "equation", "inequality"]
    sides = bounds(rows)
    table = sides[sides["side"] == "lower"].drop(columns=["side", "smallest slack"])
    violated = sides.groupby(keys)["violated"].sum()  # no pair lies beyond both sides
    table = table.drop(columns="violated").join(violated, on=keys)
    return table.assign(obeys=table["violated"] == 0).reset_index(drop=True)


def ablations(metrics: pd.DataFrame, config: dict[str, Any]) -> pd.DataFrame:
    """Return a row per step of an ablation and data set: mean and deviation over seeds.

    config: completed. `change` is the relative difference in Recall@20 from the step before. Seeds
    that have not finished at every step are left out.
    """
    runs, rows = metrics.set_index("path"), []
    for entry in config["ablations"]:
        there = whole(runs_of_ablation(config, entry), runs.index, ("dataset", "seed"))
        for dataset in dict.fromkeys(run.dataset for run in there):
            before, here = None, [run for run in there if run.dataset == dataset]
            for index, step in enumerate(entry["steps"]):
                mine = runs.loc[[r.path for r in step_runs(config, entry, index) if r in here]]
                row = {"ablation": entry["name"], "dataset": dataset, "step": step["name"]}
                row |= {"loss": step["loss"], "seeds": len(mine)}
                for metric in ("recall@20", "ndcg@20"):
                    row |= {metric: mine[metric].mean(), f"{metric} sd": mine[metric].std()}
                value = row["recall@20"]
                rows.append(row | {"change": None if before is None else relative(value, before)})
                before = value
    return pd.DataFrame(rows)


def inflation(history: pd.DataFrame, config: dict[str, Any]) -> pd.DataFrame:
    """Return what picking the epoch on test gains, a row per data set and loss, seeds averaged.

    history: history.csv of runs with `watch_test`; config: completed. The epoch is picked by the
    setting `monitor`, on validation or on test; both values are of the test set.
    """
    rows = []
    runs = part_of(history, "inflation")
    for (dataset, loss, seed), run in runs.groupby(["dataset", "loss", "seed"], sort=False):
        monitor = settings_for(config, dataset, loss)["monitor"]
        picked = run.loc[run[monitor].idxmax()]
        best = run.loc[run[f"test {monitor}"].idxmax()]
        rows.append(
            {
                "dataset": dataset,
                "loss": loss,
                "seed": seed,
                "epoch by validation": picked["epoch"],
                "epoch by test": best["epoch"],
                "recall@20 by validation": picked["test recall@20"],
                "recall@20 by test": best["test recall@20"],
            }
        )
    table = pd.DataFrame(rows).groupby(["dataset", "loss"], sort=False)
    table = table.agg("mean").drop(columns="seed").assign(seeds=table.size()).reset_index()
    pairs = zip(table["recall@20 by test"], table["recall@20 by validation"], strict=True)
    return table.assign(inflation=[relative(*pair) for pair in pairs])


def tuning(tuned: dict[str, Any]) -> pd.DataFrame:
    """Return a row per data set and model of what `snakemake tune` found (`tuned.datasets`).

    gain: of the best over the untuned settings, relative.
    """
    rows = [
        {"dataset": dataset, "model": model}
        | {key: value for key, value in entry.items() if key != "budget"}  # that of all
        | {"settings": ", ".join(f"{k} {label_of(v)}" for k, v in entry["settings"].items())}
        | {"gain": relative(entry.get("best", math.nan), entry.get("untuned", math.nan))}
        for dataset, models in tuned.items()
        for model, entry in models.items()
    ]
    return pd.DataFrame(rows)


def budget(tuned: dict[str, Any]) -> str:
    """Say in a sentence or two how many training steps the studies had (`tuned.datasets`)."""
    parts = []
    for dataset, models in tuned.items():
        budgets = {entry["budget"] for entry in models.values() if entry.get("budget")}
        parts += [f"{steps:,} on {name_of(dataset)}" for steps in sorted(budgets)]
    losses = f"Every loss had as many training steps to begin trials in: {', '.join(parts)}. "
    return (losses if parts else "") + "A linear model had its grid."
