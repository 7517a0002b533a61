"""Every certificate and measurement of the linear models' debiasing, as tidy rows."""

import csv
import functools
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recloss.analysis.certificates import Ials, ease_certificate, ials_certificates, row
from recloss.analysis.theorems import theorem_1, theorem_2
from recloss.analysis.unequal import unequal_priors, unequal_users, unequal_weights
from recloss.data.interactions import Split
from recloss.files import atomic
from recloss.models.ease import ease_columns

COLUMNS = (
    *("dataset", "model", "claimed", "certificate", "tau", "kappa"),
    *("tolerance", "value", "passed", "sentence"),
)


def certify(
    split: Split,
    ials: Ials | None,
    ease_reg: float | None,
    cs: list[float],
    taus: list[float],
    kappas: list[float],
    iterations: int,
    columns: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield every certificate and measurement of the models given, with its tau and kappa.

    The theorems first, whose c, one for all users, stands as kappa: tau is then by user, or a mean.
    """
    train = split.train
    if ease_reg is not None:
        chosen = np.random.default_rng(seed).permutation(train.n_items)[:columns]
        chosen = torch.from_numpy(np.sort(chosen))
        solve = functools.cache(lambda reg: ease_columns(train, reg, chosen))
    for c in cs:
        here = {"tau": None, "kappa": c}
        if ials is not None:
            found = theorem_1(train, ials, c, seed, iterations, columns)
            yield from (here | entry for entry in found)
        if ease_reg is not None:
            yield from (here | x for x in theorem_2(train, solve, chosen, ease_reg, c))
    if ials is not None:
        yield from unequal_priors(split, ials, seed, iterations)
    for tau in taus:
        for kappa in kappas:
            here = {"tau": tau, "kappa": kappa}
            if ials is not None:
                beta = ials.alpha0 * kappa / (1 - tau)
                if beta < 1:
                    found = ials_certificates(train, ials, tau, kappa, seed, iterations)
                else:
                    sentence = "beta: debiased iALS has a minimum only below 1, not certified"
                    found = [row("ials", "condition", None, beta, sentence)]
                yield from (here | entry for entry in found)
            if ease_reg is not None:
                weights = solve(ease_reg)
                yield here | ease_certificate(train, weights, chosen, ease_reg, tau, kappa)
                yield from (here | x for x in unequal_weights(split, ease_reg, tau, kappa))
        if ials is not None:
            found = unequal_users(split, ials, tau, seed, iterations)
            yield from ({"tau": tau, "kappa": None} | entry for entry in found)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows of `row` with their data set as CSV."""
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for entry in rows:
            writer.writerow(entry)
            print(json.dumps(entry), file=sys.stderr, flush=True)
