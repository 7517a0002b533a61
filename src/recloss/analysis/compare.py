"""Two results folders beside each other: what changed beyond noise, and what did not.

Models of the same name (data set, backbone, loss, variant, stage) are compared in each metric.
Where the data are the same, so are the test users, and only training is left as a source of noise:
the relative standard deviation over seeds, pooled over all models of a data set and metric that
have several seeds on a side. The difference of two means over n1 and n2 seeds is then judged by
Student's t,

    t = (ours / theirs - 1) / (s sqrt(1/n1 + 1/n2)),

with the degrees of freedom of s; p-values are corrected for the number of models by Holm. Of a
model that has one seed on both sides, what lies within that noise agrees; what lies beyond it may
be the model's own noise, which is unknown.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from recloss.analysis.advice import value_text
from recloss.analysis.names import header, name_of
from recloss.analysis.stats import LEVEL, holm, relative
from recloss.analysis.verdicts import TOO_FEW
from recloss.experiment.runs import DETERMINISTIC
from recloss.files import ReclossError

METRICS = ("recall@20", "ndcg@20")
SAME, AGREES, CHANGED, UNKNOWN, OTHER = (
    *("the same", "agrees", "changed", "noise unknown", "other data or protocol"),
)
EQUAL = 1e-6  # relative: what another processor may do to the same run
MODEL = ["dataset", "backbone", "loss", "variant", "stage"]
COLUMNS = (
    *MODEL,
    *("metric", "ours", "theirs", "difference", "low", "high", "p", "seeds", "their_seeds"),
    *("word", "settings"),
)


def folder_of(path: Path, run: str) -> Path:
    """Return the results folder that a path names: itself, or the one of that run within it."""
    for folder in (path, path / run):
        if (folder / "metrics.csv").is_file():
            return folder
    found = sorted(file.parent.name for file in path.glob("*/metrics.csv"))
    within = f"it has those of {', '.join(found)}" if found else "give a results folder"
    raise ReclossError(f"{path}: no metrics.csv there, nor in {path / run}; {within}")


def compare(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Return a row per model that both have, and metric: means, difference, what may be said.

    ours, theirs: metrics.csv of either. `difference` is relative, with the ends of its 95 %
    interval; `settings` names what differs, with our value and theirs.
    """
    ours, theirs = (frame.assign(stage=_stage(frame)) for frame in (ours, theirs))
    sides = [dict(iter(frame.groupby(MODEL, sort=False))) for frame in (ours, theirs)]
    rows = []
    for metric in METRICS:
        spreads = _spreads([ours, theirs], metric)
        for key in (key for key in sides[0] if key in sides[1]):
            pair = [side[key] for side in sides]
            row = dict(zip(MODEL, key, strict=True)) | {"metric": metric}
            rows.append(row | _beside(*pair, metric, *spreads.get(key[0], (math.nan, 0))))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    known = table["p"].notna()
    table.loc[known, "p"] = holm(table.loc[known, "p"].tolist())
    # The noise of other models does not vouch for a change of one whose own nobody has seen.
    own = (table[["seeds", "their_seeds"]] > 1).any(axis=1)
    beyond = np.where(own, CHANGED, UNKNOWN)
    decided = pd.Series(np.where(table["p"] < 1 - LEVEL, beyond, AGREES), table.index)
    return table.assign(word=table["word"].astype(object).fillna(decided))


def _stage(frame: pd.DataFrame) -> pd.Series:
    return frame["path"].str.split("/").str[0]


def _spreads(frames: list[pd.DataFrame], metric: str) -> dict[str, tuple[float, int]]:
    """Return by data set the pooled relative deviation over seeds, and its degrees of freedom."""
    squares: dict[str, float] = {}
    freedom: dict[str, int] = {}
    for frame in frames:
        for (dataset, *_), runs in frame.groupby(MODEL, sort=False):
            if len(runs) > 1:
                relative = runs[metric] / runs[metric].mean()
                squares[dataset] = squares.get(dataset, 0.0) + relative.var() * (len(runs) - 1)
                freedom[dataset] = freedom.get(dataset, 0) + len(runs) - 1
    return {name: (math.sqrt(squares[name] / n), n) for name, n in freedom.items()}


def _beside(
    ours: pd.DataFrame, theirs: pd.DataFrame, metric: str, spread: float, freedom: int
) -> dict[str, Any]:
    """Return what may be said of a model's runs on either side; without a word, p decides."""
    means = [side[metric].mean() for side in (ours, theirs)]
    row: dict[str, Any] = {
        "ours": means[0],
        "theirs": means[1],
        "settings": _differing(ours, theirs),
    }
    row |= {"seeds": len(ours), "their_seeds": len(theirs), "difference": relative(*means)}
    alike = all(set(ours[key]) == set(theirs[key]) for key in ("data_hash", "protocol"))
    if not alike:
        return row | {"word": OTHER}
    if abs(row["difference"]) < EQUAL:
        return row | {"word": SAME}
    if ours["loss"].iloc[0] in DETERMINISTIC:
        return row | {"word": CHANGED}
    if not spread > 0:
        return row | {"word": UNKNOWN}
    error = spread * math.sqrt(1 / len(ours) + 1 / len(theirs))
    half = error * stdtrit(freedom, (1 + LEVEL) / 2)
    p = 2 * stdtr(freedom, -abs(row["difference"]) / error)
    return row | {"low": row["difference"] - half, "high": row["difference"] + half, "p": p}


def _differing(ours: pd.DataFrame, theirs: pd.DataFrame) -> str:
    """Return the settings in which two runs differ, as `dimension D 64 (theirs 32)`."""
    first, other = ours.iloc[0], theirs.iloc[0]
    names = [name for name in [*ours, *theirs] if name.startswith("settings.")]
    said = []
    for name in dict.fromkeys(names):
        values = (first.get(name), other.get(name))
        if len(set(map(str, values))) > 1 and not all(map(pd.isna, values)):
            mine, its = ("none" if pd.isna(value) else value_text(value) for value in values)
            said.append(f"{header(name.removeprefix('settings.'))} {mine} (theirs {its})")
    return ", ".join(said)


def verdicts(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Return a row per claim, data set and backbone judged on both sides: either verdict.

    ours, theirs: claims.csv of either.
    """
    keys = ["claim", "dataset", "backbone"]
    sides = [
        frame[frame["verdict"] != TOO_FEW].groupby(keys, sort=False)["verdict"].first().rename(name)
        for frame, name in ((ours, "ours"), (theirs, "theirs"))
    ]
    return pd.concat(sides, axis=1, join="inner").reset_index()


def said(table: pd.DataFrame, claims: pd.DataFrame, alone: tuple[int, int]) -> list[str]:
    """Return the answer in sentences; alone: models that only one side has, ours and theirs."""
    sentences = []
    for dataset, rows in table.groupby("dataset", sort=False):
        words = rows["word"].value_counts()
        plural = {AGREES: "agree", UNKNOWN: "beyond a noise that is unknown"}
        order = (SAME, AGREES, CHANGED, UNKNOWN, OTHER)
        counts = ", ".join(f"{words[w]} {plural.get(w, w)}" for w in order if w in words)
        others = int(((rows["word"] == CHANGED) & (rows["settings"] != "")).sum())
        why = f", {others} of these with other settings" if others else ""
        sentences.append(f"{name_of(dataset)}: of {len(rows)} values in both {counts}{why}.")
    if table.empty:
        sentences.append("No model is in both.")
    turned = claims[claims["ours"] != claims["theirs"]]
    if len(claims):
        sentences.append(f"{len(turned)} of {len(claims)} verdicts differ.")
    if any(alone):
        sentences.append(f"{alone[0]} models are only in ours, {alone[1]} only in theirs.")
    return sentences


def alone(ours: pd.DataFrame, theirs: pd.DataFrame) -> tuple[int, int]:
    """Return how many models only ours has, and only theirs."""
    sides = [
        set(frame.assign(stage=_stage(frame))[MODEL].itertuples(index=False, name=None))
        for frame in (ours, theirs)
    ]
    return len(sides[0] - sides[1]), len(sides[1] - sides[0])
