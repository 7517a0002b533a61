"""Tables for readers: the numbers as CSV, and the same formatted as HTML and LaTeX."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from recloss.analysis.gains import METRICS
from recloss.analysis.names import family_of, header, model_name, name_of, place_name
from recloss.experiment.schema import backbone_of
from recloss.files import atomic

BOLD = "font-weight: bold;"
UNDERLINED = "text-decoration: underline;"
IDENTIFIERS = (
    "dataset",
    "loss",
    "model",
    "metric",
    "inequality",
    "claimed",
)  # columns whose cells have a name
COST = {
    "train_seconds": "training, s",
    "seconds_per_epoch": "an epoch, s",
    "eval_seconds": "evaluation, s",
    "peak_memory_mb": "peak memory, MB",
}
COST_FORMATS = {"epochs": "{:.1f}", "peak memory, MB": "{:,.0f}"}
COST_FORMATS |= {name: "{:,.2f}" for name in COST.values() if name.endswith(" s")}
RECOMMENDED_FORMATS = {"coverage@20": "{:.1%}", "gini@20": "{:.3f}"}
RECOMMENDED_FORMATS |= {"train users of an item": "{:,.0f}"}
GREEK = {"λ": "lambda", "ε": "epsilon", "τ": "tau", "κ": "kappa", "ν": "nu", "α": "alpha"}
ENTITIES = {"&amp;": r"\&", "&lt;": "<", "&gt;": ">", "&#34;": '"', "&#39;": "'"}  # in LaTeX
LATEX = str.maketrans(
    {"_": r"\_", "%": r"\%", "#": r"\#", "±": r"$\pm$", "⁺": "$^+$", "₀": "$_0$", "ₙ": "$_n$"}
    | {letter: rf"$\{name}$" for letter, name in GREEK.items()}
)


def styled(frame: pd.DataFrame, formats: dict[str, Any] | None = None, na_rep: str = "") -> Styler:
    """Return rows for readers, by column formatted as `formats` says; text is text in HTML too."""
    return frame.style.hide(axis="index").format(formats, na_rep=na_rep, escape="html")


def main_display(table: pd.DataFrame) -> Styler:
    """Return the main table for readers: a row per model, per data set Recall@20 and NDCG@20.

    table: the result of `stats.summarise`. The standard deviation over seeds follows where there
    are several; the best trained model is bold, and those that are not significantly different from
    it (columns `<metric> tied`) are underlined.
    """
    cells, best, tied = {}, {}, {}
    table = of_models(table)
    losses = list(dict.fromkeys(table["loss"]))
    for dataset, rows in table.groupby("dataset", sort=False):
        rows = rows.set_index("loss")
        for metric in ("recall@20", "ndcg@20"):
            cells[dataset, metric] = {
                loss: _with_spread(row[metric], row[f"{metric} sd"])
                for loss, row in rows.iterrows()
            }
            trained = rows.loc[rows["kind"] != "control", metric]
            best[dataset, metric] = trained.idxmax() if len(trained) else ""
            tied[dataset, metric] = set(rows.index[rows[f"{metric} tied"]])
    frame = pd.DataFrame(cells, index=losses).fillna("")

    def marks(column: pd.Series) -> list[str]:
        ties = dict.fromkeys(tied[column.name], UNDERLINED)
        return [(ties | {best[column.name]: BOLD}).get(loss, "") for loss in column.index]

    return frame.style.format(escape="html").apply(marks)


GROUPS = {  # of the columns of `models_display`: what the page lets a reader choose
    "Recall and NDCG at 20": ("recall@20", "ndcg@20"),
    "at 50": ("recall@50", "ndcg@50"),
    "what is recommended": ("coverage@20", "gini@20", "train users of an item"),
    "cost": ("epochs", "training, s", "an epoch, s", "evaluation, s", "peak memory, MB"),
}


def models_display(main: pd.DataFrame, cost: pd.DataFrame, *others: pd.DataFrame) -> Styler:
    """Return all that is known of the models, a row per data set and model, best first.

    main, cost, others: main.csv, cost.csv and, where it is there, recommended.csv. The best trained
    model of a data set is bold, those not significantly different from it are underlined; a cell
    says its seeds and interval, a row opens its runs.
    """
    keys = ["dataset", "backbone", "loss"]
    costs = cost.rename(columns=COST).drop(columns=["runs", "device"])
    table = main.merge(costs, on=keys, how="left")
    for other in others:
        renamed = other.rename(columns={"popularity@20": "train users of an item"})
        table = table.merge(renamed.drop(columns=["seeds", "recall@20"]), on=keys, how="left")
    table = table.sort_values(["dataset", "recall@20"], ascending=[True, False], ignore_index=True)
    shown = of_models(table)[["dataset", "loss"]].rename(columns={"loss": "model"})
    shown["family"] = [family_of(*pair) for pair in table[["loss", "backbone"]].to_numpy()]
    marks, notes = (pd.DataFrame("", table.index, columns=[]) for _ in range(2))
    for metric in ("recall@20", "ndcg@20", "recall@50", "ndcg@50"):
        spreads = zip(table[metric], table[f"{metric} sd"], strict=True)
        shown[metric] = [_with_spread(mean, spread) for mean, spread in spreads]
        if f"{metric} tied" not in table:
            continue
        trained = table[table["kind"] != "control"]
        best = trained.groupby("dataset")[metric].idxmax()
        marks[metric] = table[f"{metric} tied"].map({True: UNDERLINED, False: ""})
        marks.loc[best, metric] = BOLD
        notes[metric] = [
            f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}; 95 % interval over users "
            f"{row[f'{metric} low']:.4f} to {row[f'{metric} high']:.4f}"
            for row in table.to_dict("records")
        ]
    rest = [name for group in GROUPS.values() for name in group if name not in shown]
    shown[[name for name in rest if name in table]] = table[[n for n in rest if n in table]]
    shown["seeds"] = table["seeds"]
    marks = marks.reindex(columns=shown.columns, fill_value="")
    formats = {k: v for k, v in (COST_FORMATS | RECOMMENDED_FORMATS).items() if k in shown}
    style = styled(shown, formats).apply(lambda _: marks, axis=None)
    style.set_tooltips(notes, as_title_attribute=True)
    columns = list(shown)
    groups = {g: [columns.index(n) for n in names if n in columns] for g, names in GROUPS.items()}
    style.set_table_attributes(f"data-groups='{json.dumps(groups)}'")
    return opening(style, "model", table)


def runs_display(metrics: pd.DataFrame) -> Styler:
    """Return the runs of metrics.csv, seeds averaged: a row per data set, model and variant."""
    keys = ["dataset", "backbone", "loss", "variant", "protocol"]
    groups = metrics.groupby(keys, sort=False)
    values = ["recall@20", "ndcg@20", "best_epoch", "train_seconds"]
    table = groups[values].mean().assign(seeds=groups.size(), path=groups["path"].first())
    table = table.reset_index()
    names = {"loss": "model", "train_seconds": "training, s", "best_epoch": "best epoch"}
    shown = of_models(table).rename(columns=names)
    columns = ["dataset", "model", "variant", "protocol", "recall@20", "ndcg@20"]
    shown = shown[[*columns, "best epoch", "training, s", "seeds"]]
    formats = dict.fromkeys(("recall@20", "ndcg@20"), "{:.4f}")
    formats |= {"best epoch": "{:.1f}", "training, s": "{:,.1f}"}
    return opening(styled(shown, formats), "model", table)


def opening(display: Styler, column: str, rows: pd.DataFrame) -> Styler:
    """Let the cells of a column open the runs of their row, and show the family of its model.

    rows: as many as the display has, with dataset, loss, and where they have it backbone, variant
    and path.
    """
    classes = []
    for row in rows.to_dict("records"):
        backbone = row.get("backbone") or backbone_of(row["loss"])
        which = (row["dataset"], backbone, row["loss"], row.get("variant", "base"))
        stage = "heldout/" if str(row.get("path", "")).startswith("heldout/") else ""
        family = family_of(row["loss"], backbone)
        classes.append(f"run:{stage}{'/'.join(which)} family-{family}")
    return display.set_td_classes(pd.DataFrame({column: classes}, index=display.index))


def _with_spread(mean: float, spread: float) -> str:
    return f"{mean:.4f}" if pd.isna(spread) else f"{mean:.4f} ± {spread:.4f}"


def of_models(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the names of models as `loss`, and without its column `backbone`."""
    pairs = zip(table["loss"], table["backbone"], strict=True)
    return table.assign(loss=[model_name(*pair) for pair in pairs]).drop(columns="backbone")


def place_names(table: pd.DataFrame) -> list[str]:
    """Return the name of each row's data set with its backbone (`names.place_name`)."""
    return [place_name(*place) for place in zip(table["dataset"], table["backbone"], strict=True)]


def advice_display(table: pd.DataFrame) -> Styler:
    """Return advice.csv (`advice.advise`) for readers."""
    names = {"next": "next best", "next_value": "its value", "effect": "ahead by"}
    names |= {"ci_low": "95 % low", "ci_high": "high", "p_value": "p", "n_seeds": "seeds"}
    names |= {"n_users": "users", "as_good": "maybe as good"}
    shown = of_models(table).drop(columns="sentence").rename(columns=names)
    formats = dict.fromkeys(("value", "its value", "popularity"), "{:.4f}")
    formats |= dict.fromkeys(("ahead by", "95 % low", "high"), "{:+.1%}")
    formats |= {"p": "{:.3f}", "users": "{:,}"}
    return styled(shown, formats)


def grid_display(points: pd.DataFrame, over: list[str]) -> Styler:
    """Return the points of a grid (`summaries.grid_table`), best first."""
    frame = of_models(points).sort_values(["dataset", "recall@20"], ascending=[True, False])
    shown = frame[["dataset", "loss", *over]].copy()
    for metric in ("recall@20", "ndcg@20"):
        spreads = zip(frame[metric], frame[f"{metric} sd"], strict=True)
        shown[metric] = [_with_spread(mean, spread) for mean, spread in spreads]
    shown["seeds"] = frame["seeds"]
    style = styled(shown, dict.fromkeys(over, tick))
    # A point is a row of the table, whose model is named by its identifier.
    return opening(style, "loss", points.loc[frame.index])


def tick(value: Any) -> str:
    """Return a setting as an axis or a table of a grid shows it."""
    return f"{value:g}" if isinstance(value, float | int) else str(value)


def data_display(table: pd.DataFrame) -> Styler:
    """Return the data table with thousands separated; `origin` is for the report's text."""
    table = table.drop(columns="origin")
    counts = [name for name, kind in table.dtypes.items() if kind.kind == "i"]
    return styled(table, dict.fromkeys(counts, "{:,}") | {"density": "{:.5f}"})


def cost_display(table: pd.DataFrame) -> Styler:
    """Return the cost table with units in its header."""
    return styled(of_models(table).rename(columns=COST), COST_FORMATS)


def recommended_display(table: pd.DataFrame) -> Styler:
    """Return what is recommended for readers (`summaries.recommended_table`)."""
    shown = of_models(table).rename(columns={"popularity@20": "train users of an item"})
    formats = {"recall@20": "{:.4f}"} | RECOMMENDED_FORMATS
    return styled(shown, formats)


def certificates_display(table: pd.DataFrame) -> Styler:
    """Return the certificates for readers; what fails is bold."""
    shown = table.rename(columns={"worst": "worst value", "value": "of what"})
    shown["verdict"] = shown["verdict"].map({"passes": "holds", "FAILS": "fails"})

    def failed(row: pd.Series) -> list[str]:
        return [BOLD if row["verdict"] == "fails" else ""] * len(row)

    return styled(shown, {"worst value": "{:.1e}", "tolerance": "{:.0e}"}).apply(failed, axis=1)


def moved_display(table: pd.DataFrame) -> Styler:
    """Return the measurements for readers; shares and changes in percent."""
    shown = table.rename(columns={"certificate": "measured", "tau": "τ⁺", "kappa": "κ"})
    formats = {"value": "{:+.2%}", "τ⁺": "{:g}", "κ": "{:g}"}
    return styled(shown, formats, na_rep="by user")


def truth_display(table: pd.DataFrame) -> Styler:
    """Return the truth for readers, best true NDCG@20 first."""
    table = table.sort_values(["dataset", "true ndcg@20"], ascending=[True, False])
    formats = {name: "{:.4f}" for name in table if name.endswith("@20")}
    formats |= {name: "{:+.1%}" for name in table if name.startswith("bias")}
    return styled(table, formats)


def shown_display(table: pd.DataFrame) -> Styler:
    """Return the judgement by items shown at random for readers, best AUC first.

    table: the result of `gains.shown_table`.
    """
    table = of_models(table.sort_values(["dataset", "auc"], ascending=[True, False]))
    shown = table[["dataset", "loss"]].copy()
    for metric in METRICS:
        spreads = zip(table[metric], table[f"{metric} sd"], strict=True)
        shown[metric] = [_with_spread(mean, spread) for mean, spread in spreads]
        ends = (table[f"{metric} {end}"] for end in ("gain", "low", "high"))
        shown[f"{name_of(metric)} over twin"] = [
            "" if pd.isna(gain) else f"{gain:+.1%} ({low:+.1%} to {high:+.1%})"
            for gain, low, high in zip(*ends, strict=True)
        ]
    own = [f"validation {metric}" for metric in ("recall@20", "ndcg@20")]
    shown[[*own, "seeds"]] = table[[*own, "seeds"]]
    return styled(shown, dict.fromkeys(own, "{:.4f}"))


def bounds_display(table: pd.DataFrame) -> Styler:
    """Return the bounds for readers, by equation; one that is claimed and violated is bold.

    table: the result of `summaries.bounds`.
    """
    shown = table.rename(columns={"inequality": "loss", "tighter": "tighter than Eq. 11"})
    shown["equation"] = "Eq. " + shown["equation"].astype(str) + ", " + shown.pop("side")
    shown["claimed"] = shown["claimed"].map({True: "yes", False: "no"})

    def refuted(row: pd.Series) -> list[str]:
        return [BOLD if row["violated"] and row["claimed"] == "yes" else ""] * len(row)

    formats = dict.fromkeys(("smallest slack", "mean gap"), "{:.4f}")
    formats |= dict.fromkeys(("pairs", "violated"), "{:,}")
    formats["tighter than Eq. 11"] = "{:.0f}"
    return styled(shown, formats).apply(refuted, axis=1)


def inflation_display(table: pd.DataFrame) -> Styler:
    """Return the inflation for readers."""
    formats = dict.fromkeys(("epoch by validation", "epoch by test"), "{:.1f}")
    formats |= dict.fromkeys(("recall@20 by validation", "recall@20 by test"), "{:.4f}")
    return styled(table, formats | {"inflation": "{:+.2%}"})


def tuning_display(table: pd.DataFrame) -> Styler:
    """Return the tuning for readers (`summaries.tuning`)."""
    formats = dict.fromkeys(("untuned", "best", "median", "worst"), "{:.4f}")
    formats |= {"gain": "{:+.1%}", "seconds": "{:,.0f}", "steps": "{:,.0f}"}
    return styled(table, formats)


def published_display(table: pd.DataFrame) -> Styler:
    """Return published numbers beside ours for readers (`reproduction.compare`)."""
    shown = table[["dataset", "name", "source", "recall@20", "ours recall@20"]].copy()
    shown["difference"] = table["ours recall@20"] / table["recall@20"] - 1
    shown[["ndcg@20", "ours ndcg@20"]] = table[["ndcg@20", "ours ndcg@20"]]
    shown["difference "] = table["ours ndcg@20"] / table["ndcg@20"] - 1  # another column
    shown[["protocol", "settings"]] = table[["protocol", "settings"]]
    formats = {name: "{:.4f}" for name in shown if name.endswith("@20")}
    formats |= dict.fromkeys(("difference", "difference "), "{:+.1%}")
    return styled(shown, formats)


def paper_display(table: pd.DataFrame) -> Styler:
    """Return the paper's numbers beside ours for readers (`reproduction.paper_table`)."""
    shown = table[["dataset", "model"]].copy()
    for metric in ("recall@20", "ndcg@20"):
        ours = zip(table[f"ours {metric}"], table[f"{metric} sd"], strict=True)
        shown[f"{metric} printed"] = table[metric]
        shown[f"{metric} ours"] = [
            "" if pd.isna(mean) else _with_spread(mean, spread) for mean, spread in ours
        ]
        shown[f"{metric} difference"] = table[f"{metric} difference"]
    shown[["seeds", "settings"]] = table[["seeds", "settings"]]
    formats = {f"{metric} printed": "{:.4f}" for metric in ("recall@20", "ndcg@20")}
    formats |= {f"{metric} difference": "{:+.1%}" for metric in ("recall@20", "ndcg@20")}
    style = styled(shown, formats)
    return opening(style, "model", table.rename(columns={"model": "loss"}))


def readings_display(table: pd.DataFrame) -> Styler:
    """Return the readings for readers (`reproduction.readings_table`); the nearest is bold."""
    near = table.dropna(subset="distance").groupby(["dataset", "loss"], sort=False)["distance"]
    nearest = set(near.idxmin())

    def marks(row: pd.Series) -> list[str]:
        return [BOLD if row.name in nearest else ""] * len(row)

    shown = table.assign(reading=table["reading"].str.replace("_", " "))
    formats = {name: "{:.4f}" for name in shown if name.endswith("@20")}
    formats |= {"ratio": "{:.3f}", "printed ratio": "{:.3f}", "distance": "{:.1%}"}
    return styled(shown, formats).apply(marks, axis=1)


def ablations_display(table: pd.DataFrame) -> Styler:
    """Return the ablations for readers (`summaries.ablations`)."""
    shown = table[["ablation", "dataset", "step"]].copy()
    for metric in ("recall@20", "ndcg@20"):
        pairs = zip(table[metric], table[f"{metric} sd"], strict=True)
        shown[metric] = [_with_spread(mean, spread) for mean, spread in pairs]
    shown[["change", "seeds"]] = table[["change", "seeds"]]
    return styled(shown, {"change": "{:+.1%}"})


def optimum_display(table: pd.DataFrame) -> Styler:
    """Return the best values for readers (`optimum.optimum_table`)."""
    shown = table.drop(columns=["setting", "usual", "grid"])
    ticks = [
        name for name in shown if name in ("level", "best", "low", "high") or "at best" in name
    ]
    formats = dict.fromkeys(ticks, tick) | {"recall@20": "{:.4f}", "gain": "{:+.1%}"}
    return styled(shown, formats)


def claims_display(table: pd.DataFrame) -> Styler:
    """Return claims.csv (`claims.judge`) for readers."""
    columns = ["claim", "dataset", "part", "metric", "part_verdict", "effect", "ci_low", "ci_high"]
    columns += ["p_value", "n_seeds", "printed", "size"]
    names = {"ci_low": "95 % low", "ci_high": "high", "p_value": "p", "n_seeds": "seeds"}
    names |= {"part_verdict": "verdict"}
    shown = table.assign(dataset=place_names(table))[columns].rename(columns=names)
    formats = dict.fromkeys(("effect", "95 % low", "high", "printed"), "{:+.1%}")
    formats |= {"p": "{:.3f}", "seeds": "{:.0f}"}
    return styled(shown, formats)


def readable(display: Styler) -> Styler:
    """Name the identifiers in the columns `IDENTIFIERS`, in header and index."""
    columns = [name for name in IDENTIFIERS if name in display.columns]
    if columns:
        display.format(name_of, subset=columns, na_rep="", escape="html")
    if display.index.dtype.kind not in "iu":
        display.format_index(name_of, axis=0, escape="html")
    return display.format_index(header, axis=1, escape="html")


def write(display: Styler, stem: Path) -> Styler:
    """Write a display, with names, to the path `stem` with .html and with .tex; return it."""
    display = readable(display).set_uuid(stem.name)  # pandas draws a random one
    with atomic(stem.with_suffix(".html")) as temporary:
        temporary.write_text(display.to_html() + "\n", encoding="utf-8")
    with atomic(stem.with_suffix(".tex")) as temporary:
        text = display.to_latex(convert_css=True, hrules=True, multicol_align="c")
        text = re.sub("&(?:amp|lt|gt|#34|#39);", lambda found: ENTITIES[found[0]], text)
        temporary.write_text(text.translate(LATEX), encoding="utf-8")
    return display
