"""A training step with the negatives of the batch, beside the same step as others write it."""

import argparse
import functools
from typing import Any

import torch
from torch.nn.functional import normalize

from benchmarks.race import (
    LOSS,
    SHAPES,
    Steps,
    counts_of,
    devices,
    other_process,
    race,
    settings_of,
    timed,
    trainer_of,
)
from recloss.losses import LOSSES

BATCH = 2048
STEPS = 5


class Rival:
    """In-batch MINE+ in the form of BSL (github.com/junkangwu/BSL, modules/LGN_Frame.py), on MF.

    Looked-up vectors are normalised and multiplied, B x B; the diagonal is put first by index; the
    rest is autograd and torch.optim.Adam over whole tables. Unlike ours it does not clip.
    """

    def __init__(self, counts: dict[str, int], device: torch.device) -> None:
        s = settings_of(LOSS)
        self.temperature, self.lambda_, self.device = s["temperature"], s["lambda"], device
        self.tables = [
            torch.nn.Parameter(torch.randn(counts[n], s["dim"], device=device) * s["init_std"])
            for n in ("n_users", "n_items")
        ]
        self.adam = torch.optim.Adam(self.tables, lr=s["learning_rate"])

    def __call__(self) -> None:
        users, items = (
            normalize(table[torch.randint(len(table), (BATCH,), device=self.device)], dim=1)
            for table in self.tables
        )
        scores = users @ items.T
        row, first = torch.arange(BATCH, device=self.device), torch.zeros(1, dtype=torch.long)
        first = first.to(self.device).expand(BATCH)
        rows, diagonal = torch.cat([row, row]), torch.cat([row, first])
        scores[rows, diagonal] = scores[rows, torch.cat([first, row])]
        scores = scores / self.temperature
        loss = LOSSES[LOSS](scores[:, 0], scores[:, 1:], lambda_=self.lambda_)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()


@functools.cache
def _rival(counts: tuple[tuple[str, int], ...], device: torch.device) -> Rival:
    return Rival(dict(counts), device)


def _rival_seconds(counts: dict[str, int], device: torch.device) -> float:
    return timed(_rival(tuple(counts.items()), device), STEPS, device)()


def in_batch(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Race our step with the batch's negatives against BSL's form of it, on Gowalla's tables."""
    rows, counts = [], counts_of(SHAPES[0])
    for device in devices():
        changes = {"batch_size": BATCH, "negatives_from": "batch"}
        ours = Steps(trainer_of(counts, LOSS, device, 20 * BATCH, **changes))
        with other_process(arguments.threads) as apply:
            works = {
                "ours": timed(ours, STEPS, device),
                "field": functools.partial(apply, _rival_seconds, (counts, device)),
            }
            times = race(works, arguments.rounds)
        rows += [{"device": device.type, "name": name, "seconds": times[name]} for name in times]
    return rows
