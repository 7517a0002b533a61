"""Tables from tidy metrics: numbers as CSV, and the same formatted as HTML and LaTeX."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from recloss.files import atomic

BOLD = "font-weight: bold;"
UNDERLINED = "text-decoration: underline;"


def tidy_row(path: str, experiments: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return a run's row of metrics.csv; nested keys are flattened, as in `settings.dim`."""
    row: dict[str, Any] = {"path": path, "experiments": experiments}
    for key, value in record.items():
        if isinstance(value, dict):
            row |= {f"{key}.{name}": entry for name, entry in value.items()}
        else:
            row[key] = value
    return row


def tidy(runs: dict[str, str], results: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return metrics.csv and history.csv of runs given as {path: experiments}."""
    rows, histories = [], []
    for path, experiments in runs.items():
        record = json.loads((results / path / "metrics.json").read_text())
        rows.append(tidy_row(path, experiments, record))
        keys = ("dataset", "backbone", "loss", "variant", "seed")
        history = pd.read_csv(results / path / "history.csv")
        for position, key in enumerate(keys):
            history.insert(position, key, record[key])
        histories.append(history.assign(experiments=experiments))
    return pd.DataFrame(rows), pd.concat(histories, ignore_index=True)


def part_of(frame: pd.DataFrame, *names: str) -> pd.DataFrame:
    """Return the rows that belong to one of the experiments `names` (see `tidy`)."""
    member = [not set(names).isdisjoint(cell.split()) for cell in frame["experiments"]]
    return frame[np.array(member, bool)]


def main_display(table: pd.DataFrame) -> Styler:
    """Return the main table for readers: a row per loss, per data set Recall@20 and NDCG@20.

    table: the result of `stats.summarise`. The standard deviation over seeds follows where there
    are several; the best trained model is bold, and those that are not significantly different from
    it (columns `<metric> tied`) are underlined.
    """
    cells, best, tied = {}, {}, {}
    losses = list(dict.fromkeys(table["loss"]))
    for dataset, rows in table.groupby("dataset", sort=False):
        rows = rows.set_index("loss")
        for metric in ("recall@20", "ndcg@20"):
            cells[dataset, metric] = {
                loss: _with_spread(row[metric], row[f"{metric} sd"])
                for loss, row in rows.iterrows()
            }
            best[dataset, metric] = rows.loc[rows["kind"] != "control", metric].idxmax()
            tied[dataset, metric] = set(rows.index[rows[f"{metric} tied"]])
    frame = pd.DataFrame(cells, index=losses).fillna("")

    def marks(column: pd.Series) -> list[str]:
        ties = dict.fromkeys(tied[column.name], UNDERLINED)
        return [(ties | {best[column.name]: BOLD}).get(loss, "") for loss in column.index]

    return frame.style.apply(marks)


def _with_spread(mean: float, spread: float) -> str:
    return f"{mean:.4f}" if pd.isna(spread) else f"{mean:.4f} ± {spread:.4f}"


def grid_points(metrics: pd.DataFrame, grid: dict[str, Any]) -> pd.DataFrame:
    """Return the runs of a grid with the settings it varies as plain columns."""
    points = part_of(metrics, f"grid:{grid['name']}")
    columns = {f"settings.{key}": key for key in grid["over"]}
    keep = ["dataset", "loss", *columns, "seed", "recall@20", "ndcg@20", "recall@50", "ndcg@50"]
    return (
        points[keep].rename(columns=columns).sort_values(["dataset", "loss", *grid["over"], "seed"])
    )


def grid_display(points: pd.DataFrame, over: list[str]) -> Styler:
    """Return the points of a grid, best first, seeds averaged."""
    keys = ["dataset", "loss", *over]
    frame = points.groupby(keys)[["recall@20", "ndcg@20"]].mean().reset_index()
    frame = frame.sort_values(["dataset", "recall@20"], ascending=[True, False])
    return frame.style.hide(axis="index").format(
        dict.fromkeys(over, "{:g}") | {"recall@20": "{:.4f}", "ndcg@20": "{:.4f}"}
    )


def data_table(manifests: list[dict[str, Any]]) -> pd.DataFrame:
    """Return a row per data set from the manifests of the splits."""
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
    return frame.assign(hash=frame["hash"].str[:12])


def data_display(table: pd.DataFrame) -> Styler:
    """Return the data table with thousands separated."""
    counts = [name for name, kind in table.dtypes.items() if kind.kind == "i"]
    return table.style.hide(axis="index").format(
        dict.fromkeys(counts, "{:,}") | {"density": "{:.5f}"}
    )


def cost_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per data set and loss: mean epochs, seconds, memory, and the device."""
    groups = part_of(metrics, "main").groupby(["dataset", "loss"], sort=False)
    frame = groups.agg(
        runs=("seed", "size"),
        epochs=("epochs", "mean"),
        train_seconds=("train_seconds", "mean"),
        eval_seconds=("eval_seconds", "mean"),
        peak_memory_mb=("peak_memory_mb", "max"),
        device=("device", "first"),
    ).reset_index()
    frame.insert(4, "seconds_per_epoch", frame["train_seconds"] / frame["epochs"])
    return frame


def cost_display(table: pd.DataFrame) -> Styler:
    """Return the cost table with units in its header."""
    names = {
        "train_seconds": "training, s",
        "seconds_per_epoch": "an epoch, s",
        "eval_seconds": "evaluation, s",
        "peak_memory_mb": "peak memory, MB",
    }
    numbers = {"epochs": "{:.1f}", "peak memory, MB": "{:,.0f}"}
    numbers |= {name: "{:,.2f}" for name in names.values() if name.endswith(" s")}
    return table.rename(columns=names).style.hide(axis="index").format(numbers)


def certificates(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row per data set, model and certificate: its worst value over all tau+ and kappa.

    rows: debiasing.csv, of `debiasing.row`, `passed` as text.
    """
    certified = rows[rows["passed"].notna()]
    groups = certified.groupby(["dataset", "model", "certificate"], sort=False)
    table = groups.agg(
        cases=("value", "size"),
        worst=("value", "max"),
        tolerance=("tolerance", "first"),
        verdict=("passed", lambda column: "passes" if (column == "True").all() else "FAILS"),
        value=("sentence", "first"),
    )
    return table.reset_index()


def certificates_display(table: pd.DataFrame) -> Styler:
    """Return the certificates for readers; a failed one is bold."""
    shown = table.rename(columns={"worst": "worst value", "value": "of what"})

    def failed(row: pd.Series) -> list[str]:
        return [BOLD if row["verdict"] == "FAILS" else ""] * len(row)

    style = shown.style.hide(axis="index").apply(failed, axis=1)
    return style.format({"worst value": "{:.1e}", "tolerance": "{:.0e}"})


def moved(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what was measured where the condition does not hold: rows without a verdict."""
    measured = rows[rows["passed"].isna() & rows["tau"].notna()]
    return measured[["dataset", "model", "certificate", "tau", "kappa", "value", "sentence"]]


def moved_display(table: pd.DataFrame) -> Styler:
    """Return the measurements for readers; shares and changes in percent."""
    shown = table.rename(columns={"certificate": "measured", "tau": "τ⁺", "kappa": "κ"})
    style = shown.style.hide(axis="index")
    formats = {"value": "{:+.2%}", "τ⁺": "{:g}", "κ": "{:g}"}
    return style.format(formats, na_rep="by user")


def truth(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row per simulated data set and model with what the truth says of it."""
    judged = rows[rows["passed"].isna() & rows["tau"].isna()]
    table = judged.pivot_table(
        "value", ["dataset", "model"], "certificate", sort=False, dropna=False
    )
    return table.reset_index().rename_axis(columns=None)


def truth_display(table: pd.DataFrame) -> Styler:
    """Return the truth for readers, best true NDCG@20 first."""
    table = table.sort_values(["dataset", "true ndcg@20"], ascending=[True, False])
    formats = {name: "{:.4f}" for name in table if name.endswith("@20")}
    formats |= {name: "{:+.1%}" for name in table if name.startswith("bias")}
    return table.style.hide(axis="index").format(formats, na_rep="")


def bounds_display(table: pd.DataFrame) -> Styler:
    """Return bounds.csv (`bounds.rows`) for readers; a violated inequality is bold."""

    def violated(row: pd.Series) -> list[str]:
        return [BOLD if row["violated"] else ""] * len(row)

    numbers = dict.fromkeys(("smallest slack", "mean loss", "mean bound"), "{:.4f}")
    counts = dict.fromkeys(("pairs", "negatives", "violated"), "{:,}")
    return table.style.hide(axis="index").apply(violated, axis=1).format(numbers | counts)


def inflation(history: pd.DataFrame) -> pd.DataFrame:
    """Return what picking the epoch on test gains, a row per data set and loss, seeds averaged.

    history: history.csv of runs with `watch_test`. The epoch is picked by Recall@20, on validation
    or on test; both values are of the test set.
    """
    rows = []
    runs = part_of(history, "inflation")
    for (dataset, loss, seed), run in runs.groupby(["dataset", "loss", "seed"], sort=False):
        picked = run.loc[run["recall@20"].idxmax()]
        best = run.loc[run["test recall@20"].idxmax()]
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
    gain = table["recall@20 by test"] / table["recall@20 by validation"] - 1
    return table.assign(inflation=gain)


def inflation_display(table: pd.DataFrame) -> Styler:
    """Return the inflation for readers."""
    formats = dict.fromkeys(("epoch by validation", "epoch by test"), "{:.1f}")
    formats |= dict.fromkeys(("recall@20 by validation", "recall@20 by test"), "{:.4f}")
    return table.style.hide(axis="index").format(formats | {"inflation": "{:+.2%}"})


def tuning(tuned: dict[str, Any]) -> pd.DataFrame:
    """Return a row per data set and model of what `snakemake tune` found (`tuned.datasets`)."""
    rows = [
        {"dataset": dataset, "model": model} | entry
        for dataset, models in tuned.items()
        for model, entry in models.items()
    ]
    return pd.DataFrame(rows)


def tuning_display(table: pd.DataFrame) -> Styler:
    """Return the tuning for readers: the settings in one cell, the spread over the grid."""
    shown = table.assign(
        settings=[", ".join(f"{k} {v}" for k, v in entry.items()) for entry in table["settings"]]
    )
    formats = dict.fromkeys(("best", "median", "worst"), "{:.4f}") | {"seconds": "{:,.0f}"}
    return shown.style.hide(axis="index").format(formats)


def published_display(table: pd.DataFrame) -> Styler:
    """Return published numbers beside ours for readers (`published.compare`)."""
    shown = table[["dataset", "name", "source", "recall@20", "ours recall@20"]].copy()
    shown["difference"] = table["ours recall@20"] / table["recall@20"] - 1
    shown[["ndcg@20", "ours ndcg@20"]] = table[["ndcg@20", "ours ndcg@20"]]
    shown["difference "] = table["ours ndcg@20"] / table["ndcg@20"] - 1  # another column
    shown[["protocol", "settings"]] = table[["protocol", "settings"]]
    formats = {name: "{:.4f}" for name in shown if name.endswith("@20")}
    formats |= dict.fromkeys(("difference", "difference "), "{:+.1%}")
    return shown.style.hide(axis="index").format(formats, na_rep="")


def claims_display(table: pd.DataFrame) -> Styler:
    """Return claims.csv (`claims.judge`) for readers."""
    columns = ["claim", "dataset", "verdict", "effect", "ci_low", "ci_high", "p_value", "n_seeds"]
    names = {"ci_low": "95 % low", "ci_high": "high", "p_value": "p", "n_seeds": "seeds"}
    shown = table[columns].rename(columns=names)
    formats = dict.fromkeys(("effect", "95 % low", "high"), "{:+.1%}")
    formats |= {"p": "{:.3f}", "seeds": "{:.0f}"}
    return shown.style.hide(axis="index").format(formats, na_rep="")


def write(table: pd.DataFrame, display: Styler, csv: str | Path) -> None:
    """Write `table` to the path `csv`, and `display` beside it as .html and .tex."""
    csv = Path(csv)
    with atomic(csv) as temporary:
        table.to_csv(temporary, index=False)
    display = display.set_uuid(csv.stem)  # pandas draws a random one
    with atomic(csv.with_suffix(".html")) as temporary:
        temporary.write_text(display.to_html() + "\n", encoding="utf-8")
    with atomic(csv.with_suffix(".tex")) as temporary:
        text = display.to_latex(convert_css=True, hrules=True, multicol_align="c")
        temporary.write_text(text.replace("_", r"\_").replace("±", r"$\pm$"), encoding="utf-8")
