"""What the report says of debiasing: certificates, departures, the truth, items shown at random."""

from typing import Any

import pandas as pd

from recloss.analysis.gains import METRICS
from recloss.analysis.names import name_of
from recloss.analysis.statements import PRINTED, RIGHT
from recloss.analysis.stats import LEVEL, holm, relative
from recloss.analysis.summaries import certificates, moved
from recloss.report.tables import of_models


def verdicts(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return per data set and linear model which certificates hold, by who claims them.

    rows: debiasing.csv. Of the paper as printed: the statements that hold, and those that
    fail, each with its residuals by measure and with what is right instead. Of the corrected
    statements and the second form: how many certificates there are, and which failed.
    """
    table = certificates(rows)
    if table.empty:
        return []
    table[["statement", "measure"]] = table["certificate"].str.partition(": ")[[0, 2]]
    found = []
    for (dataset, model), part in table.groupby(["dataset", "model"], sort=False):
        printed = part["claimed"] == PRINTED
        row = {"dataset": dataset, "model": model, "holds": [], "fails": []}
        for statement, cells in part[printed].groupby("statement", sort=False):
            failed = cells[cells["verdict"] != "passes"]
            if failed.empty:
                row["holds"].append(statement)
            else:
                residuals = dict(zip(failed["measure"], failed["worst"], strict=True))
                right = RIGHT.get(statement)
                row["fails"].append({"name": statement, "residuals": residuals, "right": right})
        others = part[~printed]
        row |= {"certificates": len(others), "cases": int(others["cases"].sum())}
        row["failed"] = others.loc[others["verdict"] != "passes", "certificate"].tolist()
        found.append(row)
    return found


def furthest(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return per data set, model and kind of departure the case that moves most lists.

    rows: debiasing.csv. Shares and relative changes, as `certificates.row` has them. A kind
    is the first word of a measurement: prior, kappa, weights. Of cases that move as many lists, the
    one that changes NDCG@20 most.
    """
    table = moved(rows)
    found = {}
    for case in table[table["certificate"].str.endswith(", rankings")].to_dict("records"):
        name, keys = case["certificate"].removesuffix(", rankings"), ["dataset", "model", "tau"]
        same = table[(table[keys] == [case[key] for key in keys]).all(axis=1)]
        if pd.notna(case["kappa"]):
            same = same[same["kappa"] == case["kappa"]]
        values = same.set_index("certificate")["value"]
        changes = {m: values[f"{name}, {m}"] for m in ("recall@20", "ndcg@20")}
        kind = (case["dataset"], case["model"], name.split()[0])
        found.setdefault(kind, []).append(case | {"certificate": name} | changes)
    return [max(v, key=lambda x: (x["value"], abs(x["ndcg@20"]))) for v in found.values()]


def twins(rows: pd.DataFrame, metric: str = "true ndcg@20") -> list[dict[str, Any]]:
    """Return a metric of each debiased loss beside its biased twin.

    rows: truth.csv.
    """
    quality = rows.set_index(["dataset", "model"])[metric]
    found = []
    for (dataset, model), debiased in quality.items():
        twin = model.removeprefix("debiased_")
        if twin != model and (dataset, twin) in quality:
            plain = quality[dataset, twin]
            row = {"dataset": dataset, "twin": twin, "plain": plain, "debiased": debiased}
            found.append(row | {"gain": relative(debiased, plain)})
    return found


def shown_at_random(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return per data set what its items shown at random say.

    table: shown.csv. dataset, users, seeds; gains: of a debiased loss over its twin by metric, with
    `word`, what may be said after Holm's correction; best: by metric the name of the best model and
    its value; others: name, AUC and NDCG@5 of what debiasing is to be put beside.
    """
    table, found = of_models(table), []
    for dataset, rows in table.groupby("dataset", sort=False):
        models = rows.set_index("loss")
        gains = [
            {"model": row["loss"], "metric": metric, "value": row[metric]}
            | {part: row[f"{metric} {part}"] for part in ("gain", "low", "high", "p")}
            for row in rows.dropna(subset="auc gain").to_dict("records")
            for metric in METRICS
        ]
        for gain, p in zip(gains, holm([gain["p"] for gain in gains]), strict=True):
            gain["word"] = told(gain["gain"], p)
        best = {m: (models[m].idxmax(), models[m].max()) for m in METRICS}
        names = [name_of(model) for model in ("ials", "ease", "popularity", "random")]
        others = [
            {"model": name, "auc": models["auc"][name], "ndcg": models["ndcg@5"][name]}
            for name in names
            if name in models.index
        ]
        users, seeds = (int(rows[column].max()) for column in ("users", "seeds"))
        row = {"dataset": dataset, "users": users, "seeds": seeds}
        found.append(row | {"gains": gains, "best": best, "others": others})
    return found


def told(gain: float, p: float) -> str:
    """Say what may be said of a gain with a p-value, corrected for the number of comparisons."""
    if p >= 1 - LEVEL:
        return "not told apart"
    return "better" if gain > 0 else "worse"
