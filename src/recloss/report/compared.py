"""The page that puts two results folders beside each other."""

import html
from functools import partial
from pathlib import Path

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from pandas.io.formats.style import Styler

import recloss
from recloss.analysis import compare
from recloss.analysis.names import header, model_name, name_of
from recloss.analysis.results import Results
from recloss.report import look, tables
from recloss.report.look import INK, QUIET, Panel, mark_style
from recloss.report.page import environment, table_html
from recloss.report.runs import folder_name


def render(ours: Path, theirs: Path, template: Path) -> str:
    """Return the page as HTML; ours, theirs: results folders; template: that of the report."""
    sides = [Results(ours), Results(theirs)]
    metrics = [side.metrics for side in sides]
    table = compare.compare(*metrics)
    claims = compare.verdicts(*(side.table("claims") for side in sides))
    styles: list[str] = []
    jinja = environment(template)
    panels = [look.inline(p, html.escape(p.title, quote=True)) for p in differences(table)]
    return jinja.get_template("compare.html.j2").render(
        names=[folder_name(side) for side in sides],
        said=compare.said(table, claims, compare.alone(*metrics)),
        panels=Markup("\n".join(panels)),
        models=table_html("compared", display(table), styles),
        claims=table_html("verdicts", claims_display(claims), styles),
        commits=[", ".join(side["commit"].dropna().unique()) for side in metrics],
        styles="\n".join(styles),
        version=recloss.__version__,
    )


def display(table: pd.DataFrame) -> Styler:
    """Return the comparison for readers; what changed is bold."""
    names = {"low": "95 % low", "word": "verdict", "their_seeds": "their seeds"}
    shown = tables.of_models(table).drop(columns="stage").rename(columns={"loss": "model"} | names)
    columns = ["dataset", "model", "variant", "metric", "verdict", "ours", "theirs", "difference"]
    shown = shown[[*columns, "95 % low", "high", "p", "seeds", "their seeds", "settings"]]
    formats = dict.fromkeys(("ours", "theirs"), "{:.4f}") | {"p": "{:.3f}"}
    formats |= dict.fromkeys(("difference", "95 % low", "high"), "{:+.2%}")

    def changed(row: pd.Series) -> list[str]:
        return [tables.BOLD if row["verdict"] == compare.CHANGED else ""] * len(row)

    return tables.styled(shown, formats).apply(changed, axis=1)


def claims_display(table: pd.DataFrame) -> Styler:
    """Return the verdicts of both sides for readers; those that differ are bold."""
    shown = table.assign(dataset=tables.place_names(table)).drop(columns="backbone")

    def turned(row: pd.Series) -> list[str]:
        return [tables.BOLD if row["ours"] != row["theirs"] else ""] * len(row)

    return tables.styled(shown).apply(turned, axis=1)


def differences(table: pd.DataFrame) -> list[Panel]:
    """Draw the relative difference of each model with its interval, a panel a data set and metric.

    table: the result of `compare.compare`; of other data or protocols nothing is drawn.
    """
    known = table[table["word"] != compare.OTHER]
    return [
        Panel(
            f"{name_of(dataset)}: {header(metric)}",
            partial(_draw, rows=rows),
            1.1 + 0.24 * len(rows),
            6.0,
        )
        for (dataset, metric), rows in known.groupby(["dataset", "metric"], sort=False)
    ]


def _draw(axis: Axes, rows: pd.DataFrame) -> None:
    labels = []
    for y, row in enumerate(rows.to_dict("records")):
        style = mark_style(row["loss"], row["backbone"])
        if pd.notna(row["low"]):
            axis.plot([100 * row["low"], 100 * row["high"]], [y, y], color=QUIET, linewidth=1.5)
        axis.plot(100 * row["difference"], y, ms=6, **style)
        variant = "" if row["variant"] == "base" else f" {row['variant']}"
        labels.append(f"{model_name(row['loss'], row['backbone'])}{variant}"[:48])
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set_yticks(range(len(rows)), labels)
    axis.invert_yaxis()
    axis.set_xlabel("ours over theirs, %, with the 95 % interval of noise")
    axis.grid(axis="x")
