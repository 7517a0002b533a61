"""The figures of runs: every function returns panels (`look.Panel`) from tidy rows."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

from recloss.analysis.names import family_of, header, model_name, name_of, place_name
from recloss.experiment.schema import BACKBONE, backbone_of
from recloss.report import look
from recloss.report.look import COLOURS, INK, LINE, PAPER, QUIET, Panel, colour_of, mark_style
from recloss.report.tables import of_models, tick

METRICS = ("recall@20", "ndcg@20")


def models_of(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the distinct (loss, backbone) of rows, in order."""
    return list(dict.fromkeys(zip(rows["loss"], rows["backbone"], strict=True)))


def families_legend(axis: Axes, families: list[str], debiased: bool, bars: bool) -> None:
    """Say below the axes what the colours, shapes and fillings mean."""
    handles: list[Any] = []
    for family in (name for name in COLOURS if name in families):
        style = {"color": COLOURS[family], "label": family}
        if bars:
            handles.append(Patch(**style))
        else:
            handles.append(Line2D([], [], ls="none", marker=look.MARKERS[family], **style))
    if debiased and bars:
        handles.append(Patch(fc=QUIET, ec=PAPER, hatch="////", label="debiased"))
    elif debiased:
        style = {"ls": "none", "marker": "o", "color": QUIET, "mfc": PAPER}
        handles.append(Line2D([], [], label="hollow: debiased", **style))
    below(axis, handles)


def below(
    axis: Axes, handles: list[Any] | None = None, columns: int = 3, gap: float = 0.42
) -> None:
    """Put the legend `gap` inches below the axes: below their label, too."""
    given = {} if handles is None else {"handles": handles}
    under = axis.transAxes + ScaledTranslation(0, -gap, axis.figure.dpi_scale_trans)
    place = {"loc": "upper left", "bbox_to_anchor": (0, 0), "bbox_transform": under}
    axis.legend(ncols=columns, fontsize=8, **given, **place)


def by_metric(
    rows: pd.DataFrame, draw: Callable[..., None], height: float, name: str = "dataset"
) -> list[Panel]:
    """Return a panel per data set, or another column, and metric: `draw(axis, rows, metric)`."""
    return [
        Panel(
            f"{name_of(place)}: {header(metric)}", partial(draw, rows=mine, metric=metric), height
        )
        for place, mine in rows.groupby(name, sort=False)
        for metric in METRICS
    ]


def main_bars(table: pd.DataFrame) -> list[Panel]:
    """Draw a bar per model with its 95 % interval over test users, a panel a data set and metric.

    table: the result of `stats.summarise`.
    """
    return by_metric(table, _bars, 1.3 + 0.25 * len(models_of(table)))


def _bars(axis: Axes, rows: pd.DataFrame, metric: str) -> None:
    rows = rows.sort_values(metric)
    # Of a single test user there is no interval.
    ends = [rows[f"{metric} {end}"].fillna(rows[metric]).to_numpy() for end in ("low", "high")]
    for y, row in enumerate(rows.to_dict("records")):
        style = look.bar_style(row["loss"], row["backbone"])
        axis.barh(y, row[metric], height=0.72, linewidth=0, **style)
        place = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
        axis.annotate(f"{row[metric]:.4f}", (ends[1][y], y), **place)
    axis.hlines(range(len(rows)), *ends, color=INK, linewidth=1)
    axis.set_yticks(range(len(rows)), of_models(rows)["loss"])
    axis.set_xlim(0, ends[1].max() * 1.2 or 1)
    axis.set_xlabel(f"{header(metric)}, 95 % interval over users")
    axis.tick_params(axis="y", length=0)
    families = [family_of(*model) for model in models_of(rows)]
    families_legend(axis, families, rows["loss"].str.startswith("debiased_").any(), bars=True)


def grid_figure(
    points: pd.DataFrame, over: list[str], metric: str, printed: pd.DataFrame
) -> list[Panel]:
    """Draw a grid: a heat map over two settings, a curve per model over one.

    points: the result of `summaries.grid_table`. printed: rows of `published.figures`, beside a
    curve. A panel per data set, of a curve in each metric.
    """
    panels = []
    for dataset, mine in points.groupby("dataset", sort=False):
        if len(over) == 2:
            for model in models_of(mine):
                rows = mine[(mine["loss"] == model[0]) & (mine["backbone"] == model[1])]
                draw = partial(_heat, points=rows, over=over, metric=metric)
                title = f"{name_of(dataset)}: {model_name(*model)}"
                panels.append(Panel(title, draw, 1.3 + 0.42 * rows[over[0]].nunique()))
            continue
        theirs = printed[printed["dataset"] == dataset].dropna(subset="printed")
        for which in dict.fromkeys((metric, *METRICS)):
            read = theirs if which == metric else theirs[:0]
            draw = partial(_curves, points=mine, key=over[0], metric=which, printed=read)
            height = 3.2 + 0.16 * len(models_of(mine))
            panels.append(Panel(f"{name_of(dataset)}: {header(which)}", draw, height))
    return panels


def _heat(axis: Axes, points: pd.DataFrame, over: list[str], metric: str) -> None:
    rows, columns = over
    table = points.pivot_table(metric, rows, columns)
    values = table.to_numpy()
    image = axis.imshow(values, cmap="viridis", aspect="auto", origin="lower")
    axis.set_xticks(range(values.shape[1]), [tick(x) for x in table.columns])
    axis.set_yticks(range(values.shape[0]), [tick(y) for y in table.index])
    axis.set(xlabel=header(columns), ylabel=header(rows))
    axis.spines[:].set_visible(False)
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    best = np.unravel_index(np.nanargmax(values), values.shape)
    for (y, x), value in np.ndenumerate(values):
        weight = "bold" if (y, x) == best else "normal"
        colour = "black" if value > middle else "white"
        style = {"ha": "center", "va": "center", "fontsize": 8, "color": colour}
        axis.text(x, y, f"{value:.4f}", fontweight=weight, **style)
    axis.figure.colorbar(image, ax=axis, label=header(metric), format="%.3f")


def _curves(axis: Axes, points: pd.DataFrame, key: str, metric: str, printed: pd.DataFrame) -> None:
    # Evenly spaced whatever they are: negatives are doubled, class priors start at zero.
    models = models_of(points)
    of_paper = [loss for loss, backbone in models if backbone == BACKBONE]
    printed = printed[printed["loss"].isin(of_paper)]
    values = sorted({*points[key], *(printed["value"] if len(printed) else ())}, key=_order)
    axis.set_xticks(range(len(values)), [tick(value) for value in values])
    for loss, backbone in models:
        mine = points[(points["loss"] == loss) & (points["backbone"] == backbone)]
        mine = mine.sort_values(key, key=lambda column: column.map(_order))
        style = mark_style(loss, backbone) | {"color": colour_of(loss, backbone), "ms": 5}
        places, value = [values.index(x) for x in mine[key]], mine[metric]
        best = value.idxmax()
        label = f"{model_name(loss, backbone)}: {value[best]:.4f} at {tick(mine[key][best])}"
        axis.plot(places, value, label=label, **style)
        if f"{metric} low" in mine:
            ends = (mine[f"{metric} {end}"] for end in ("low", "high"))
            axis.vlines(places, *ends, color=style["color"], linewidth=1.2)
        axis.plot(values.index(mine[key][best]), value[best], "o", color=INK, ms=9, mfc="none")
        theirs = printed[printed["loss"] == loss]
        if len(theirs) and backbone == BACKBONE:
            places = [values.index(x) for x in theirs["value"]]
            dotted = {"color": style["color"], "marker": "D", "mfc": PAPER, "ms": 4, "ls": ":"}
            axis.plot(places, theirs["printed"], label=f"{name_of(loss)}: printed", **dotted)
    axis.set(xlabel=header(key), ylabel=header(metric))
    axis.grid(axis="y")
    below(axis, columns=1)


def _order(value: Any) -> tuple[bool, Any]:
    """Sort numbers before words."""
    return isinstance(value, str), value


def ablation_steps(table: pd.DataFrame) -> list[Panel]:
    """Draw each ablation as a path of dots, its steps from top to bottom, a panel per data set.

    table: the result of `summaries.ablations`; bars are the standard deviation over seeds.
    """
    return [
        Panel(
            f"{name_of(dataset)}: {name[0].lower()}{name[1:]}",
            partial(_steps, steps=steps),
            1.0 + 0.42 * len(steps),
            6.2,
        )
        for (name, dataset), steps in table.groupby(["ablation", "dataset"], sort=False)
    ]


def _steps(axis: Axes, steps: pd.DataFrame) -> None:
    metric = "recall@20"
    y, value = range(len(steps)), steps[metric]
    axis.plot(value, y, color=LINE, linewidth=2, zorder=1)
    for place, row in enumerate(steps.to_dict("records")):
        spread = 0 if pd.isna(row[f"{metric} sd"]) else row[f"{metric} sd"]
        style = mark_style(row["loss"]) | {"ms": 6, "ecolor": INK, "zorder": 2}
        axis.errorbar(row[metric], place, xerr=spread, **style)
        change = "" if pd.isna(row["change"]) else f" ({row['change']:+.1%})"
        where = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center", "fontsize": 8}
        axis.annotate(f"{row[metric]:.4f}{change}", (row[metric], place), **where)
    axis.set_yticks(y, steps["step"])
    axis.set_ylim(len(steps) - 0.6, -0.7)
    axis.margins(x=0.2)
    axis.set_xlabel(f"{header(metric)}, standard deviation over seeds")
    axis.grid(axis="x")


JUDGES = {"validation": "listwise", "test": "pointwise", "truth": "pointwise"}  # their colours
USUAL = {"color": QUIET, "ls": ":"}


def optimum_panels(table: pd.DataFrame) -> list[Panel]:
    """Draw the best value against a cause, a panel per cause and a line per judge.

    Dotted: the value of the main table. table: the result of `optimum.optimum_table`.
    """
    values = table[["best", "low", "high"]].to_numpy()
    room = 0.05 * (np.nanmax(values) - np.nanmin(values) or 1)
    limits = (np.nanmin(values) - room, np.nanmax(values) + room)
    return [
        Panel(cause, partial(_best_values, rows=rows, limits=limits), 2.7, 3.3)
        for cause, rows in table.groupby("cause", sort=False)
    ]


def _best_values(axis: Axes, rows: pd.DataFrame, limits: tuple[float, float]) -> None:
    labels = list(dict.fromkeys(rows["level"]))
    judges = list(dict.fromkeys(rows["judged by"]))
    for place, judge in enumerate(judges):
        mine, colour = rows[rows["judged by"] == judge], COLOURS[JUDGES[judge]]
        aside = 0.12 * (place - (len(judges) - 1) / 2)
        x = [labels.index(level) + aside for level in mine["level"]]
        axis.vlines(x, mine["low"], mine["high"], color=colour, linewidth=1.4)
        axis.plot(x, mine["best"], label=judge, color=colour, marker="os"[place], ms=5)
    axis.plot(range(len(labels)), rows.groupby("level", sort=False)["usual"].first(), **USUAL)
    axis.set_xticks(range(len(labels)), [tick(label) for label in labels])
    name = header(rows["setting"].iloc[0])
    axis.set(xlim=(-0.5, len(labels) - 0.5), ylim=limits, ylabel=f"best {name}")
    axis.grid(axis="y")
    below(axis, gap=0.25)


def learning_curves(history: pd.DataFrame) -> list[Panel]:
    """Draw both metrics against the epoch, a line per loss (its seeds averaged).

    A panel per data set and backbone, and metric. history: columns dataset, backbone, loss, seed,
    epoch and the metrics. A debiased loss is dashed in the colour of its biased twin. A line ends
    where the first of its seeds stopped.
    """
    return [
        Panel(
            f"{place_name(*place)}: {header(metric)}",
            partial(_learning, history=rows, metric=metric),
            4.2,
        )
        for place, rows in history.groupby(["dataset", "backbone"], sort=False)
        for metric in METRICS
    ]


def _learning(axis: Axes, history: pd.DataFrame, metric: str) -> None:
    for loss, rows in history.groupby("loss", sort=False):
        table = rows.pivot_table(metric, "epoch", "seed").dropna()
        dashed = "--" if loss.startswith("debiased_") else "-"
        axis.plot(
            table.index,
            table.mean(axis=1),
            label=name_of(loss),
            linestyle=dashed,
            **mark_style(loss) | {"color": colour_of(loss), "mec": colour_of(loss), "ms": 3.5},
        )
    axis.set(xlabel="epoch", ylabel=header(metric))
    axis.set_ylim(bottom=0)
    axis.grid(axis="y")
    below(axis)


def sensitivity(table: pd.DataFrame) -> list[Panel]:
    """Draw best, median, worst and the untuned of each model's trials, a panel per data set.

    table: the result of `summaries.tuning`.
    """
    return [
        Panel(name_of(dataset), partial(_trials, rows=rows), 1.3 + 0.27 * len(rows), 6.2)
        for dataset, rows in table.groupby("dataset", sort=False)
    ]


def _trials(axis: Axes, rows: pd.DataFrame) -> None:
    rows = rows.sort_values("best")
    for y, row in enumerate(rows.to_dict("records")):
        style = mark_style(row["model"], backbone_of(row["model"]))
        axis.plot([row["worst"], row["best"]], [y, y], color=style["color"], linewidth=2, zorder=1)
        axis.plot(row["median"], y, "|", color=INK, ms=9)
        axis.plot(row.get("untuned", math.nan), y, "o", mfc="none", mec=INK, ms=8, zorder=3)
        axis.plot(row["best"], y, ms=6, **style)
    axis.set_yticks(range(len(rows)), rows["model"].map(name_of))
    axis.set_xlabel("Recall@20 on validation: worst trial, median (|), untuned (ring), best (mark)")
    axis.grid(axis="x")


def growth_curves(rows: list[dict[str, Any]]) -> list[Panel]:
    """Draw seconds against what grows, a panel per axis and a line per device.

    rows: those of the part `growth` of the benchmarks. Both axes start at 0, where a straight line
    is linear growth; bars show the quartiles.
    """
    labels = {
        "negatives": "negatives N",
        "dim": "dimension D",
        "interactions": "interactions (million)",
    }
    return [
        Panel(label, partial(_growth, rows=[row for row in rows if row["axis"] == key]), 2.8, 3.6)
        for key, label in labels.items()
    ]


def _growth(axis: Axes, rows: list[dict[str, Any]]) -> None:
    epochs = rows[0]["axis"] == "interactions"
    unit, x_unit = (1, 1e6) if epochs else (1e-3, 1)
    for device, colour in (("cpu", COLOURS["listwise"]), ("cuda", COLOURS["pointwise"])):
        mine = [row for row in rows if row["device"] == device]
        if not mine:
            continue
        x = [row["value"] / x_unit for row in mine]
        low, y, high = (
            np.array([row["seconds"][name] for row in mine]) / unit
            for name in ("low", "median", "high")
        )
        axis.errorbar(x, y, (y - low, high - y), marker="o", ms=4, color=colour, label=device)
    axis.set(xlim=(0, None), ylim=(0, None), ylabel="seconds an epoch" if epochs else "ms a step")
    axis.grid()
    axis.legend()
