"""The report: one HTML file that needs neither network nor the files beside it."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

import recloss
from recloss.analysis.claims import CLAIMS
from recloss.analysis.names import header, name_of, place_name
from recloss.analysis.shown import METRICS
from recloss.analysis.statements import PRINTED, RIGHT
from recloss.analysis.stats import LEVEL, holm
from recloss.analysis.summaries import certificates, moved, obeyed, part_of
from recloss.experiment import published, record
from recloss.experiment.config import shown_names
from recloss.experiment.runs import certifies, inflation_runs, settings_for
from recloss.experiment.schema import CONTROL, LINEAR, label_of, settings_schema
from recloss.report.tables import of_models


def _unique(frame: pd.DataFrame, column: str) -> str:
    """Return the distinct values of a column, joined; `not recorded` where there are none."""
    values = frame[column].dropna().astype(str).unique() if column in frame else []
    return ", ".join(value for value in values if value) or "not recorded"


def provenance(metrics: pd.DataFrame) -> dict[str, str]:
    """Return what the runs were made with, from metrics.csv, and what renders them now."""
    versions = [name for name in metrics if name.startswith("versions.")]
    text = {name.removeprefix("versions."): _unique(metrics, name) for name in versions}
    seconds = (metrics["train_seconds"] + metrics["eval_seconds"]).sum()
    trained = metrics[~metrics["backbone"].isin((LINEAR, CONTROL))]
    return {
        "Trained at commit": _unique(metrics, "commit"),
        "Report rendered at commit": record.commit() or "not a git checkout",
        "Rendered on": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Device": _unique(metrics, "device"),
        "Hardware": _unique(metrics, "hardware"),
        "Platform": _unique(metrics, "platform"),
        "CPU threads a run": _unique(metrics, "threads"),
        "Computing time of all runs": f"{seconds / 3600:.2f} h",
        "Versions": ", ".join(f"{name} {value}" for name, value in text.items()),
        "Code hash of training": _unique(trained, "code_hash"),
    }


def summary(metrics: pd.DataFrame, advice: pd.DataFrame) -> list[dict[str, Any]]:
    """Return per data set which model to use (`sentence`, of advice.csv) and the run counts."""
    said, rows = dict(zip(advice["dataset"], advice["sentence"], strict=True)), []
    for dataset, runs in metrics.groupby("dataset", sort=False):
        main = part_of(runs, "main")
        rows.append(
            {
                "dataset": dataset,
                "sentence": said[dataset],
                "runs": len(runs),
                "backbones": ", ".join(
                    name_of(x) for x in main["backbone"].unique() if x != LINEAR
                ),
                "losses": main.loc[main["backbone"] != LINEAR, "loss"].nunique(),
                "linear": main.loc[main["backbone"] == LINEAR, "loss"].nunique(),
                "seeds": main["seed"].nunique(),
            }
        )
    return rows


def verdicts(rows: str | Path) -> list[dict[str, Any]]:
    """Return per data set and linear model which certificates hold, by who claims them.

    rows: path of debiasing.csv. Of the paper as printed: the statements that hold, and those that
    fail, each with its residuals by measure and with what is right instead. Of the corrected
    statements and the second form: how many certificates there are, and which failed.
    """
    table = certificates(pd.read_csv(rows, dtype={"passed": str}))
    table[["statement", "measure"]] = table["certificate"].str.partition(": ")[[0, 2]]
    found = []
    for (dataset, model), part in table.groupby(["dataset", "model"], sort=False):
        printed = part["claimed"] == PRINTED
        row = {"dataset": dataset, "model": model, "holds": [], "fails": []}
        for statement, cells in part[printed].groupby("statement", sort=False):
            failed = cells[cells["verdict"] != "passes"]
            if failed.empty:
                row["holds"].append(statement)
            else:
                residuals = dict(zip(failed["measure"], failed["worst"], strict=True))
                right = RIGHT.get(statement)
                row["fails"].append({"name": statement, "residuals": residuals, "right": right})
        others = part[~printed]
        row |= {"certificates": len(others), "cases": int(others["cases"].sum())}
        row["failed"] = others.loc[others["verdict"] != "passes", "certificate"].tolist()
        found.append(row)
    return found


def furthest(rows: str | Path) -> list[dict[str, Any]]:
    """Return per data set, model and kind of departure the case that moves most lists.

    rows: path of debiasing.csv. Shares and relative changes, as `certificates.row` has them. A kind
    is the first word of a measurement: prior, kappa, weights. Of cases that move as many lists, the
    one that changes NDCG@20 most.
    """
    table = moved(pd.read_csv(rows, dtype={"passed": str}))
    found = {}
    for case in table[table["certificate"].str.endswith(", rankings")].to_dict("records"):
        name, keys = case["certificate"].removesuffix(", rankings"), ["dataset", "model", "tau"]
        same = table[(table[keys] == [case[key] for key in keys]).all(axis=1)]
        if pd.notna(case["kappa"]):
            same = same[same["kappa"] == case["kappa"]]
        values = same.set_index("certificate")["value"]
        changes = {m: values[f"{name}, {m}"] for m in ("recall@20", "ndcg@20")}
        kind = (case["dataset"], case["model"], name.split()[0])
        found.setdefault(kind, []).append(case | {"certificate": name} | changes)
    return [max(v, key=lambda x: (x["value"], abs(x["ndcg@20"]))) for v in found.values()]


def twins(results: Path) -> list[dict[str, Any]]:
    """Return true NDCG@20 of each debiased loss beside its biased twin, from truth.csv."""
    table = pd.read_csv(results / "tables" / "truth.csv").set_index(["dataset", "model"])
    quality = table["true ndcg@20"]
    found = []
    for (dataset, model), debiased in quality.items():
        twin = model.removeprefix("debiased_")
        if twin != model and (dataset, twin) in quality:
            plain = quality[dataset, twin]
            row = {"dataset": dataset, "twin": twin, "plain": plain, "debiased": debiased}
            found.append(row | {"gain": debiased / plain - 1})
    return found


def shown_at_random(results: Path) -> list[dict[str, Any]]:
    """Return per data set what its items shown at random say, from shown.csv.

    dataset, users, seeds; gains: of a debiased loss over its twin by metric, with `word`, what may
    be said after Holm's correction; best: by metric the name of the best model and its value;
    others: name, AUC and NDCG@5 of what debiasing is to be put beside.
    """
    table, found = of_models(pd.read_csv(results / "tables" / "shown.csv")), []
    for dataset, rows in table.groupby("dataset", sort=False):
        models = rows.set_index("loss")
        gains = [
            {"model": row["loss"], "metric": metric, "value": row[metric]}
            | {part: row[f"{metric} {part}"] for part in ("gain", "low", "high", "p")}
            for row in rows.dropna(subset="auc gain").to_dict("records")
            for metric in METRICS
        ]
        for gain, p in zip(gains, holm([gain["p"] for gain in gains]), strict=True):
            gain["word"] = told(gain["gain"], p)
        best = {m: (models[m].idxmax(), models[m].max()) for m in METRICS}
        names = [name_of(model) for model in ("ials", "ease", "popularity", "random")]
        others = [
            {"model": name, "auc": models["auc"][name], "ndcg": models["ndcg@5"][name]}
            for name in names
            if name in models.index
        ]
        users, seeds = (int(rows[column].max()) for column in ("users", "seeds"))
        row = {"dataset": dataset, "users": users, "seeds": seeds}
        found.append(row | {"gains": gains, "best": best, "others": others})
    return found


def told(gain: float, p: float) -> str:
    """Say what may be said of a gain with a p-value, corrected for the number of comparisons."""
    if p >= 1 - LEVEL:
        return "not told apart"
    return "better" if gain > 0 else "worse"


def departures(config: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return the settings of every loss that are not the papers': name, value, theirs."""
    papers = {name: node["default"] for name, node in settings_schema().items()}
    return [(key, v, papers[key]) for key, v in config["settings"].items() if v != papers[key]]


def choices(config: dict[str, Any]) -> list[dict[str, str]]:
    """Return the settings that the paper does not print: model, setting, value here, why.

    Of a loss, its values on each data set, joined where they differ.
    """
    found = []
    losses, datasets = config["losses"], [dataset["name"] for dataset in config["datasets"]]
    for row in published.choices().itertuples(index=False):
        models = [row.loss] if row.loss else losses[:1]  # one stands for all
        values = [
            str(label_of(settings_for(config, dataset, model)[row.setting]))
            for dataset in datasets
            for model in models
            if model in losses
        ]
        if values:
            value = ", ".join(dict.fromkeys(values))
            found.append({"loss": row.loss, "setting": row.setting, "value": value, "why": row.why})
    return found


def contents(config: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the names of the tables and of the figures that an experiment has.

    Those of a table are <results>/tables/NAME.{csv,html,tex}, of a figure figures/NAME.svg.
    """
    grids = [f"grid_{grid['name']}" for grid in config["grids"]]
    names = {dataset["name"] for dataset in config["datasets"]}
    simulated = any("simulate" in dataset for dataset in config["datasets"])
    optional = {
        "tuning": bool(config["tuned"]["datasets"]),
        "bounds": bool(config["losses"]),
        "inflation": any(inflation_runs(config)),
        "published": not names.isdisjoint(published.table()["dataset"]),
        "paper": not names.isdisjoint(published.paper()["dataset"]),
        "readings": bool(config["readings"]),
        "ablations": bool(config["ablations"]),
        "debiasing": certifies(config) or simulated,
        "moved": certifies(config) or simulated,
        "truth": simulated,
        "shown": bool(shown_names(config)),
    }
    tables = ["claims", "advice", "main", *grids, *(name for name in optional if optional[name])]
    drawn = [name for name in ("tuning", "ablations", "bounds", "truth", "shown") if optional[name]]
    curves = ["learning_curves"] if config["losses"] else []
    return [*tables, "recommended", "cost", "data"], ["main", *grids, *drawn, *curves]


def claims_of(results: Path) -> list[dict[str, Any]]:
    """Return the claims with their texts and verdicts, from claims.csv.

    Data sets of the same verdict for the same reasons share a row.
    """
    table = pd.read_csv(results / "tables" / "claims.csv", keep_default_na=False)
    found = []
    for name, rows in table.groupby("claim", sort=False):
        alike: dict[tuple[str, ...], list[str]] = {}
        for place, mine in rows.groupby(["dataset", "backbone"], sort=False):
            key = (mine["verdict"].iloc[0], *dict.fromkeys(mine["sentence"]))
            alike.setdefault(key, []).append(place_name(*place))
        found.append(
            {"name": name, "evidence": CLAIMS[name].evidence}
            | {"text": CLAIMS[name].text, "source": CLAIMS[name].where}
            | {
                "rows": [
                    {"datasets": ", ".join(datasets), "verdict": verdict, "sentences": sentences}
                    for (verdict, *sentences), datasets in alike.items()
                ]
            }
        )
    return found


def origins(table: Path) -> list[tuple[str, str]]:
    """Return how each data set of one's own was made, from data.csv: name and sentence."""
    frame = pd.read_csv(table, keep_default_na=False)
    if "origin" not in frame:  # of before that column
        return []
    return [(row.dataset, row.origin) for row in frame.itertuples() if row.origin]


def render(config: dict[str, Any], results: Path, template: Path) -> str:
    """Return the report as HTML.

    config: the completed configuration; results: the folder with metrics.csv, tables/ and figures/,
    which holds what `contents` names; template: that with report.html.j2 and style.css.
    """
    metrics = pd.read_csv(results / "metrics.csv")
    tables, figures = contents(config)
    if "coverage@20" not in metrics:  # runs of before that column
        tables.remove("recommended")
    rows, bounds = (results / "tables" / f"{name}.csv" for name in ("debiasing", "bounds"))
    jinja = environment(template)
    jinja.filters["table"] = lambda name: (results / "tables" / f"{name}.html").read_text()
    jinja.filters["figure"] = lambda name: _svg(results / "figures" / f"{name}.svg")
    return jinja.get_template("report.html.j2").render(
        config=config,
        configuration=yaml.safe_dump(config, sort_keys=False, width=100),
        version=recloss.__version__,
        claims=claims_of(results),
        summary=summary(metrics, pd.read_csv(results / "tables" / "advice.csv")),
        departures=departures(config),
        choices=choices(config),
        provenance=provenance(metrics),
        verdicts=verdicts(rows) if "debiasing" in tables else [],
        furthest=furthest(rows) if "debiasing" in tables else [],
        obeyed=obeyed(pd.read_csv(bounds)).to_dict("records") if "bounds" in tables else [],
        twins=twins(results) if "truth" in tables else [],
        origins=origins(results / "tables" / "data.csv"),
        shown=shown_at_random(results) if "shown" in tables else [],
        tables=tables,
        figures=figures,
    )


def environment(template: Path | Sequence[Path]) -> jinja2.Environment:
    """Return what renders the pages of a folder, or of several, searched in turn.

    Its filters: `svg` inlines a file, `name` and `header` are those of `names`.
    """
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"svg": _svg, "name": name_of, "header": header, "label": label_of}
    return found


def _svg(path: str | Path) -> str:
    """Return the <svg> element of a file, without the XML head that HTML does not allow."""
    text = Path(path).read_text(encoding="utf-8")
    return text[text.index("<svg") :]
