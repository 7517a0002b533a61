"""The figures of claims and checks: ours beside what is printed, claimed or true, as panels."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.markers import CARETRIGHT

from recloss.analysis.gains import METRICS as SHOWN
from recloss.analysis.names import family_of, header, model_name, name_of, place_name
from recloss.experiment.schema import backbone_of
from recloss.report.figures import below, by_metric, families_legend
from recloss.report.look import INK, LINE, PAPER, QUIET, Panel, mark_style

VERDICTS = {"holds": "#009e73", "does not hold": "#d55e00"}
SUMMED = {"infonce": "InfoNCE", "mine": "MINE, sum over j", "bpr": "BPR, sum over j"}
BOUND_COLOURS = {11: "#d55e00", 12: "#0072b2", 13: "#009e73"}
BOUND_MARKERS = {11: CARETRIGHT, 13: "D"}


def claims_forest(table: pd.DataFrame) -> list[Panel]:
    """Draw the effect of each part of a claim with its interval beside the printed one.

    table: claims.csv; a panel per data set with its backbone, and metric. Parts without an effect
    are left out.
    """
    known = table.dropna(subset="effect")
    return [
        Panel(
            f"{place_name(*place)}: {header(metric)}",
            partial(_forest, rows=rows),
            1.4 + 0.3 * len(rows),
            6.2,
        )
        for (*place, metric), rows in known.groupby(["dataset", "backbone", "metric"], sort=False)
    ]


def _forest(axis: Axes, rows: pd.DataFrame) -> None:
    for y, row in enumerate(rows.to_dict("records")):
        low, high = (100 * row[end] for end in ("ci_low", "ci_high"))
        colour = VERDICTS.get(row["part_verdict"], QUIET)
        axis.plot([low, high], [y, y], color=colour, linewidth=2)
        axis.plot(100 * row["effect"], y, "o", color=colour, ms=6)
        if pd.notna(row["printed"]):
            axis.plot(100 * row["printed"], y, "D", color=INK, mfc=PAPER, ms=6, zorder=3)
    axis.axvline(0, color=QUIET, linewidth=0.8)
    axis.set_yticks(range(len(rows)), [_short(*pair) for pair in rows[["claim", "part"]].values])
    axis.invert_yaxis()
    axis.set_xlabel("relative difference, %, with its 95 % interval")
    axis.grid(axis="x")
    handles = [
        Line2D([], [], color=colour, marker="o", label=word) for word, colour in VERDICTS.items()
    ]
    handles.append(Line2D([], [], color=QUIET, marker="o", label="not enough runs"))
    style = {"ls": "none", "marker": "D", "color": INK, "mfc": PAPER}
    below(axis, [*handles, Line2D([], [], label="printed", **style)], 2)


def _short(claim: str, part: str, width: int = 44) -> str:
    """Return the label of a part, broken into lines of about so many letters."""
    words, lines = f"{claim} {part}".split(), [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def paper_dumbbells(table: pd.DataFrame) -> list[Panel]:
    """Draw the paper's value and ours of each model, joined, a panel per data set and metric.

    table: the result of `reproduction.paper_table`; bars are the standard deviation over seeds.
    """
    rows = table.assign(shown=table["source"].str.contains("Table 2") | table["seeds"].gt(0))
    rows = rows[rows["shown"]]
    return by_metric(rows, _dumbbells, 1.4 + 0.27 * rows["model"].nunique())


def _dumbbells(axis: Axes, rows: pd.DataFrame, metric: str) -> None:
    rows = rows.sort_values(metric)
    for y, row in enumerate(rows.to_dict("records")):
        printed, ours, spread = row[metric], row[f"ours {metric}"], row[f"{metric} sd"]
        style = mark_style(row["model"], backbone_of(row["model"]))
        axis.plot([printed, ours], [y, y], color=LINE, linewidth=3, zorder=1)
        axis.plot(printed, y, "|", color=INK, ms=13, mew=2)
        axis.errorbar(ours, y, xerr=0 if pd.isna(spread) else spread, ms=7, **style)
    axis.set_yticks(range(len(rows)), rows["model"].map(name_of))
    axis.set_ylim(-0.7, len(rows) - 0.3)
    axis.set_xlabel(f"{header(metric)}: | printed, mark ours")
    axis.grid(axis="x")
    families = [family_of(model, backbone_of(model)) for model in rows["model"]]
    families_legend(axis, families, rows["model"].str.startswith("debiased_").any(), bars=False)


def truth_bars(table: pd.DataFrame) -> list[Panel]:
    """Draw true NDCG@20 and the bias of the negative term of each data set, a row per model.

    table: the result of `summaries.truth`. Bias as dots, plain and debiased, joined by a line;
    where a loss with a negative term was trained.
    """
    panels, parts = [], {"against the truth": _true}
    if "bias, plain" in table:
        parts["bias of the negative term"] = _bias
    for dataset, rows in table.groupby("dataset", sort=False):
        rows, height = rows.sort_values("true ndcg@20"), 1.3 + 0.27 * len(rows)
        for title, draw in parts.items():
            panels.append(Panel(f"{name_of(dataset)}: {title}", partial(draw, rows=rows), height))
    return panels


def _true(axis: Axes, rows: pd.DataFrame) -> None:
    value = rows["true ndcg@20"]
    for y, (model, x) in enumerate(zip(rows["model"], value, strict=True)):
        axis.plot([0, x], [y, y], color=LINE, linewidth=3, zorder=1)
        axis.plot(x, y, ms=7, **mark_style(model, backbone_of(model)))
        place = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
        axis.annotate(f"{x:.4f}", (x, y), **place)
    axis.set_yticks(range(len(rows)), rows["model"].map(name_of))
    axis.set(xlabel="NDCG@20 on all truly liked", xlim=(0, value.max() * 1.2))
    families = [family_of(model, backbone_of(model)) for model in rows["model"]]
    families_legend(axis, families, rows["model"].str.startswith("debiased_").any(), bars=False)


def _bias(axis: Axes, rows: pd.DataFrame) -> None:
    models = rows["model"].map(name_of)
    ends = {end: 100 * rows[f"bias, {end}"] for end in ("plain", "debiased")}
    axis.hlines(models, *ends.values(), color=LINE, linewidth=3)
    for face, (end, values) in zip((QUIET, PAPER), ends.items(), strict=True):
        style = {"color": QUIET, "mfc": face, "label": f"{end} estimate"}
        axis.plot(values, models, "o", **style)
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set(xlabel="bias, % of the true term")
    axis.set_xscale("symlog", linthresh=10)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.margins(x=0.06)
    axis.grid(axis="x")
    below(axis)


def shown_gains(table: pd.DataFrame) -> list[Panel]:
    """Draw what debiasing gains on items shown at random, a panel per metric, with its interval.

    table: the result of `gains.shown_table`; a row per debiased loss and data set.
    """
    rows = table.dropna(subset="auc gain")
    if rows.empty:
        return []
    height = 1.2 + 0.34 * len(rows)
    return [
        Panel(f"gain in {header(metric)}", partial(_gains, rows=rows, metric=metric), height)
        for metric in SHOWN
    ]


def _gains(axis: Axes, rows: pd.DataFrame, metric: str) -> None:
    labels = []
    for y, row in enumerate(rows.to_dict("records")):
        gain, low, high = (100 * row[f"{metric} {end}"] for end in ("gain", "low", "high"))
        style = mark_style(row["loss"], row["backbone"])
        axis.plot([low, high], [y, y], color=style["color"], linewidth=2)
        axis.plot(gain, y, ms=7, **style)
        labels.append(f"{model_name(row['loss'], row['backbone'])}, {name_of(row['dataset'])}")
    axis.set_yticks(range(len(rows)), labels)
    axis.invert_yaxis()
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set(xlabel="over the biased twin, %, with its 95 % interval")
    axis.margins(y=0.2)
    axis.grid(axis="x")


def bounds(table: pd.DataFrame) -> list[Panel]:
    """Draw each loss and its bounds at the vectors of trained models, means over pairs.

    table: bounds.csv (`bounds.rows`); a panel per data set and loss. Eq. 12 is a bar between its
    two sides. What the paper does not claim of a loss is hollow.
    """
    panels = []
    for dataset, rows in table.groupby("dataset", sort=False):
        for name, title in SUMMED.items():
            mine = rows[rows["inequality"] == name].iloc[::-1]
            draw = partial(_bounds_of_a_loss, table=mine.assign(model=mine["model"].map(name_of)))
            height = 1.5 + 0.24 * mine["model"].nunique()
            panels.append(Panel(f"{name_of(dataset)}: {title}", draw, height))
    return panels


def _bounds_of_a_loss(axis: Axes, table: pd.DataFrame) -> None:
    """Draw a loss, a row per model, and its bounds; table: rows of bounds.csv of one loss."""
    parts = {key: part.set_index("model") for key, part in table.groupby(["equation", "side"])}
    for equation, colour in BOUND_COLOURS.items():
        part = parts[equation, "lower"]
        claimed = part["claimed"].all()
        low, face = part["mean bound"], colour if claimed else PAPER
        label = f"Eq. {equation}, lower{'' if claimed else ' (not claimed)'}"
        if equation == 12:
            width, fill = parts[12, "upper"]["mean bound"] - low, to_rgba(face, 0.35)
            bar = {"left": low, "height": 0.5, "fc": fill, "ec": colour}
            axis.barh(part.index, width, **bar, label=label.replace("lower", "lower to upper"))
        else:
            shape = {"marker": BOUND_MARKERS[equation], "mfc": face, "mec": colour, "ms": 6}
            axis.plot(low, part.index, ls="none", **shape, label=label)
    loss = parts[11, "lower"]["mean loss"]
    axis.plot(loss, loss.index, "o", color=INK, ms=4, label="loss")
    axis.use_sticky_edges = False  # of the bars, at which markers would be cut
    axis.margins(x=0.07)
    if table["inequality"].eq("bpr").all():
        # Of N log 2 + sum_j d_j / 2 the terms are N times those of the others' bounds.
        axis.set_xscale("symlog", linthresh=10)
        axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.tick_params(axis="y", length=0)
    axis.set(xlabel="mean over pairs", ylabel="vectors trained with")
    axis.grid(axis="x")
    below(axis, columns=2)
