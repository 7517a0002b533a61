"""One look for all figures: colours by family of losses, panels, SVG for files and for the page.

A figure is a list of panels. A file has them all side by side; the page has an SVG for each, which
stand beside or below each other as the screen is wide.
"""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from recloss.analysis.names import FAMILIES, family_of
from recloss.files import atomic

# The page replaces these by the colours of its theme, light or dark.
INK, QUIET, LINE, PAPER = "#1c2024", "#667079", "#d9dde2", "#fefefe"
THEME = {INK: "--ink", QUIET: "--quiet", LINE: "--line", PAPER: "--paper"}
# Of Okabe and Ito's palette, which the colour-blind tell apart; the shapes differ too.
COLOURS = {
    "listwise": "#0072b2",
    "pairwise": "#cc79a7",
    "pointwise": "#d55e00",
    "linear": "#009e73",
    "control": "#8a9199",
    "other": "#7a68c8",
}
MARKERS = {
    "listwise": "o",
    "pairwise": "s",
    "pointwise": "^",
    "linear": "D",
    "control": "X",
    "other": "P",
}
STYLE = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.facecolor": "none",
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "hatch.color": PAPER,
    "hatch.linewidth": 1.5,
    "axes.axisbelow": True,
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


class Panel(NamedTuple):
    """A panel: its title, what draws it on its axes, its height and width in inches."""

    title: str
    draw: Callable[[Axes], None]
    height: float
    width: float = 4.9


def compose(panels: list[Panel]) -> Figure:
    """Return the figure with all panels, two in a row, or as many as take ten inches."""
    columns = max(2, int(10 // max(panel.width for panel in panels)))
    columns = min(columns, len(panels))
    lines = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [max(panel.height for panel in line) for line in lines]
    width = max(panel.width for panel in panels) * columns
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    axes = figure.subplots(len(lines), columns, squeeze=False, height_ratios=heights)
    for axis, panel in zip(axes.flat, panels, strict=False):
        axis.set_title(panel.title)
        panel.draw(axis)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    return figure


def save(panels: list[Panel], path: str | Path) -> None:
    """Write the panels as one SVG, the same bytes for the same figure; or that there are none."""
    figure = compose(panels or [Panel("Nothing to draw yet", Axes.set_axis_off, 1.0)])
    with atomic(path) as temporary:
        temporary.write_text(_svg(figure, facecolor="white"), encoding="utf-8")


def inline(panel: Panel, label: str) -> str:
    """Return a panel as an <svg> for the page: its colours follow the theme, `label` is read out.

    label: escaped for an attribute.
    """
    # Ids are unique in a page: those that refer to each other are salted, the others go.
    with mpl.rc_context({"svg.hashsalt": label}):
        text = _svg(compose([panel]), transparent=True)
    text = re.sub(r'(<g) id="[^"]*"', r"\1", text[text.index("<svg") :])
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    # In one pass: what is put in names colours itself.
    themed = _themed()
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: themed.get(found[0], found[0]), text)
    width = re.search(r'width="([\d.]+)pt"', text)[1]
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    # Drawn at 96 dots an inch: its letters are as large as the page's small ones.
    style = f'style="max-width: {float(width) * 4 / 3:.0f}px"'
    return text.replace("<svg", f'<svg role="img" aria-label="{label}" {style}', 1)


def _svg(figure: Figure, **options: object) -> str:
    buffer = io.StringIO()
    FigureCanvasSVG(figure)
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None}, **options)
    return buffer.getvalue()


def _mixed(one: str, other: str, share: float) -> str:
    """Return a share of one colour mixed with another."""
    pairs = zip(to_rgb(one), to_rgb(other), strict=True)
    return to_hex([share * x + (1 - share) * y for x, y in pairs])


# Of losses of a family in turn: how much of its colour, and what is mixed in.
SHADES = ((1.0, INK), (0.55, INK), (0.55, PAPER), (0.3, INK), (0.75, INK), (0.75, PAPER))


def colour_of(loss: str, backbone: str = "") -> str:
    """Return the colour of a model where several of a family meet: a shade of its own."""
    family, loss = family_of(loss, backbone), loss.removeprefix("debiased_")
    twins = [name for name in FAMILIES.get(family, ()) if not name.startswith("debiased_")]
    place = twins.index(loss) if loss in twins else 0
    share, other = SHADES[place % len(SHADES)]
    return _mixed(COLOURS[family], other, share)


def _themed() -> dict[str, str]:
    """Return what each colour of a figure is in the page, whose theme is light or dark."""
    found = {colour: f"var({name}, {colour})" for colour, name in THEME.items()}
    for family, colour in COLOURS.items():
        for share, other in SHADES:
            mixed = f"var(--{family}) {share:.0%}, var({THEME[other]})"
            found[_mixed(colour, other, share)] = f"color-mix(in srgb, {mixed})"
    return found


def bar_style(loss: str, backbone: str = "") -> dict[str, object]:
    """Return how a model's bar is filled: its family's colour, hatched if debiased."""
    hatch = "////" if loss.startswith("debiased_") else None
    return {"color": COLOURS[family_of(loss, backbone)], "hatch": hatch, "edgecolor": PAPER}


def mark_style(loss: str, backbone: str = "") -> dict[str, object]:
    """Return how a model's mark looks: its family's colour and shape, hollow if debiased."""
    family = family_of(loss, backbone)
    face = PAPER if loss.startswith("debiased_") else COLOURS[family]
    return {
        "color": COLOURS[family],
        "marker": MARKERS[family],
        "mfc": face,
        "mec": COLOURS[family],
    }
