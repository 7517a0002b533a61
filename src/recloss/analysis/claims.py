"""The claims of arXiv 2312.08520 and 2312.08517, each judged from tidy results.

A claim is tested by one or several gains: a model beside another, compared by the paired bootstrap
over users and seeds (`stats.compare`), p-values corrected over data sets (Holm). Of one gain:

    holds             it is positive and significant
    does not hold     its interval excludes even the smallest gain worth naming
    not enough runs   neither; or fewer seeds or users than the thresholds ask for

Of a claim of several gains: holds if all do, in part if some do, does not hold if none can.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from recloss.analysis.names import name_of
from recloss.analysis.stats import Comparison, compare_runs, holm
from recloss.analysis.summaries import certificates, part_of

HOLDS, IN_PART, FAILS = "holds", "holds in part", "does not hold"
TOO_FEW = "not enough runs"
COLUMNS = (
    *("claim", "dataset", "verdict", "effect", "ci_low", "ci_high"),
    *("p_value", "n_seeds", "n_users", "evidence", "sentence"),
)


class Evidence(NamedTuple):
    """What claims are judged by.

    metrics: metrics.csv; results: the folder that its paths are relative to; config: completed;
    debiasing and bounds: their tidy rows, or empty.
    """

    metrics: pd.DataFrame
    results: Path
    config: dict[str, Any]
    debiasing: pd.DataFrame
    bounds: pd.DataFrame


class Gain(NamedTuple):
    """A model beside another, in words and numbers; None where runs are missing."""

    words: str
    comparison: Comparison | None


class Claim(NamedTuple):
    """A claim: its text, its source, where the report shows the evidence, and its test."""

    text: str
    source: str
    evidence: str
    gains: Callable[[Evidence, str], list[Gain]]


def _compared(evidence: Evidence, words: str, one: pd.DataFrame, other: pd.DataFrame) -> Gain:
    metric = evidence.config["claims"]["metric"]
    return Gain(words, compare_runs(one, other, evidence.results, metric))


def _main(evidence: Evidence, dataset: str, loss: str) -> pd.DataFrame:
    runs = part_of(evidence.metrics, "main")
    return runs[(runs["dataset"] == dataset) & (runs["loss"] == loss)]


def _best(evidence: Evidence, points: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the runs of the point of a grid with the highest mean of the claims' metric."""
    if points.empty:
        return points
    metric = evidence.config["claims"]["metric"]
    means = points.groupby(keys)[metric].mean()
    best = means.idxmax() if len(keys) > 1 else (means.idxmax(),)
    return points[(points[keys] == list(best)).all(axis=1)]


def _grid_points(evidence: Evidence, dataset: str, loss: str, keys: set[str]) -> pd.DataFrame:
    """Return the runs of the grid that varies exactly `keys` of a loss, on a data set."""
    for grid in evidence.config["grids"]:
        if loss in grid["loss"] and set(grid["over"]) == keys:
            points = part_of(evidence.metrics, f"grid:{grid['name']}")
            return points[(points["dataset"] == dataset) & (points["loss"] == loss)]
    columns = [*evidence.metrics.columns, *(f"settings.{key}" for key in keys)]
    return evidence.metrics.iloc[:0].reindex(columns=list(dict.fromkeys(columns)))


def mine_plus_beats_infonce(evidence: Evidence, dataset: str) -> list[Gain]:
    """C1, at the settings of the main table and at the best temperature of each."""
    words = "MINE+ over InfoNCE at the settings of the main table"
    sides = [_main(evidence, dataset, loss) for loss in ("mine_plus", "infonce")]
    gains = [_compared(evidence, words, *sides)]
    keys = ["settings.temperature"]
    points = [
        _grid_points(evidence, dataset, loss, {"temperature"}) for loss in ("mine_plus", "infonce")
    ]
    sides = [_best(evidence, some, keys) for some in points]
    words = "each at its best temperature"
    if not any(side.empty for side in sides):
        at = " and ".join(f"{side[keys[0]].iloc[0]:g}" for side in sides)
        words = f"{words} ({at})"
    return [*gains, _compared(evidence, words, *sides)]


def weights_are_best_where_said(evidence: Evidence, dataset: str) -> list[Gain]:
    """C2: the best point of the claimed region over the best one outside, per loss."""
    low, high = evidence.config["claims"]["lambda"]
    gains = []
    for loss, keys in (("infonce_plus", {"lambda", "eps"}), ("mine_plus", {"lambda"})):
        points = _grid_points(evidence, dataset, loss, keys)
        columns = [f"settings.{key}" for key in sorted(keys)]
        inside = points["settings.lambda"].between(low, high)
        if "eps" in keys:
            inside &= points["settings.eps"] == 0
        sides = [_best(evidence, points[which], columns) for which in (inside, ~inside)]
        where = "ε 0 and " if "eps" in keys else ""
        words = f"{name_of(loss)} at {where}λ {low:g} to {high:g}"
        if not any(side.empty for side in sides):
            best = ", ".join(
                f"{name_of(c.removeprefix('settings.'))} {sides[1][c].iloc[0]:g}" for c in columns
            )
            words = f"{words} over the best elsewhere ({best})"
        gains.append(_compared(evidence, words, *sides))
    return gains


def debiased_beat_biased(evidence: Evidence, dataset: str) -> list[Gain]:
    """C3: each debiased loss over its biased twin."""
    gains = []
    for twin in ("ccl", "mse", "infonce"):
        sides = [_main(evidence, dataset, loss) for loss in (f"debiased_{twin}", twin)]
        words = f"debiased {name_of(twin)} over {name_of(twin)}"
        gains.append(_compared(evidence, words, *sides))
    return gains


COMPARED = {
    "C1": Claim("MINE+ beats InfoNCE", "arXiv 2312.08520", "main", mine_plus_beats_infonce),
    "C2": Claim(
        "InfoNCE+ is best at ε 0 and λ about 1.1, MINE+ at λ 1.1 to 1.2",
        "arXiv 2312.08520",
        "grids",
        weights_are_best_where_said,
    ),
    "C3": Claim(
        "Debiased losses beat their biased twins",
        "arXiv 2312.08520, 2312.08517",
        "main",
        debiased_beat_biased,
    ),
}
TEXTS = {name: (claim.text, claim.source) for name, claim in COMPARED.items()} | {
    "C4": ("iALS and EASE are inherently debiased", "arXiv 2312.08517"),
    "C5": ("InfoNCE, MINE and BPR share the same kind of lower bound", "arXiv 2312.08520"),
}


def verdict_of_gain(gain: Gain, p: float, thresholds: dict[str, Any]) -> str:
    """Return the verdict on one gain; p is corrected."""
    c = gain.comparison
    if c is None or c.n_seeds < thresholds["min_seeds"] or c.n_users < thresholds["min_users"]:
        return TOO_FEW
    if c.effect > 0 and p < thresholds["alpha"]:
        return HOLDS
    return FAILS if c.high < thresholds["smallest_gain"] else TOO_FEW


def verdict_of_claim(verdicts: list[str]) -> str:
    """Return the verdict on a claim from those on its gains."""
    if HOLDS in verdicts:
        return HOLDS if set(verdicts) == {HOLDS} else IN_PART
    return FAILS if set(verdicts) == {FAILS} else TOO_FEW


def _compared_rows(evidence: Evidence) -> Iterator[dict[str, Any]]:
    thresholds = evidence.config["claims"]
    datasets = [d["name"] for d in evidence.config["datasets"]]
    for name, claim in COMPARED.items():
        gains = {dataset: claim.gains(evidence, dataset) for dataset in datasets}
        corrected: dict[str, list[float]] = {dataset: [] for dataset in datasets}
        for position in range(len(next(iter(gains.values())))):
            found = [d for d in datasets if gains[d][position].comparison is not None]
            values = dict(
                zip(found, holm([gains[d][position].comparison.p for d in found]), strict=True)
            )
            for dataset in datasets:
                corrected[dataset].append(values.get(dataset, 1.0))
        for dataset in datasets:
            parts = list(zip(gains[dataset], corrected[dataset], strict=True))
            verdicts = [verdict_of_gain(gain, p, thresholds) for gain, p in parts]
            sentences = [
                _sentence(gain, p, verdict, thresholds)
                for (gain, p), verdict in zip(parts, verdicts, strict=True)
            ]
            first = next(((g.comparison, p) for g, p in parts if g.comparison is not None), None)
            row = {"claim": name, "dataset": dataset, "verdict": verdict_of_claim(verdicts)}
            if first is not None:
                c, p = first
                row |= {"effect": c.effect, "ci_low": c.low, "ci_high": c.high, "p_value": p}
                row |= {"n_seeds": c.n_seeds, "n_users": c.n_users}
            yield row | {"evidence": claim.evidence, "sentence": " ".join(sentences)}


def _sentence(gain: Gain, p: float, verdict: str, thresholds: dict[str, Any]) -> str:
    c = gain.comparison
    begin = gain.words[0].upper() + gain.words[1:]
    if c is None:
        return f"{begin}: no runs."
    metric = name_of(thresholds["metric"])
    text = (
        f"{begin}: {c.effect:+.1%} {metric} (95 % interval {c.low:+.1%} to {c.high:+.1%}, "
        f"p {_p(p)}, {c.n_seeds} seed{'' if c.n_seeds == 1 else 's'})"
    )
    if verdict == TOO_FEW and c.n_seeds < thresholds["min_seeds"]:
        text += f"; a verdict takes {thresholds['min_seeds']} seeds"
    elif verdict == TOO_FEW and c.n_users < thresholds["min_users"]:
        text += f"; a verdict takes {thresholds['min_users']} users"
    elif verdict == TOO_FEW:
        text += "; undecided"
    return text + "."


def _p(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.3f}"


def _debiasing_rows(evidence: Evidence) -> Iterator[dict[str, Any]]:
    """C4: every certificate passes; the sentence says what the condition is worth."""
    table = certificates(evidence.debiasing) if len(evidence.debiasing) else pd.DataFrame()
    for dataset in (d["name"] for d in evidence.config["datasets"]):
        row = {"claim": "C4", "dataset": dataset, "evidence": "debiasing"}
        part = table[table["dataset"] == dataset] if len(table) else table
        if part.empty:
            yield row | {"verdict": TOO_FEW, "sentence": "No certificate was computed."}
            continue
        failed = part.loc[part["verdict"] != "passes"]
        models = list(dict.fromkeys(part["model"]))
        bad = set(failed["model"])
        cases = int(part["cases"].sum())
        names = " and ".join(name_of(model) for model in models)
        sentence = f"Under the condition, {cases} checks of {names} pass."
        if bad:
            sentence = (
                f"Failed: {', '.join(failed['model'].map(name_of) + ' ' + failed['certificate'])}."
            )
        rows = evidence.debiasing
        lists = rows[
            (rows["dataset"] == dataset) & (rows["certificate"] == "kappa by user, rankings")
        ]
        if len(lists):
            most = lists.loc[lists["value"].idxmax()]
            sentence += (
                f" Where hidden positives per observed one differ by user, at τ⁺ {most['tau']:g} "
                f"debiasing gives {most['value']:.0%} of users another top 20."
            )
        if not bad:
            verdict = HOLDS if {"ials", "ease"} <= set(models) else IN_PART
        else:
            verdict = IN_PART if set(models) - bad else FAILS
        yield row | {"verdict": verdict, "sentence": sentence}


def _bound_rows(evidence: Evidence) -> Iterator[dict[str, Any]]:
    """C5: no pair violates an inequality."""
    for dataset in (d["name"] for d in evidence.config["datasets"]):
        row = {"claim": "C5", "dataset": dataset, "evidence": "bounds"}
        bounds = evidence.bounds
        part = bounds[bounds["dataset"] == dataset] if len(bounds) else bounds
        if part.empty:
            yield row | {"verdict": TOO_FEW, "sentence": "No bound was evaluated."}
            continue
        violated, total = int(part["violated"].sum()), int(part["pairs"].sum())
        sentence = (
            f"{violated} of {total:,} values of three losses, at the vectors of "
            f"{part['model'].nunique()} trained models, lie below their bound."
        )
        yield row | {"verdict": FAILS if violated else HOLDS, "sentence": sentence}


def judge(evidence: Evidence) -> pd.DataFrame:
    """Return claims.csv: a row per claim and data set."""
    rows = [*_compared_rows(evidence), *_debiasing_rows(evidence), *_bound_rows(evidence)]
    return pd.DataFrame(rows, columns=list(COLUMNS))
