"""The claims of arXiv 2312.08520, each judged from tidy results, per data set and metric.

C1 to C7 and C11 compare runs (`verdicts`), C8 asks the certificates, C9 the bounds, C10 puts our
numbers among the printed ones.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pandas as pd

from recloss.analysis import verdicts
from recloss.analysis.names import name_of
from recloss.analysis.statements import PRINTED, RIGHT
from recloss.analysis.summaries import certificates, obeyed
from recloss.analysis.verdicts import FAILS, HOLDS, IN_PART, TOO_FEW, Evidence, Part, compared
from recloss.experiment import published
from recloss.experiment.schema import BACKBONE, LINEAR


class Claim(NamedTuple):
    """A claim: its text, where the paper makes it, where the report shows the evidence."""

    text: str
    where: str
    evidence: str


CLAIMS = {
    "C1": Claim("MINE+ beats InfoNCE, by up to 16 %", "Q1, Table 2", "paper"),
    "C2": Claim("MINE alone beats InfoNCE", "Q1, Table 2", "paper"),
    "C3": Claim("InfoNCE+ is best at ε 0", "Figure 1", "paper"),
    "C4": Claim("MINE+ is best at λ 1.1 to 1.2", "Figure 4", "paper"),
    "C5": Claim("Debiased CCL and InfoNCE beat their twins", "Q2, Table 2", "paper"),
    "C6": Claim(
        "More negatives help; the number of positives M matters little", "Figure 2", "paper"
    ),
    "C7": Claim("Debiased InfoNCE has one peak over λₙ", "Figure 3", "paper"),
    "C8": Claim("iALS and EASE absorb their debiased twins", "Theorems 1 and 2", "debiasing"),
    "C9": Claim(
        "InfoNCE, MINE and BPR share the loose bound, InfoNCE and MINE alone the tight one",
        "Eq. 11 to 13",
        "bounds",
    ),
    "C10": Claim(
        "MF with MINE+ or debiased CCL is first or second beside deep models", "Table 1", "paper"
    ),
    "C11": Claim("Debiased MSE gains little over MSE (a conjecture)", "appendix", "main"),
}


def beats(evidence: Evidence, dataset: str, one: str, other: str) -> list[Part]:
    """Return the parts of a model over another at the settings of the main table."""

    def printed(metric: str) -> float | None:
        values = [published.printed(dataset, model, metric) for model in (one, other)]
        return None if None in values else values[0] / values[1] - 1

    words = f"{name_of(one)} over {name_of(other)}"
    sides = [evidence.main(dataset, model) for model in (one, other)]
    return compared(evidence, words, *sides, printed=printed)


def best(evidence: Evidence, points: pd.DataFrame, key: str, highest: bool = True) -> pd.DataFrame:
    """Return the runs of a grid's point with the highest, or lowest, mean of `claims.metric`."""
    if points.empty:
        return points
    means = points.groupby(f"settings.{key}")[evidence.config["claims"]["metric"]].mean()
    return points[points[f"settings.{key}"] == (means.idxmax() if highest else means.idxmin())]


def _at(*sides: pd.DataFrame, key: str) -> str:
    """Return the values at which the sides stand, in brackets; nothing where one has no runs."""
    if any(side.empty for side in sides):
        return ""
    values = (f"{side[f'settings.{key}'].iloc[0]:g}" for side in sides)
    return f" ({' and '.join(values)})"


def mine_plus_beats_infonce(evidence: Evidence, dataset: str) -> list[Part]:
    """C1: at the settings of the main table, and each at its best temperature of a grid.

    Where the temperature of both was tuned, the main table has each at its best.
    """
    losses = ("mine_plus", "infonce")
    parts = beats(evidence, dataset, *losses)
    tuned = evidence.config["tuned"]["datasets"].get(dataset, {})
    if all("temperature" in tuned.get(loss, {}).get("settings", {}) for loss in losses):
        return parts
    points = [evidence.points(dataset, loss, "temperature") for loss in losses]
    sides = [best(evidence, tried, "temperature") for tried in points]
    words = "each at its best temperature"
    if not any(side.empty for side in sides):
        mine_plus, infonce = map(_among, sides, points)
        words += f", {mine_plus} and {infonce}"
    return [*parts, *compared(evidence, words, *sides)]


def _among(side: pd.DataFrame, points: pd.DataFrame) -> str:
    """Return the temperature of one side, and whether none tried lies beyond it."""
    value, tried = side["settings.temperature"].iloc[0], points["settings.temperature"]
    ends = {tried.max(): "the largest", tried.min(): "the smallest"}
    return f"{value:g}" + (f" ({ends[value]} tried)" if value in ends else "")


def mine_beats_infonce(evidence: Evidence, dataset: str) -> list[Part]:
    """C2."""
    return beats(evidence, dataset, "mine", "infonce")


def infonce_plus_is_best_at_eps_zero(evidence: Evidence, dataset: str) -> list[Part]:
    """C3: ε 0 over the best other point of the grid."""
    points = evidence.points(dataset, "infonce_plus", "eps")
    zero = points["settings.eps"] == 0
    other = best(evidence, points[~zero], "eps")
    words = f"InfoNCE+ at ε 0 over the best other ε{_at(other, key='eps')}"
    return compared(evidence, words, points[zero], other)


def mine_plus_is_best_where_said(evidence: Evidence, dataset: str) -> list[Part]:
    """C4: the best λ within the claimed region over the best one outside."""
    low, high = evidence.config["claims"]["lambda"]
    points = evidence.points(dataset, "mine_plus", "lambda")
    inside = points["settings.lambda"].between(low, high)
    one, other = (best(evidence, points[which], "lambda") for which in (inside, ~inside))
    words = f"MINE+ at its best λ of {low:g} to {high:g}{_at(one, key='lambda')} over the best"
    words += f" elsewhere{_at(other, key='lambda')}"
    return compared(evidence, words, one, other)


def debiased_beat_twins(evidence: Evidence, dataset: str) -> list[Part]:
    """C5: by the main table and, where users were shown items at random, by these."""
    pairs = [(f"debiased_{twin}", twin) for twin in ("ccl", "infonce")]
    return [
        part
        for judge in (beats, verdicts.compared_on_shown)
        for pair in pairs
        for part in judge(evidence, dataset, *pair)
    ]


def negatives_matter_positives_do_not(evidence: Evidence, dataset: str) -> list[Part]:
    """C6: most over fewest negatives; best over worst M, which must be little."""
    parts = []
    for loss in ("debiased_ccl", "debiased_infonce"):
        points = evidence.points(dataset, loss, "negatives")
        count = points["settings.negatives"]
        sides = [points[count == end] for end in (count.max(), count.min())]
        at = [_at(side, key="negatives") for side in sides]
        ends = None if points.empty else (count.max(), count.min())
        parts += compared(
            evidence,
            f"{name_of(loss)} with the most negatives{at[0]} over the fewest{at[1]}",
            *sides,
            printed=_printed_ratio(dataset, loss, "negatives", ends),
        )
    for loss in ("debiased_ccl", "debiased_infonce"):
        points = evidence.points(dataset, loss, "extra_positives")
        sides = [best(evidence, points, "extra_positives", highest=h) for h in (True, False)]
        at = [_at(side, key="extra_positives") for side in sides]
        ends = (
            None if points.empty else [side["settings.extra_positives"].iloc[0] for side in sides]
        )
        parts += compared(
            evidence,
            f"{name_of(loss)} at its best M{at[0]} over its worst{at[1]}",
            *sides,
            printed=_printed_ratio(dataset, loss, "extra_positives", ends),
            little=True,
        )
    return parts


def _printed_ratio(
    dataset: str, loss: str, setting: str, values: Any
) -> Callable[[str], float | None]:
    """Return the relative difference of two points of a printed figure, by metric, or None."""
    rows = published.figures()
    rows = rows[
        (rows["dataset"] == dataset) & (rows["loss"] == loss) & (rows["setting"] == setting)
    ]
    rows = rows.dropna(subset="printed").set_index(["metric", "value"])["printed"]

    def printed(metric: str) -> float | None:
        keys = [(metric, value) for value in values or ()]
        if not keys or not set(keys) <= set(rows.index):
            return None
        one, other = (float(rows[key]) for key in keys)
        return one / other - 1

    return printed


def one_peak_over_lambda_n(evidence: Evidence, dataset: str) -> list[Part]:
    """C7: the best λₙ over the smallest and over the largest of the grid, no second peak beside."""
    points = evidence.points(dataset, "debiased_infonce", "lambda_n")
    peak = best(evidence, points, "lambda_n")
    values = points["settings.lambda_n"]
    parts = []
    for name, end in (("smallest", values.min()), ("largest", values.max())):
        side = points[values == end]
        words = f"debiased InfoNCE at its best λₙ{_at(peak, key='lambda_n')}, printed 200, over the"
        parts += compared(evidence, f"{words} {name}{_at(side, key='lambda_n')}", peak, side)
    means = points.groupby("settings.lambda_n")[evidence.config["claims"]["metric"]].mean()
    if dip := _deepest_dip(means):
        top, low = (points[values == value] for value in dip)
        at = [_at(side, key="lambda_n") for side in (top, low)]
        words = f"the second peak of debiased InfoNCE{at[0]} over the dip beside it{at[1]}"
        parts += compared(evidence, words, top, low, little=True)
    return parts


def _deepest_dip(means: pd.Series) -> tuple[float, float] | None:
    """Return where the lower of two peaks is, and the deepest dip between them; None with one peak.

    means: by the values of a grid, ascending.
    """
    deepest, where = 1.0, None
    for position in range(1, len(means) - 1):
        sides = (means.iloc[:position], means.iloc[position + 1 :])
        lower = min(sides, key=lambda side: side.max())
        if (depth := lower.max() / means.iloc[position]) > deepest:
            deepest, where = depth, (lower.idxmax(), means.index[position])
    return where


def debiased_mse_gains_little(evidence: Evidence, dataset: str) -> list[Part]:
    """C11."""
    sides = [evidence.main(dataset, loss) for loss in ("debiased_mse", "mse")]
    return compared(evidence, "debiased MSE over MSE", *sides, little=True)


COMPARED: dict[str, Callable[[Evidence, str], list[Part]]] = {
    "C1": mine_plus_beats_infonce,
    "C2": mine_beats_infonce,
    "C3": infonce_plus_is_best_at_eps_zero,
    "C4": mine_plus_is_best_where_said,
    "C5": debiased_beat_twins,
    "C6": negatives_matter_positives_do_not,
    "C7": one_peak_over_lambda_n,
    "C11": debiased_mse_gains_little,
}


def _compared_rows(evidence: Evidence, claim: str) -> Iterator[dict[str, Any]]:
    thresholds = evidence.config["claims"]
    places = itertools.product(evidence.datasets, evidence.config["backbones"])
    parts = {
        (dataset, backbone): COMPARED[claim](evidence._replace(backbone=backbone), dataset)
        for dataset, backbone in places
    }
    ps = verdicts.corrected(parts)
    for place in parts:
        judged = [
            (part, p, verdicts.verdict_of_part(part, p, thresholds))
            for part, p in zip(parts[place], ps[place], strict=True)
        ]
        whole = verdicts.verdict_of_claim([verdict for *_, verdict in judged])
        for part, p, verdict in judged:
            row = {"dataset": place[0], "backbone": place[1], "verdict": whole}
            row |= {"part": part.words}
            row |= {"metric": part.metric, "part_verdict": verdict, "printed": part.printed}
            if (c := part.comparison) is not None:
                row |= {"effect": c.effect, "ci_low": c.low, "ci_high": c.high, "p_value": p}
                row |= {"n_seeds": c.n_seeds, "n_users": c.n_users, "size": verdicts.size(part)}
            yield row | {"sentence": verdicts.sentence(part, p, verdict, thresholds)}


def _first_or_second(evidence: Evidence, _: str) -> Iterator[dict[str, Any]]:
    """C10: the rank of our MINE+ and debiased CCL among the other models of Table 1.

    Runs under `heldout` have other test sets and less to train on: they do not compare.
    """
    paper, thresholds = published.paper(), evidence.config["claims"]
    for dataset in evidence.datasets:
        others = paper[(paper["dataset"] == dataset) & paper["source"].str.contains("Table 1")]
        runs = {loss: evidence.main(dataset, loss) for loss in ("mine_plus", "debiased_ccl")}
        why, rows = _incomparable(others, runs, thresholds), []
        for metric in verdicts.METRICS:
            row = {"dataset": dataset, "backbone": BACKBONE}
            row |= {"part": "rank in Table 1", "metric": metric}
            if why:
                rows.append(row | {"part_verdict": TOO_FEW, "sentence": why})
                continue
            found = {loss: of_loss[metric].mean() for loss, of_loss in runs.items()}
            ranks = {loss: 1 + int((others[metric] > value).sum()) for loss, value in found.items()}
            verdict = HOLDS if min(ranks.values()) <= 2 else FAILS
            said = " and ".join(
                f"{name_of(loss)} ({found[loss]:.4f}) would be number {rank}"
                for loss, rank in ranks.items()
            )
            said += f" beside the {len(others)} other models printed, by {name_of(metric)}."
            rows.append(row | {"part_verdict": verdict, "sentence": said})
        whole = verdicts.verdict_of_claim([row["part_verdict"] for row in rows])
        yield from (row | {"verdict": whole} for row in rows)


def _incomparable(
    others: pd.DataFrame, runs: dict[str, pd.DataFrame], thresholds: dict[str, Any]
) -> str:
    """Say why runs, by loss, have no rank among the models printed; nothing where they have."""
    if others.empty:
        return "Table 1 has no such data set."
    if any((of_loss["protocol"] != "published").any() for of_loss in runs.values()):
        return "Runs under heldout do not compare with the printed ones."
    fewest = min(map(len, runs.values()))
    if not fewest:
        return "No runs of both losses."
    few = verdicts.too_few_seeds(fewest, thresholds)
    return few and f"{few[0].upper()}{few[1:]}."


def _absorbed(evidence: Evidence, _: str) -> Iterator[dict[str, Any]]:
    """C8: what the theorems should say holds, of each model; what fails as printed is named.

    The claim is that debiasing is absorbed: every corrected statement, our second form, and the
    half-step of Theorem 1 as printed must pass.
    """
    table = certificates(evidence.debiasing) if len(evidence.debiasing) else pd.DataFrame()
    for dataset in evidence.datasets:
        part = table[table["dataset"] == dataset] if len(table) else table
        rows = []
        for model in ("ials", "ease"):
            row = {"dataset": dataset, "backbone": LINEAR}
            row |= {"part": f"{name_of(model)} absorbs its debiased twin"}
            mine = part[part["model"] == model] if len(part) else part
            if mine.empty:
                said = f"{name_of(model)}: no certificate was computed."
                rows.append(row | {"part_verdict": TOO_FEW, "sentence": said})
                continue
            printed = (mine["claimed"] == PRINTED) & ~mine["certificate"].str.contains("half-step")
            passes = mine["verdict"] == "passes"
            wrong = mine.loc[printed & ~passes, "certificate"].str.split(":").str[0].unique()
            failed = mine.loc[~printed & ~passes, "certificate"]
            said = f"{name_of(model)}: {int(mine.loc[~printed, 'cases'].sum())} checks pass."
            if len(failed):
                said = f"{name_of(model)} fails: {', '.join(failed)}."
            for statement in wrong:
                of_it = mine["certificate"].str.startswith(statement)
                lists = mine["certificate"].str.endswith("rankings")  # shares of users
                worst = mine.loc[printed & of_it & ~lists, "worst"]
                said += f" {statement} fails as printed (by {worst.max():.2g}); right is "
                said += f"{RIGHT.get(statement, 'another one')}."
            rows.append(row | {"part_verdict": FAILS if len(failed) else HOLDS, "sentence": said})
        whole = verdicts.verdict_of_claim([row["part_verdict"] for row in rows])
        yield from (row | {"verdict": whole} for row in rows)


def _bounded(evidence: Evidence, _: str) -> Iterator[dict[str, Any]]:
    """C9: the losses obey just those bounds of Eq. 11 and 12 that the paper says they share."""
    table = obeyed(evidence.bounds) if len(evidence.bounds) else pd.DataFrame()
    for dataset in evidence.datasets:
        row = {"dataset": dataset, "backbone": evidence.config["backbones"][0], "part": "bounds"}
        part = (
            table[(table["dataset"] == dataset) & (table["equation"] <= 12)]
            if len(table)
            else table
        )
        if part.empty:
            text = "No bound was evaluated."
            yield row | {"verdict": TOO_FEW, "part_verdict": TOO_FEW, "sentence": text}
            continue
        claimed = part[part["claimed"]]
        alone = part[~part["claimed"]]
        said = [
            f"{name_of(entry.inequality)} {'obeys' if entry.obeys else 'violates'} Eq. "
            f"{entry.equation}" + ("" if entry.obeys else f" at {entry.violated:,}")
            for entry in part.itertuples()
        ]
        pairs, models = int(part["pairs"].max()), int(part["models"].max())
        text = f"At {pairs:,} pairs of {models} trained models {', '.join(said)}."
        tight = claimed[claimed["equation"] == 12]
        if len(tight):
            counts = " and ".join(
                f"{int(entry.tighter)} of {entry.models} ({name_of(entry.inequality)})"
                for entry in tight.itertuples()
            )
            text += f" Eq. 12 is the tighter one at {counts} models."
        if not claimed["obeys"].all():
            verdict = FAILS
        else:
            verdict = HOLDS if not alone["obeys"].any() else IN_PART
        yield row | {"verdict": verdict, "part_verdict": verdict, "sentence": text}


OTHERS = {"C8": _absorbed, "C9": _bounded, "C10": _first_or_second}


def judge(evidence: Evidence) -> pd.DataFrame:
    """Return claims.csv: a row per claim, data set, backbone, part and metric."""
    rows = [
        {"claim": name, "evidence": claim.evidence} | row
        for name, claim in CLAIMS.items()
        for row in OTHERS.get(name, _compared_rows)(evidence, name)
    ]
    return pd.DataFrame(rows, columns=list(verdicts.COLUMNS))
