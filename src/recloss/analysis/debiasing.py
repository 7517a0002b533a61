"""Every certificate and measurement of the linear models' debiasing, as tidy rows."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recloss.analysis.certificates import Ials, ease_certificate, ials_certificates, row
from recloss.analysis.unequal import unequal_users, unequal_weights
from recloss.data.interactions import Split
from recloss.files import atomic
from recloss.models.ease import ease_columns

COLUMNS = (
    *("dataset", "model", "certificate", "tau", "kappa"),
    *("tolerance", "value", "passed", "sentence"),
)


def certify(
    split: Split,
    ials: Ials | None,
    ease_reg: float | None,
    taus: list[float],
    kappas: list[float],
    iterations: int,
    columns: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield every certificate and measurement of the models given, with its tau and kappa."""
    train = split.train
    if ease_reg is not None:
        chosen = np.random.default_rng(seed).permutation(train.n_items)[:columns]
        chosen = torch.from_numpy(np.sort(chosen))
        weights = ease_columns(train, ease_reg, chosen)
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
                yield here | ease_certificate(train, weights, chosen, ease_reg, tau, kappa)
                yield from (here | x for x in unequal_weights(split, ease_reg, tau, kappa))
        if ials is not None:
            found = unequal_users(split, ials, tau, seed, iterations)
            yield from ({"tau": tau, "kappa": None} | entry for entry in found)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows of `row` with their data set as CSV."""
    with atomic(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for entry in rows:
            writer.writerow(entry)
            print(json.dumps(entry), file=sys.stderr, flush=True)
