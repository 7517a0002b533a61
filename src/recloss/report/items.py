"""What a report shows: its tables and figures by name, the tidy file of each, who draws it.

Adding one takes the function that computes its table (`analysis.results`), the functions that
display and draw it, a caption, and a line here.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from pandas.io.formats.style import Styler

from recloss.analysis import summaries
from recloss.analysis.names import header, name_of
from recloss.analysis.results import Results, summary_names
from recloss.experiment import published
from recloss.report import tables

if TYPE_CHECKING:
    from recloss.report.look import Panel


def drawn(name: str) -> Callable[..., list["Panel"]]:
    """Return what calls the function of that name in `figures` or `comparisons`.

    Matplotlib, which these load, is not for the rules, to whom only matters what there is.
    """

    def draw(rows: pd.DataFrame, **options: Any) -> list["Panel"]:
        from recloss.report import comparisons, figures

        module = figures if hasattr(figures, name) else comparisons
        return getattr(module, name)(rows, **options)

    return draw


class Rule(NamedTuple):
    """What computes a table: the rule's script below workflow/scripts, and what it reads."""

    script: str
    inputs: tuple[str, ...]


RULES = {
    "models": Rule("models.py", ("metrics.csv", "per_user.npz of the runs")),
    "claims": Rule(
        "claims.py",
        (
            *("metrics.csv", "per_user.npz of the runs"),
            *("certificates.csv", "truth.csv", "bounds.csv and shown.csv of the data sets"),
        ),
    ),
    "summaries": Rule(
        "summaries.py",
        (
            *("metrics.csv", "history.csv", "per_user.npz of the runs", "split.json"),
            *("certificates.csv", "truth.csv", "bounds.csv and shown.csv of the data sets"),
        ),
    ),
    "aggregate": Rule("aggregate.py", ("metrics.json and history.csv of the runs",)),
}


class Item(NamedTuple):
    """A table, a figure or both of them.

    category and label: its place in Snakemake's own report, whose caption is
    report/captions/CAPTION.rst; table, figure: from the rows of its tidy file; rule: of `RULES`,
    which made that; keys: of the configuration, by which it was computed.
    """

    category: str
    label: str
    caption: str
    table: Callable[[pd.DataFrame], Styler] | None = None
    figure: Callable[[pd.DataFrame], list["Panel"]] | None = None
    rule: str = "summaries"
    keys: tuple[str, ...] = ()


CLAIMS, DATA, MAIN, GRIDS, DEBIASING, TRAINING = (
    *("0 Claims", "1 Data", "2 Main results", "3 Grids", "4 Debiasing", "5 Training"),
)
ITEMS = {
    "claims": Item(
        CLAIMS, "verdicts", "claims", tables.claims_display, drawn("claims_forest"), "claims",
        ("claims",),
    ),
    "advice": Item(
        MAIN, "which model to use", "advice", tables.advice_display, None, "models", ("claims",)
    ),
    "main": Item(
        MAIN, "losses compared", "main", tables.main_display, drawn("main_bars"), "models",
        ("losses", "linear", "seeds", "protocol"),
    ),
    "paper": Item(
        MAIN, "the paper's Table 2", "paper", tables.paper_display, drawn("paper_dumbbells")
    ),
    "readings": Item(
        MAIN, "readings", "readings", tables.readings_display, None, keys=("readings",)
    ),
    "published": Item(
        MAIN, "published", "published", tables.published_display, None, keys=("reproduce",)
    ),
    "inflation": Item(
        MAIN, "inflation", "inflation", tables.inflation_display, None, keys=("inflation",)
    ),
    "bounds": Item(
        MAIN, "lower bounds", "bounds", lambda rows: tables.bounds_display(summaries.bounds(rows)),
        drawn("bounds"),
    ),
    "recommended": Item(
        MAIN, "what is recommended", "recommended", tables.recommended_display
    ),
    "tuning": Item(
        GRIDS, "tuning", "tuning", tables.tuning_display, drawn("sensitivity"), keys=("tuned",)
    ),
    "ablations": Item(
        GRIDS, "ablations", "ablations", tables.ablations_display, drawn("ablation_steps"),
        keys=("ablations",),
    ),
    "optimum": Item(
        GRIDS, "best values", "optimum", tables.optimum_display, drawn("optimum_panels"),
        keys=("optimum",),
    ),
    "debiasing": Item(
        DEBIASING, "certificates", "debiasing",
        lambda rows: tables.certificates_display(summaries.certificates(rows)),
        keys=("debiasing",),
    ),
    "moved": Item(
        DEBIASING, "where the condition fails", "debiasing", tables.moved_display,
        keys=("debiasing",),
    ),
    "truth": Item(DEBIASING, "truth", "truth", tables.truth_display, drawn("truth_bars")),
    "shown": Item(
        DEBIASING, "shown at random", "shown", tables.shown_display, drawn("shown_gains")
    ),
    "learning_curves": Item(
        TRAINING, "learning curves", "learning_curves", None, drawn("learning_curves"), "aggregate"
    ),
    "cost": Item(TRAINING, "cost", "cost", tables.cost_display),
    "data": Item(DATA, "data sets", "data", tables.data_display, keys=("datasets",)),
}  # fmt: skip


def grid_item(grid: dict[str, Any]) -> Item:
    """Return the item of a grid of the configuration."""
    over = list(grid["over"])
    printed = published.figures()
    printed = printed[(printed["figure"] == grid.get("figure")) & (printed["setting"] == over[0])]
    metric = printed["metric"].iloc[0] if len(printed) else "recall@20"
    draw = partial(drawn("grid_figure"), over=over, metric=metric, printed=printed)
    label = f"{' × '.join(map(header, over))} of {', '.join(map(name_of, grid['loss']))}"
    return Item(GRIDS, label, "grid", partial(tables.grid_display, over=over), draw)


def items(config: dict[str, Any]) -> dict[str, Item]:
    """Return the items of an experiment by name, in the order of the report."""
    grids = {f"grid_{grid['name']}": grid_item(grid) for grid in config["grids"]}
    wanted = {"claims", "advice", "main", *summary_names(config)}
    if config["losses"]:
        wanted.add("learning_curves")
    return grids | {name: item for name, item in ITEMS.items() if name in wanted}


def rows_of(results: Results, name: str) -> pd.DataFrame:
    """Return the rows that an item shows: of tables/NAME.csv, or of what it is drawn from."""
    if name == "learning_curves":
        history = summaries.part_of(results.history, "main")
        return history[history["backbone"] != "linear"]
    return results.table(name)


def write(results: Results, name: str, item: Item) -> tuple[Styler | None, Path | None]:
    """Write an item's table as HTML and LaTeX and its figure as SVG, below the results' folder.

    Return the table, with names, and the path of the figure, or None.
    """
    rows, table, figure = rows_of(results, name), None, None
    if item.table is not None:
        table = tables.write(item.table(rows), results.folder / "tables" / name)
    if item.figure is not None:
        from recloss.report import look

        figure = results.folder / "figures" / f"{name}.svg"
        look.save(item.figure(rows), figure)
    return table, figure
