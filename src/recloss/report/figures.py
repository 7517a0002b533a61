"""Figures from tidy metrics. Every function returns a matplotlib figure; `save` writes SVG."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.markers import CARETRIGHT
from matplotlib.patches import Patch

from recloss.analysis.names import header, model_name, name_of
from recloss.analysis.shown import METRICS
from recloss.analysis.stats import kind
from recloss.experiment.schema import BACKBONE, backbone_of
from recloss.files import atomic
from recloss.report.tables import of_models, place_names, tick

COLOURS = {"plain": "#3b6ea8", "debiased": "#d98032", "linear": "#4f9a6b", "control": "#9aa0a6"}
STYLE = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "svg.hashsalt": "recloss",  # element ids are random otherwise, and equal figures would differ
    "svg.fonttype": "none",  # text stays text: searchable, and small
}
mpl.rcParams.update(STYLE)
SUMMED = {"infonce": "InfoNCE", "mine": "MINE, sum over j", "bpr": "BPR, sum over j"}
# Of Okabe and Ito's palette, which the colour-blind tell apart; the shapes differ too.
BOUND_COLOURS = {11: "#d55e00", 12: "#0072b2", 13: "#009e73"}
BOUND_MARKERS = {11: CARETRIGHT, 13: "D"}


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as SVG, the same bytes for the same figure."""
    with atomic(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def _panels(names: list[str], width: float, height: float) -> tuple[Figure, np.ndarray]:
    figure, axes = plt.subplots(
        1, len(names), figsize=(width * len(names), height), squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name_of(name))
    return figure, axes[0]


def main_bars(table: pd.DataFrame, metric: str = "recall@20") -> Figure:
    """Draw a bar per loss and data set with its 95 % interval over test users.

    table: the result of `stats.summarise`.
    """
    table, names = of_models(table), list(dict.fromkeys(table["dataset"]))
    figure, axes = _panels(names, 5.2, 0.8 + 0.27 * table["loss"].nunique())
    for axis, name in zip(axes, names, strict=True):
        rows = table[table["dataset"] == name].sort_values(metric)
        value = rows[metric].to_numpy()
        error = np.stack([value - rows[f"{metric} low"], rows[f"{metric} high"] - value])
        colours = [COLOURS[kind] for kind in rows["kind"]]
        models = rows["loss"]
        axis.barh(models, value, color=colours, height=0.72)
        axis.errorbar(value, models, xerr=error, fmt="none", ecolor="#222", elinewidth=1)
        for y, (x, high) in enumerate(zip(value, rows[f"{metric} high"], strict=True)):
            axis.annotate(
                f"{x:.4f}", (high, y), xytext=(4, 0), textcoords="offset points", va="center"
            )
        axis.set_xlim(0, rows[f"{metric} high"].max() * 1.18)
        axis.set_xlabel(header(metric))
        axis.tick_params(axis="y", length=0)
    kinds = [kind for kind in COLOURS if kind in set(table["kind"])]
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[kind]) for kind in kinds]
    axes[-1].legend(handles, kinds, loc="lower left", bbox_to_anchor=(1, 0))
    return figure


def grid_figure(
    points: pd.DataFrame,
    over: list[str],
    metric: str = "recall@20",
    printed: pd.DataFrame | None = None,
) -> Figure:
    """Draw a grid: a heat map over two settings, a curve over one, a panel per data set.

    points: columns dataset, backbone, loss, the settings in `over`, and `metric`, one row per run;
    seeds are averaged, and on a curve their standard deviation is shown where there are several. A
    curve per model; a heat map is of one. printed: rows of `published.figures`, beside a curve.
    """
    names = list(dict.fromkeys(points["dataset"]))
    if len(over) == 1:
        return _curves(points, over[0], metric, names, printed)
    rows, columns = over
    means = {
        name: points[points["dataset"] == name].pivot_table(metric, rows, columns) for name in names
    }
    shape = next(iter(means.values())).shape
    figure, axes = _panels(names, 1.8 + 0.72 * shape[1], 1.3 + 0.42 * shape[0])
    for axis, name in zip(axes, names, strict=True):
        table = means[name]
        image = axis.imshow(table, cmap="viridis", aspect="auto", origin="lower")
        axis.set_xticks(range(shape[1]), [tick(x) for x in table.columns])
        axis.set_yticks(range(shape[0]), [tick(y) for y in table.index])
        axis.set_xlabel(header(columns))
        axis.set_ylabel(header(rows))
        axis.spines[:].set_visible(False)
        middle = (table.to_numpy().min() + table.to_numpy().max()) / 2
        best = np.unravel_index(np.argmax(table.to_numpy()), table.shape)
        for (y, x), value in np.ndenumerate(table.to_numpy()):
            axis.text(
                x,
                y,
                f"{value:.4f}",
                ha="center",
                va="center",
                fontsize=8,
                color="black" if value > middle else "white",
                fontweight="bold" if (y, x) == best else "normal",
            )
        figure.colorbar(image, ax=axis, label=header(metric), format="%.3f")
    return figure


def _curves(
    points: pd.DataFrame,
    key: str,
    metric: str,
    names: list[str],
    printed: pd.DataFrame | None,
) -> Figure:
    figure, axes = _panels(names, 4.4, 3.0)
    models = list(dict.fromkeys(zip(points["loss"], points["backbone"], strict=True)))
    # Evenly spaced whatever they are: negatives are doubled, class priors start at zero.
    theirs = points[:0] if printed is None else printed.dropna(subset="printed")
    of_paper = [loss for loss, backbone in models if backbone == BACKBONE]
    theirs = theirs[theirs["dataset"].isin(names) & theirs["loss"].isin(of_paper)]
    values = sorted({*points[key], *(theirs["value"] if len(theirs) else ())})
    for axis, name in zip(axes, names, strict=True):
        axis.set_xticks(range(len(values)), [tick(value) for value in values])
        for model, colour in zip(models, plt.get_cmap("tab10").colors * 2, strict=False):
            loss, backbone = model
            mine = points[(points["dataset"] == name) & (points["loss"] == loss)]
            mine = mine[mine["backbone"] == backbone]
            groups = mine.groupby(key)[metric]
            mean, spread = groups.mean(), groups.std(ddof=1).fillna(0)
            label = f"{model_name(*model)}: {mean.max():.4f} at {tick(mean.idxmax())}"
            places = [values.index(value) for value in mean.index]
            axis.errorbar(places, mean, yerr=spread, color=colour, marker="o", ms=4, label=label)
            axis.plot(values.index(mean.idxmax()), mean.max(), "o", color=colour, ms=8, mfc="none")
            read = theirs[(theirs["dataset"] == name) & (theirs["loss"] == loss)]
            if len(read) and backbone == BACKBONE:
                places = [values.index(value) for value in read["value"]]
                style = {"color": colour, "marker": "D", "mfc": "white", "ms": 4, "ls": ":"}
                axis.plot(places, read["printed"], label=f"{name_of(loss)}: printed", **style)
        axis.set_xlabel(header(key))
        axis.set_ylabel(header(metric))
        axis.grid(axis="y", alpha=0.3)
        axis.legend(loc="upper left", bbox_to_anchor=(0, -0.22), title="best")
    return figure


def ablation_steps(table: pd.DataFrame, metric: str = "recall@20") -> Figure:
    """Draw each ablation as a path of dots, its steps from top to bottom, a panel per data set.

    table: the result of `summaries.ablations`; bars are the standard deviation over seeds.
    """
    groups = list(table.groupby(["ablation", "dataset"], sort=False))
    columns = table["dataset"].nunique()
    rows = -(-len(groups) // columns)
    height = 1.0 + 0.36 * max(len(steps) for _, steps in groups)
    figure, axes = plt.subplots(
        rows, columns, figsize=(5.6 * columns, height * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(groups) :]:
        axis.set_axis_off()
    for axis, ((name, dataset), steps) in zip(axes.flat, groups, strict=False):
        y, value = range(len(steps)), steps[metric]
        colour = COLOURS["debiased" if "debiased" in steps["loss"].iloc[-1] else "plain"]
        axis.plot(value, y, color="#c5cad0", linewidth=2, zorder=1)
        spread = steps[f"{metric} sd"].fillna(0)
        axis.errorbar(value, y, xerr=spread, fmt="o", color=colour, ms=6, zorder=2)
        for place, (x, change) in enumerate(zip(value, steps["change"], strict=True)):
            text = f"{x:.4f}" if pd.isna(change) else f"{x:.4f} ({change:+.1%})"
            axis.annotate(text, (x, place), xytext=(0, 7), textcoords="offset points", ha="center")
        axis.set_yticks(y, steps["step"])
        axis.set_ylim(len(steps) - 0.6, -0.7)
        axis.margins(x=0.2)
        axis.set_title(f"{name}, {name_of(dataset)}")
        axis.set_xlabel(header(metric))
        axis.grid(axis="x", alpha=0.3)
    return figure


def learning_curves(history: pd.DataFrame, metric: str = "recall@20") -> Figure:
    """Draw `metric` against the epoch, a line per loss (its seeds averaged).

    A panel per data set and backbone. history: columns dataset, backbone, loss, seed, epoch and
    `metric`. A debiased loss is drawn dashed in the colour of its biased twin. A line ends where
    the first of its seeds stopped.
    """
    history = history.assign(place=place_names(history))
    names = list(dict.fromkeys(history["place"]))
    losses = list(dict.fromkeys(history["loss"]))
    bases = list(dict.fromkeys(loss.removeprefix("debiased_") for loss in losses))
    colours = dict(zip(bases, plt.get_cmap("tab20").colors[::2] * 3, strict=False))
    figure, axes = _panels(names, 5.2, 3.6)
    for axis, name in zip(axes, names, strict=True):
        for loss in losses:
            rows = history[(history["place"] == name) & (history["loss"] == loss)]
            table = rows.pivot_table(metric, "epoch", "seed").dropna()
            axis.plot(
                table.index,
                table.mean(axis=1),
                label=name_of(loss),
                color=colours[loss.removeprefix("debiased_")],
                linestyle="--" if loss.startswith("debiased_") else "-",
                marker="o" if len(table) == 1 else None,
            )
        axis.set_xlabel("epoch")
        axis.set_ylabel(header(metric))
        axis.set_ylim(bottom=0)
        axis.grid(axis="y", alpha=0.3)
    axes[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.set_size_inches(figure.get_figwidth() + 1.6, figure.get_figheight())
    return figure


def truth_bars(table: pd.DataFrame) -> Figure:
    """Draw true NDCG@20 and the bias of the negative term, a row per model, of one data set each.

    table: the result of `summaries.truth`. Bias as dots, plain and debiased, joined by a line.
    """
    names = list(dict.fromkeys(table["dataset"]))
    count = table["model"].nunique()
    figure, axes = plt.subplots(
        len(names), 2, figsize=(10.4, (1 + 0.27 * count) * len(names)), squeeze=False,
        sharey="row", layout="constrained",
    )  # fmt: skip
    for (quality, bias), name in zip(axes, names, strict=True):
        rows = table[table["dataset"] == name].sort_values("true ndcg@20")
        value = rows["true ndcg@20"]
        colours = [COLOURS[kind(model, backbone_of(model))] for model in rows["model"]]
        models = rows["model"].map(name_of)
        quality.barh(models, value, color=colours, height=0.72)
        for y, x in enumerate(value):
            quality.annotate(
                f"{x:.4f}", (x, y), xytext=(4, 0), textcoords="offset points", va="center"
            )
        quality.set(
            title=name_of(name), xlabel="NDCG@20 on all truly liked", xlim=(0, value.max() * 1.18)
        )
        quality.tick_params(axis="y", length=0)
        ends = [100 * rows[f"bias, {end}"] for end in ("plain", "debiased")]
        bias.hlines(models, *ends, color="#c5cad0", linewidth=2)
        for end, values in zip(("plain", "debiased"), ends, strict=True):
            bias.plot(values, models, "o", color=COLOURS[end], label=f"{end} estimate")
        bias.axvline(0, color="#222", linewidth=0.8)
        bias.set(xlabel="bias of the negative term, % of the true one")
        bias.set_xscale("symlog", linthresh=10)
        bias.margins(x=0.06)
        bias.grid(axis="x", alpha=0.3)
        bias.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


def shown_gains(table: pd.DataFrame) -> Figure:
    """Draw what debiasing gains on items shown at random, a panel per metric, with its interval.

    table: the result of `summaries.shown_table`; a row per debiased loss and data set.
    """
    rows = of_models(table.dropna(subset="auc gain")).iloc[::-1]
    labels = rows["loss"] + ", " + rows["dataset"].map(name_of)
    figure, axes = _panels(list(METRICS), 4.4, 1.1 + 0.3 * len(rows))
    for axis, metric in zip(axes, METRICS, strict=True):
        gain, low, high = (100 * rows[f"{metric} {end}"] for end in ("gain", "low", "high"))
        style = {"fmt": "o", "color": COLOURS["debiased"], "ecolor": "#222", "elinewidth": 1}
        axis.errorbar(gain, labels, xerr=(gain - low, high - gain), **style)
        axis.axvline(0, color="#222", linewidth=0.8)
        axis.set(xlabel="gain over the biased twin, %")
        axis.margins(y=0.2)
        axis.grid(axis="x", alpha=0.3)
    axes[-1].tick_params(labelleft=False)
    return figure


def bounds(table: pd.DataFrame) -> Figure:
    """Draw each loss and its bounds at the vectors of trained models, means over pairs.

    table: bounds.csv (`bounds.rows`); a row of panels per data set, a panel per loss. Eq. 12 is a
    bar between its two sides. What the paper does not claim of a loss is hollow.
    """
    datasets = list(dict.fromkeys(table["dataset"]))
    height = 0.8 + 0.24 * table["model"].nunique()
    figure, axes = plt.subplots(
        len(datasets), len(SUMMED), figsize=(11, height * len(datasets) + 0.5),
        squeeze=False, sharey="row", layout="constrained",
    )  # fmt: skip
    for row, dataset in zip(axes, datasets, strict=True):
        for axis, (name, title) in zip(row, SUMMED.items(), strict=True):
            mine = table[(table["dataset"] == dataset) & (table["inequality"] == name)].iloc[::-1]
            _bounds_of_a_loss(axis, mine.assign(model=mine["model"].map(name_of)))
            axis.set(title=f"{name_of(dataset)}: {title}", xlabel="mean over pairs")
        row[0].set_ylabel("vectors trained with")
        # Of N log 2 + sum_j d_j / 2 the terms are N times those of the others' bounds.
        row[-1].set_xscale("symlog", linthresh=10)
        row[-1].xaxis.set_major_formatter("{x:,.0f}")
    # The legend has an equation as it is drawn where it is claimed: Eq. 13 of BPR.
    one, *_, bpr = (dict(zip(*a.get_legend_handles_labels()[::-1], strict=True)) for a in axes[0])
    named = dict(sorted((one | {"Eq. 13, lower": bpr["Eq. 13, lower"]}).items()))
    named["hollow: not claimed of this loss"] = Patch(fc="white", ec="#666")
    figure.legend(named.values(), named, loc="outside upper center", ncols=len(named))
    return figure


def _bounds_of_a_loss(axis: Axes, table: pd.DataFrame) -> None:
    """Draw a loss, a row per model, and its bounds; table: rows of bounds.csv of one loss."""
    parts = {key: part.set_index("model") for key, part in table.groupby(["equation", "side"])}
    for equation, colour in BOUND_COLOURS.items():
        part = parts[equation, "lower"]
        low, face = part["mean bound"], colour if part["claimed"].all() else "white"
        label = f"Eq. {equation}, lower"
        if equation == 12:
            width, fill = parts[12, "upper"]["mean bound"] - low, to_rgba(face, 0.35)
            bar = {"left": low, "height": 0.5, "fc": fill, "ec": colour}
            axis.barh(part.index, width, **bar, label=f"{label} to upper")
        else:
            shape = {"marker": BOUND_MARKERS[equation], "mfc": face, "mec": colour, "ms": 6}
            axis.plot(low, part.index, ls="none", **shape, label=label)
    loss = parts[11, "lower"]["mean loss"]
    axis.plot(loss, loss.index, "o", color="#222", ms=4, label="loss")
    axis.margins(x=0.07)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)


def sensitivity(table: pd.DataFrame) -> Figure:
    """Draw best, median and worst over each model's trials, a panel per data set.

    table: the result of `summaries.tuning`.
    """
    names = list(dict.fromkeys(table["dataset"]))
    figure, axes = _panels(names, 5.2, 0.9 + 0.27 * table["model"].nunique())
    for axis, name in zip(axes, names, strict=True):
        rows = table[table["dataset"] == name].sort_values("best")
        colours = [COLOURS[kind(model, backbone_of(model))] for model in rows["model"]]
        models = rows["model"].map(name_of)
        axis.hlines(models, rows["worst"], rows["best"], color=colours, linewidth=2)
        axis.plot(rows["median"], models, "|", color="#222", ms=9, label="median")
        axis.scatter(rows["best"], models, color=colours, s=28, zorder=3, label="best")
        axis.set_xlabel("Recall@20 on validation, worst to best trial")
        axis.grid(axis="x", alpha=0.3)
    axes[-1].legend(loc="lower right")
    return figure


def growth_curves(rows: list[dict[str, Any]]) -> Figure:
    """Draw seconds against what grows, a panel per axis and a line per device.

    rows: those of the part `growth` of the benchmarks. Both axes start at 0, where a straight line
    is linear growth; bars show the quartiles.
    """
    labels = {
        "negatives": "negatives N",
        "dim": "dimension D",
        "interactions": "interactions (million)",
    }
    figure, axes = _panels(list(labels.values()), 3.6, 2.8)
    for axis, (key, label) in zip(axes, labels.items(), strict=True):
        unit, x_unit = (1, 1e6) if key == "interactions" else (1e-3, 1)
        for device, colour in zip(("cpu", "cuda"), ("plain", "debiased"), strict=True):
            mine = [row for row in rows if (row["axis"], row["device"]) == (key, device)]
            if not mine:
                continue
            x = [row["value"] / x_unit for row in mine]
            low, y, high = (
                np.array([row["seconds"][name] for row in mine]) / unit
                for name in ("low", "median", "high")
            )
            axis.errorbar(
                x, y, (y - low, high - y), marker="o", ms=4, color=COLOURS[colour], label=device
            )
        axis.set(
            xlabel=label,
            ylabel="seconds an epoch" if key == "interactions" else "ms a step",
            xlim=(0, None),
            ylim=(0, None),
        )
        axis.grid(alpha=0.3)
    axes[0].legend()
    return figure
