"""The board of claims: what holds where, how large the effects are, in one look."""

import math
from typing import Any

import pandas as pd

from recloss.analysis.claims import CLAIMS
from recloss.analysis.names import header, place_name
from recloss.analysis.verdicts import COUNTED, FAILS, HOLDS, IN_PART, SO_FAR, TOO_FEW

# An icon, a word and a class of colour; never colour alone.
ICONS = {HOLDS: "✓", IN_PART: "◐", FAILS: "✗", TOO_FEW: "?"}
WIDEST = 0.3  # relative difference at either end of the longest axis; beyond it stands an arrow


def icon(verdict: str) -> str:
    """Return the icon of a verdict."""
    return ICONS[verdict.removesuffix(SO_FAR)]


def css_class(verdict: str) -> str:
    """Return the class by which a verdict is coloured."""
    return verdict.removesuffix(SO_FAR).replace(" ", "-")


def board(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the claims in order: text, source, verdicts by place, effects, sentences.

    table: claims.csv. Of a claim, `places`: name, verdict; `bars`: the effects known, laid on the
    one axis of the board (`axis`), each with its words; `sentences`: by place, alike ones joined.
    """
    axis, found = _axis(table), []
    for name, rows in table.groupby("claim", sort=False):
        places, sentences = [], {}
        for place, mine in rows.groupby(["dataset", "backbone"], sort=False):
            verdict = mine["verdict"].iloc[0]
            places.append({"name": place_name(*place), "verdict": verdict})
            said = (verdict, *dict.fromkeys(mine["sentence"]))
            sentences.setdefault(said, []).append(place_name(*place))
        known = rows.dropna(subset="effect").to_dict("records")
        several = rows["dataset"].nunique() * rows["backbone"].nunique() > 1
        found.append(
            {
                "name": name,
                "text": CLAIMS[name].text,
                "source": CLAIMS[name].where,
                "evidence": CLAIMS[name].evidence,
                "places": places,
                "bars": [_bar(row, axis, several) for row in known],
                "sentences": [
                    {"places": ", ".join(names), "verdict": verdict, "said": said}
                    for (verdict, *said), names in sentences.items()
                ],
            }
        )
    return found


def _axis(table: pd.DataFrame) -> tuple[float, float]:
    """Return the relative differences at the ends of the axis, which has 0 within."""
    known = table[["effect", "ci_low", "ci_high", "printed"]]
    low, high = known.min().min(), known.max().max()
    low, high = (0.0, 0.0) if math.isnan(low) else (low, high)
    return max(min(low, -0.01), -WIDEST), min(max(high, 0.01), WIDEST)


def _bar(row: dict[str, Any], axis: tuple[float, float], several: bool) -> dict[str, Any]:
    """Return an effect on the axis, in percent of its width, and in words."""
    left, right = axis

    def place(value: float) -> float:
        return round(100 * (max(left, min(right, value)) - left) / (right - left), 2)

    low, high, effect, printed = (row[key] for key in ("ci_low", "ci_high", "effect", "printed"))
    where = f"{place_name(row['dataset'], row['backbone'])}: " if several else ""
    words = f"{where}{row['part']}, {header(row['metric'])} {effect:+.1%}"
    words += f" ({low:+.1%} to {high:+.1%})"
    bar = {"low": place(low), "high": place(high), "effect": place(effect), "zero": place(0)}
    if pd.notna(printed):
        words += f", printed {printed:+.1%}"
        bar["printed"] = place(printed)
    beyond = "→" if effect > right else "←" if effect < left else ""
    bar |= {"label": f"{effect:+.1%}", "beyond": beyond}
    return bar | {"words": words, "class": css_class(row["part_verdict"])}


def answer(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return per data set how many of its claims came out how; table: claims.csv.

    `counts`: verdict, the word for so many of it, and their names.
    """
    found = []
    for dataset, rows in table.groupby("dataset", sort=False):
        claims = rows.groupby(["claim", "backbone"], sort=False)["verdict"].first()
        bare = claims.str.removesuffix(SO_FAR)
        counts = []
        for verdict, (one, more) in COUNTED.items():
            mine = bare[bare == verdict].index.get_level_values("claim")
            if len(mine):
                words = one if len(mine) == 1 else more
                counts.append({"verdict": verdict, "words": words, "names": list(mine.unique())})
        found.append({"dataset": dataset, "claims": len(bare), "counts": counts})
    return found
