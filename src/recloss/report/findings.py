"""What published runs found, as Markdown tables, and the pages that have them."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import yaml

from recloss.analysis.claims import CLAIMS
from recloss.analysis.gains import METRICS as SHOWN
from recloss.analysis.names import header, model_name, name_of, place_name
from recloss.files import ReclossError
from recloss.report.debiasing import twins
from recloss.report.tables import tick

METRICS = ("recall@20", "ndcg@20")
KEYS = (
    "dataset",
    "backbone",
    "loss",
    "variant",
    "seeds",
)  # of a grid, beside its settings and metrics
MARK = re.compile(r"(<!-- findings: ([\w,-]+) (\w+) -->\n).*?(<!-- end -->)", re.S)


def _markdown(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _percent(value: float) -> str:
    return "" if pd.isna(value) else f"{100 * value:+.1f} %".replace("-", "−")


def _value(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.4f}".lstrip("0")


def claims(published: Path) -> str:
    """Return a row per claim, data set and backbone: the verdict, and its first part's effect."""
    table = pd.read_csv(published / "tables" / "claims.csv")
    rows = []
    keys = ["claim", "dataset", "backbone"]
    for (name, *place), mine in table.groupby(keys, sort=False):
        cells = [f"{name} {CLAIMS[name].text}", place_name(*place), mine["verdict"].iloc[0]]
        rows.append(cells + [_effect(mine, metric) for metric in METRICS])
    names = [f"{header(metric)}, ours (printed)" for metric in METRICS]
    return _markdown(["claim", "data set", "verdict", *names], rows)


def _effect(claim: pd.DataFrame, metric: str) -> str:
    """Return the effect of a claim's first part, and in brackets the printed one."""
    parts = claim.loc[claim["metric"] == metric, ["effect", "printed"]]
    cell, printed = map(_percent, parts.iloc[0]) if len(parts) else ("", "")
    return f"{cell} ({printed})" if cell and printed else cell


def _verdict(claim: pd.DataFrame) -> str:
    effect = _effect(claim, METRICS[0])
    return claim["verdict"].iloc[0] + (f", {effect}" if effect else "")


def verdicts(runs: list[Path]) -> str:
    """Return a row per claim and a column per run and data set: verdict, effect on Recall@20."""
    columns, cells = ["claim"], []
    for run in runs:
        config = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
        how = config["protocol"] + (", tuned" if config["tuned"]["datasets"] else "")
        table = pd.read_csv(run / "tables" / "claims.csv")
        places = table[["dataset", "backbone"]].apply(lambda row: place_name(*row), axis=1)
        for place, mine in table.groupby(places, sort=False):
            columns.append(f"{place}, {how}")
            cells.append(dict(list(mine.groupby("claim"))))
    rows = []
    for name, claim in CLAIMS.items():
        row = [_verdict(found[name]) if name in found else "" for found in cells]
        if any(row):
            rows.append([f"{name} {claim.text}", *row])
    return _markdown(columns, rows)


def paper(published: Path) -> str:
    """Return the paper's Table 2 beside ours, of the models that were run."""
    table = pd.read_csv(published / "tables" / "paper.csv")
    rows = []
    for row in table[table["seeds"] > 0].to_dict("records"):
        cells = [name_of(row["dataset"]), name_of(row["model"])]
        for metric in METRICS:
            cells += [_value(row[metric]), _value(row[f"ours {metric}"])]
            cells.append(_percent(row[f"{metric} difference"]))
        rows.append([*cells, str(row["seeds"])])
    names = [f"{header(m)} {what}" for m in METRICS for what in ("printed", "ours", "difference")]
    return _markdown(["data set", "model", *names, "seeds"], rows)


def models(published: Path) -> str:
    """Return every model of the main table, the best Recall@20 first."""
    table = pd.read_csv(published / "tables" / "main.csv")
    table = table.sort_values(["dataset", "recall@20"], ascending=[True, False])
    rows = [
        [
            *(name_of(row["dataset"]), model_name(row["loss"], row["backbone"])),
            *(_value(row[metric]) for metric in METRICS),
            str(row["seeds"]),
        ]
        for row in table.to_dict("records")
    ]
    return _markdown(["data set", "model", *map(header, METRICS), "seeds"], rows)


def readings(published: Path) -> str:
    """Return the readings of the paper's settings beside its numbers, the nearest first."""
    table = pd.read_csv(published / "tables" / "readings.csv")
    rows = []
    for row in table.to_dict("records"):
        cells = [name_of(row["loss"]), row["reading"].replace("_", " ")]
        cells += [f"{_value(row[m])} ({_value(row[f'printed {m}'])})" for m in METRICS]
        cells += [f"{row['ratio']:.3f} ({row['printed ratio']:.3f})", f"{row['distance']:.1%}"]
        rows.append(cells)
    names = [f"{header(m)} (printed)" for m in METRICS]
    columns = ["loss", "reading", *names, "NDCG over Recall (printed)", "distance"]
    return _markdown(columns, rows)


def ablations(published: Path) -> str:
    """Return each step from one model to another: both metrics, and the change in Recall@20."""
    table = pd.read_csv(published / "tables" / "ablations.csv")
    rows = []
    for row in table.to_dict("records"):
        cells = [row["ablation"], name_of(row["dataset"]), row["step"]]
        rows.append([*cells, *(_value(row[m]) for m in METRICS), _percent(row["change"])])
    return _markdown(["ablation", "data set", "step", *map(header, METRICS), "change"], rows)


def grid(published: Path, name: str, metric: str = "recall@20") -> str:
    """Return a metric over a grid: a column per value of its first setting, the highest bold.

    A row per model and value of the second setting, if there is one.
    """
    points = pd.read_csv(published / "tables" / f"grid_{name}.csv")
    over, *second = [key for key in points if key not in KEYS and "@" not in key]
    keys = ["dataset", "backbone", "loss", *second]
    values = points.pivot_table(metric, keys, over, sort=False).sort_index(axis=1)
    rows = []
    for key, row in values.iterrows():
        cells = [name_of(key[0]), model_name(key[2], key[1]), *map(str, key[3:])]
        best, text = row.max(), _value if row.max() < 1 else "{:.0f}".format
        rows.append(cells + [f"**{text(x)}**" if x == best else text(x) for x in row])
    names = [f"{header(over)} {value:g}" for value in values.columns]
    return _markdown(["data set", "model", *map(header, second), *names], rows)


def shown(published: Path) -> str:
    """Return the models judged by items shown at random, best AUC first, each beside its twin."""
    table = pd.read_csv(published / "tables" / "shown.csv").sort_values("auc", ascending=False)
    rows = []
    for row in table.to_dict("records"):
        cells = [model_name(row["loss"], row["backbone"])]
        for metric in SHOWN:
            spread = _value(row[f"{metric} sd"])
            cells.append(_value(row[metric]) + (f" ± {spread}" if spread else ""))
            ends = " to ".join(_percent(row[f"{metric} {end}"]) for end in ("low", "high"))
            gain = _percent(row[f"{metric} gain"])
            cells.append(f"{gain} ({ends})" if gain else "")
        rows.append([*cells, _value(row["validation recall@20"])])
    names = [name for metric in SHOWN for name in (header(metric), "over its twin")]
    return _markdown(["model", *names, f"{header('recall@20')}, validation"], rows)


def truth(published: Path, metric: str = "true ndcg@20") -> str:
    """Return a row per simulated data set, by default by the truth: every model, the best bold.

    In brackets what debiasing gains over the biased twin.
    """
    table = pd.read_csv(published / "tables" / "truth.csv")
    gains = {(x["dataset"], f"debiased_{x['twin']}"): x["gain"] for x in twins(table, metric)}
    values = table.pivot_table(metric, "dataset", "model", sort=False)
    rows = []
    for dataset, row in values.iterrows():
        cells = []
        for model, value in row.items():
            text = f"**{_value(value)}**" if value == row.max() else _value(value)
            gain = gains.get((dataset, model))
            cells.append(text if gain is None else f"{text} ({_percent(gain)})")
        rows.append([name_of(dataset), *cells])
    return _markdown(["data set", *map(name_of, values)], rows)


def tuning(published: Path) -> str:
    """Return what tuning found of each model, and what it gained on validation."""
    table = pd.read_csv(published / "tables" / "tuning.csv")
    rows = []
    for row in table.to_dict("records"):
        cells = [name_of(row["dataset"]), name_of(row["model"]), row["settings"]]
        cells += [_value(row[name]) for name in ("untuned", "best", "median", "worst")]
        rows.append([*cells, _percent(row["gain"]), f"{row['trials']} ({row['completed']})"])
    names = ["untuned", "best", "median", "worst", "gained", "trials (to their end)"]
    return _markdown(["data set", "model", "best settings", *names], rows)


def optimum(published: Path) -> str:
    """Return a row per cause: at each of its levels, by each judge, the best value.

    In brackets the lowest and the highest value not told apart from it; none where it is alone.
    """
    table = pd.read_csv(published / "tables" / "optimum.csv")
    judges, rows = list(dict.fromkeys(table["judged by"])), []
    for cause, mine in table.groupby("cause", sort=False):
        cells = [cause, "; ".join(tick(level) for level in dict.fromkeys(mine["level"]))]
        for judge in judges:
            found = mine[mine["judged by"] == judge]
            cells.append("; ".join(map(_best, found["best"], found["low"], found["high"])))
        rows.append(cells)
    name = header(table["setting"].iloc[0])
    return _markdown(["cause", "levels", *(f"best {name} by {judge}" for judge in judges)], rows)


def _best(best: float, low: float, high: float) -> str:
    apart = pd.isna(low) or low == high
    return f"**{best:g}**" if apart else f"**{best:g}** ({low:g} to {high:g})"


TABLES: dict[str, Callable[[Path], str]] = {
    "claims": claims,
    "paper": paper,
    "models": models,
    "readings": readings,
    "ablations": ablations,
    "tuning": tuning,
    "shown": shown,
    "truth": truth,
    "observed": partial(truth, metric="observed ndcg@20"),
    "optimum": optimum,
}


def write(page: str, published: Path) -> str:
    """Return the text of a page with the tables between its marks made anew.

    published: folder of the published runs. A table NAME of `TABLES`, or grid_NAME, or
    popularity_NAME of a grid, of the run RUN, stands between `<!-- findings: RUN NAME -->` and
    `<!-- end -->`; verdicts of several, `<!-- findings: RUN,RUN verdicts -->`.
    """

    def renewed(match: re.Match[str]) -> str:
        runs, name = [published / run for run in match[2].split(",")], match[3]
        folder = runs[0]
        if name == "verdicts":
            table = verdicts(runs)
        elif name.startswith("grid_"):
            table = grid(folder, name.removeprefix("grid_"))
        elif name.startswith("popularity_"):
            table = grid(folder, name.removeprefix("popularity_"), "popularity@20")
        elif name in TABLES:
            table = TABLES[name](folder)
        else:
            raise ReclossError(
                f"no findings {name!r}; known: {', '.join(TABLES)}, verdicts, grid_NAME"
            )
        return f"{match[1]}\n{table}\n{match[4]}"

    return MARK.sub(renewed, page)
