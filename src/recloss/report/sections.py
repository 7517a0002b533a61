"""The sections of the report in order, and what each of them says beside its tables and figures.

A section is a function here, which returns what its template report/sections/NAME.html.j2 needs or
None where the experiment has no such part, and a line of `SECTIONS`.
"""

import datetime
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd
import yaml

from recloss.analysis.names import name_of
from recloss.analysis.results import Results
from recloss.analysis.summaries import budget, obeyed, part_of
from recloss.experiment import published, record
from recloss.experiment.runs import control_runs, every_run, settings_for
from recloss.experiment.schema import LINEAR, label_of, settings_schema
from recloss.report import debiasing as checks
from recloss.report import tables
from recloss.report.board import answer, board
from recloss.report.items import Item, items
from recloss.report.runs import folder_name


class Report(Results):
    """A results folder as its report reads it: only tidy files, no run."""

    @cached_property
    def items(self) -> dict[str, Item]:
        """The tables and figures that are there."""
        there = items(self.config)
        if "coverage@20" not in self.metrics:  # runs of before that column
            there.pop("recommended", None)
        return there

    @property
    def own(self) -> bool:
        """Whether data of one's own are among the data sets: then the loss to use comes first."""
        return any("path" in dataset for dataset in self.config["datasets"])


Data = dict[str, Any] | None


def claims(report: Report) -> Data:
    """Return the board of claims, and what becomes of them in a sentence."""
    table = report.table("claims")
    return {"board": board(table), "answer": answer(table)}


def summary(report: Report) -> Data:
    """Return per data set which model to use and how many runs say so, and the settings."""
    advice, found = report.table("advice"), []
    said = dict(zip(advice["dataset"], advice["sentence"], strict=True))
    for dataset, runs in report.metrics.groupby("dataset", sort=False):
        main = part_of(runs, "main")
        losses = main[main["backbone"] != LINEAR]
        linear = main[main["backbone"] == LINEAR]
        found.append(
            {
                "dataset": dataset,
                "sentence": said.get(dataset, "no trained model."),
                "runs": len(runs),
                "backbones": ", ".join(map(name_of, losses["backbone"].unique())),
                "losses": losses["loss"].nunique(),
                "linear": linear["loss"].nunique(),
                "seeds": main["seed"].nunique(),
            }
        )
    config, asked = report.config, report.asked
    wanted = {run.path for run in [*control_runs(asked), *every_run(asked)]}
    there = {"there": len(wanted & set(report.metrics["path"])), "wanted": len(wanted)}
    return there | {"rows": found, "departures": departures(config), "choices": choices(config)}


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


def paper(report: Report) -> Data:
    """Return the grids that remake a figure of the paper."""
    if "paper" not in report.items:
        return None
    return {"grids": [grid for grid in report.config["grids"] if "figure" in grid]}


def models(report: Report) -> Data:
    """Return the table of models with every metric, what it recommends and costs."""
    parts = [report.table("main"), report.table("cost")]
    if "recommended" in report.items:
        parts.append(report.table("recommended"))
    return {"display": tables.models_display(*parts)}


def grids(report: Report) -> Data:
    """Return the grids that no figure of the paper has, if there are any, or a tuning."""
    shown = [
        grid
        for grid in report.config["grids"]
        if not ("figure" in grid and "paper" in report.items)
    ]
    if not shown and "tuning" not in report.items:
        return None
    return {"grids": shown, "budget": budget(report.config["tuned"]["datasets"])}


def only(name: str) -> Callable[[Report], Data]:
    """Return the function of a section that is there if an item is."""
    return lambda report: {} if name in report.items else None


def bounds(report: Report) -> Data:
    """Return which bounds the losses obey, by data set."""
    if "bounds" not in report.items:
        return None
    rows = obeyed(report.table("bounds"))
    return {"obeyed": {name: part.to_dict("records") for name, part in rows.groupby("dataset")}}


def debiasing(report: Report) -> Data:
    """Return which certificates hold, where debiasing moves a model most, and true quality."""
    if "debiasing" not in report.items:
        return None
    rows = report.table("debiasing")
    verdicts = checks.verdicts(rows)
    found = {"verdicts": verdicts, "furthest": checks.furthest(rows) if verdicts else []}
    return found | {"twins": checks.twins(report.table("truth")) if "truth" in report.items else []}


def shown(report: Report) -> Data:
    """Return what items shown at random say, by data set."""
    if "shown" not in report.items:
        return None
    return {"rows": checks.shown_at_random(report.table("shown"))}


def runs(report: Report) -> Data:
    """Return the table of all runs, seeds averaged."""
    return {"display": tables.runs_display(report.metrics), "count": len(report.metrics)}


def data(report: Report) -> Data:
    """Return how each data set of one's own was made: name and sentence."""
    table = report.table("data")
    known = table[table["origin"].notna()]
    return {"origins": list(zip(known["dataset"], known["origin"], strict=True))}


def provenance(report: Report) -> Data:
    """Return what the runs were made with, what renders them now, and the configuration."""
    metrics = report.metrics
    versions = [name for name in metrics if name.startswith("versions.")]
    text = {name.removeprefix("versions."): _unique(metrics, name) for name in versions}
    seconds = (metrics["train_seconds"] + metrics["eval_seconds"]).sum()
    return {
        "made": {
            "Trained at commit": _unique(metrics, "commit"),
            "Report rendered at commit": record.commit() or "not a git checkout",
            "Rendered on": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "Device": _unique(metrics, "device"),
            "Hardware": _unique(metrics, "hardware"),
            "Platform": _unique(metrics, "platform"),
            "CPU threads a run": _unique(metrics, "threads"),
            "Computing time of all runs": f"{seconds / 3600:.2f} h",
            "Versions": ", ".join(f"{name} {value}" for name, value in text.items()),
        },
        "configuration": yaml.safe_dump(
            report.asked, sort_keys=False, width=100, allow_unicode=True
        ),
        "command": f"snakemake --cores all --configfile {folder_name(report)}/config.yaml",
    }


def _unique(frame: pd.DataFrame, column: str) -> str:
    """Return the distinct values of a column, joined; `not recorded` where there are none."""
    values = frame[column].dropna().astype(str).unique() if column in frame else []
    return ", ".join(value for value in values if value) or "not recorded"


class Section(NamedTuple):
    """A section: name of its template and of its place in the page, title, what it says."""

    name: str
    title: str
    data: Callable[[Report], Data]


SECTIONS = (
    Section("claims", "Claims", claims),
    Section("summary", "Which loss to use", summary),
    Section("paper", "The paper, remade", paper),
    Section("main", "Losses compared", models),
    Section("published", "Published numbers", only("published")),
    Section("grids", "Grids", grids),
    Section("optimum", "Best values", only("optimum")),
    Section("ablations", "From model to model", only("ablations")),
    Section("inflation", "Protocol", only("inflation")),
    Section("bounds", "Lower bounds", bounds),
    Section("debiasing", "Debiasing", debiasing),
    Section("shown", "Shown at random", shown),
    Section("training", "Training", only("learning_curves")),
    Section("runs", "All runs", runs),
    Section("data", "Data", data),
    Section("provenance", "Provenance", provenance),
)
