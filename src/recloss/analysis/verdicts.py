"""How a claim is judged: parts, each two models compared, and the words for what comes out.

A part of a claim is one comparison in one metric: a model beside another (`stats.compare`), its
p-value corrected over data sets and backbones (Holm). Of a part that claims a gain:

    holds             the gain is positive and significant
    does not hold     its interval excludes even the smallest gain worth naming
    not enough runs   neither; or fewer seeds or users than the thresholds ask for, or no runs

Of one that claims that something matters little, the interval must end below `little`, or begin
above it. Of a claim: holds if all decided parts do, in part if some do, does not hold if none does;
`so far` where other parts are still undecided, which the sentence names.
"""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from recloss.analysis import gains
from recloss.analysis.names import name_of
from recloss.analysis.stats import Comparison, compare_runs, holm
from recloss.analysis.summaries import part_of
from recloss.experiment.schema import BACKBONE, backbone_of

HOLDS, IN_PART, FAILS = "holds", "holds in part", "does not hold"
TOO_FEW = "not enough runs"
SO_FAR = " so far"
COUNTED = {  # of one claim, of several
    HOLDS: ("holds", "hold"),
    IN_PART: ("holds in part", "hold in part"),
    FAILS: ("does not hold", "do not hold"),
    TOO_FEW: ("lacks runs", "lack runs"),
}
METRICS = ("recall@20", "ndcg@20")
COLUMNS = (
    *("claim", "dataset", "backbone", "verdict", "part", "metric", "part_verdict"),
    *("effect", "ci_low", "ci_high", "p_value", "n_seeds", "n_users", "printed", "size"),
    *("evidence", "sentence"),
)


class Evidence(NamedTuple):
    """What claims are judged by.

    metrics: metrics.csv; results: the folder that its paths are relative to; config: completed;
    debiasing, bounds and shown: their tidy rows, or empty; backbone: that of the runs compared.
    """

    metrics: pd.DataFrame
    results: Path
    config: dict[str, Any]
    debiasing: pd.DataFrame
    bounds: pd.DataFrame
    shown: pd.DataFrame = pd.DataFrame()
    backbone: str = BACKBONE

    @property
    def datasets(self) -> list[str]:
        """The names of the data sets."""
        return [dataset["name"] for dataset in self.config["datasets"]]

    def main(self, dataset: str, loss: str) -> pd.DataFrame:
        """Return the runs of the main table of a model on a data set."""
        runs = part_of(self.metrics, "main")
        return self._of(runs, dataset, loss)

    def _of(self, runs: pd.DataFrame, dataset: str, loss: str) -> pd.DataFrame:
        runs = runs[(runs["dataset"] == dataset) & (runs["loss"] == loss)]
        return runs[runs["backbone"] == backbone_of(loss, self.backbone)]

    def points(self, dataset: str, loss: str, *keys: str) -> pd.DataFrame:
        """Return the runs of the grid that varies exactly `keys` of a loss, on a data set.

        A grid at settings of its own, such as other negatives, does not speak for the main table's,
        and one point is no grid.
        """
        names = [
            grid["name"]
            for grid in self.config["grids"]
            if dataset in grid["datasets"] and self.backbone in grid["backbones"]
            if loss in grid["loss"] and set(grid["over"]) == set(keys) and not grid["settings"]
            if any(len(values) > 1 for values in grid["over"].values())
        ]
        runs = part_of(self.metrics, f"grid:{names[0]}") if names else self.metrics.iloc[:0]
        columns = [*self.metrics.columns, *(f"settings.{key}" for key in keys)]
        return self._of(runs, dataset, loss).reindex(columns=list(dict.fromkeys(columns)))

    def shown_to(self, dataset: str) -> pd.DataFrame:
        """Return what the users of a data set say of items shown at random, by run; or nothing."""
        rows = self.shown
        if rows.empty:
            return rows
        return rows[(rows["dataset"] == dataset) & (rows["backbone"] == self.backbone)]


class Part(NamedTuple):
    """A comparison in one metric, in words and numbers; None where runs are missing.

    printed: the effect that the paper prints, or None. little: the part claims a small effect.
    """

    words: str
    metric: str
    comparison: Comparison | None
    printed: float | None = None
    little: bool = False


def compared(
    evidence: Evidence,
    words: str,
    one: pd.DataFrame,
    other: pd.DataFrame,
    printed: Callable[[str], float | None] = lambda metric: None,
    little: bool = False,
) -> list[Part]:
    """Return the part of each metric that has the runs `one` beside `other`.

    printed: the effect that the paper prints of a metric, for the one backbone that it trains.
    """
    of_paper = evidence.backbone == BACKBONE
    return [
        Part(
            words,
            metric,
            compare_runs(one, other, evidence.results, metric),
            printed(metric) if of_paper else None,
            little,
        )
        for metric in METRICS
    ]


def compared_on_shown(evidence: Evidence, dataset: str, one: str, other: str) -> list[Part]:
    """Return the parts of a model over another on the items that users were shown at random.

    There are none where a data set has no such items, or another backbone was judged by them.
    """
    rows = evidence.shown_to(dataset)
    if rows.empty:
        return []
    words = f"{name_of(one)} over {name_of(other)}, on the items shown at random"
    sides = [rows[rows["loss"] == model] for model in (one, other)]
    return [Part(words, metric, gains.compare_models(*sides, metric)) for metric in gains.METRICS]


def verdict_of_part(part: Part, p: float, thresholds: dict[str, Any]) -> str:
    """Return the verdict on one part; p is corrected."""
    c = part.comparison
    if c is None or too_few(c, thresholds):
        return TOO_FEW
    if part.little:
        if c.high < thresholds["little"]:
            return HOLDS
        return FAILS if c.low > thresholds["little"] else TOO_FEW
    if c.effect > 0 and p < thresholds["alpha"]:
        return HOLDS
    return FAILS if c.high < thresholds["smallest_gain"] else TOO_FEW


def verdict_of_claim(verdicts: list[str]) -> str:
    """Return the verdict on a claim from those on its parts."""
    decided = [verdict for verdict in verdicts if verdict != TOO_FEW]
    if not decided:
        return TOO_FEW
    if len(set(decided)) > 1:
        return IN_PART
    return decided[0] + (SO_FAR if len(decided) < len(verdicts) else "")


def counted(rows: list[dict[str, Any]]) -> str:
    """Say of each data set how many claims hold, from rows of claims.csv, as `7 hold, 1 does not`.

    A claim is counted on each backbone.
    """
    verdict = {(row["dataset"], row["backbone"], row["claim"]): row["verdict"] for row in rows}
    counts = Counter((key[0], found.removesuffix(SO_FAR)) for key, found in verdict.items())
    said = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        found = ((counts[dataset, name], words) for name, words in COUNTED.items())
        parts = (f"{count} {words[count > 1]}" for count, words in found if count)
        said.append(f"{name_of(dataset)}: {', '.join(parts)}")
    return "; ".join(said)


def size(part: Part) -> str:
    """Say how the printed effect lies to our interval: `as printed`, `smaller`, `larger`, or ``."""
    c = part.comparison
    if c is None or part.printed is None:
        return ""
    if c.low <= part.printed <= c.high:
        return "as printed"
    return "smaller" if c.high < part.printed else "larger"


def corrected(parts: dict[Any, list[Part]]) -> dict[Any, list[float]]:
    """Return the p-value of each part, by data set and backbone, corrected over these (Holm).

    Corrected together are the n-th parts of a metric, of all places that have so many. It is 1
    without runs.
    """
    values: dict[Any, list[float]] = {place: [1.0] * len(parts[place]) for place in parts}
    families: dict[tuple[str, int], list[tuple[Any, int]]] = {}
    for place, found in parts.items():
        count: Counter[str] = Counter()
        for position, part in enumerate(found):
            if part.comparison is not None:
                families.setdefault((part.metric, count[part.metric]), []).append((place, position))
            count[part.metric] += 1
    for members in families.values():
        ps = holm([parts[place][position].comparison.p for place, position in members])
        for (place, position), p in zip(members, ps, strict=True):
            values[place][position] = p
    return values


def sentence(part: Part, p: float, verdict: str, thresholds: dict[str, Any]) -> str:
    """Say what a part came to, in one sentence."""
    c = part.comparison
    begin = part.words[0].upper() + part.words[1:]
    if c is None:
        return f"{begin}: no runs."
    if math.isnan(c.effect):
        return f"{begin}: {too_few(c, thresholds)}."
    text = f"{begin}: {c.effect:+.1%} {name_of(part.metric)} ({interval(c, p)}, {seeds(c.n_seeds)})"
    if part.printed is not None:
        text += f"; printed {part.printed:+.1%}"
        text += "" if size(part) == "as printed" else f", ours is {size(part)}"
    if part.little and c.high < 0:
        text += "; no gain, but a loss"
    if verdict == TOO_FEW:
        text += f"; {too_few(c, thresholds) or 'undecided'}"
    return text + "."


def interval(c: Comparison, p: float) -> str:
    """Say how exactly an effect is known."""
    if math.isnan(c.low):
        return "no interval from one user"
    said = "below 0.001" if p < 0.001 else f"{p:.3f}"
    return f"95 % interval {c.low:+.1%} to {c.high:+.1%}, p {said}"


def seeds(count: int) -> str:
    """Say a number of seeds."""
    return f"{count} seed{'' if count == 1 else 's'}"


def too_few(c: Comparison, thresholds: dict[str, Any]) -> str:
    """Say what a comparison lacks for a verdict: a mean but 0, seeds, users, or nothing (empty)."""
    if math.isnan(c.effect):
        return "no ratio to a mean of 0"
    if few := too_few_seeds(c.n_seeds, thresholds):
        return few
    if c.n_users < thresholds["min_users"]:
        return f"a verdict takes {thresholds['min_users']} users"
    return ""


def too_few_seeds(count: int, thresholds: dict[str, Any]) -> str:
    """Say that so many seeds are too few for a verdict, or nothing (empty)."""
    least = thresholds["min_seeds"]
    return f"a verdict takes {least} seeds" if count < least else ""
