"""A step of LightGCN with the negatives of the batch, beside the same step as others write it."""

import argparse
import functools
from typing import Any

import torch
from torch.nn.functional import normalize

from benchmarks.gowalla import gowalla
from benchmarks.graph import sparse_matrix
from benchmarks.race import LOSS, beside_field, devices, settings_of, timed
from recloss.data.interactions import Interactions
from recloss.engine.propagation import graph_of
from recloss.losses import LOSSES
from recloss.train import Trainer

BATCH = 2048
STEPS = 5


class Rival:
    """In-batch MINE+ on one layer, as in BSL (github.com/junkangwu/BSL, modules/LGN_Frame.py).

    The layer is a product with a sparse COO matrix; looked-up vectors are normalised and
    multiplied, B x B; the diagonal is put first by index; the rest is autograd and torch.optim.Adam
    over whole tables. Unlike ours it does not clip. Its pairs are drawn by one call of `randint`.
    """

    def __init__(self, train: Interactions, device: torch.device) -> None:
        s = settings_of(LOSS)
        self.temperature, self.lambda_, self.device = s["temperature"], s["lambda"], device
        self.matrix = sparse_matrix(graph_of(train, -0.5, -0.5, False, device), torch.sparse_coo)
        self.sizes = [train.n_users, train.n_items]
        self.tables = [
            torch.nn.Parameter(torch.randn(n, s["dim"], device=device) * s["init_std"])
            for n in self.sizes
        ]
        self.adam = torch.optim.Adam(self.tables, lr=s["learning_rate"])

    def __call__(self) -> None:
        table = torch.cat(self.tables)
        layers = torch.stack([table, torch.sparse.mm(self.matrix, table)], dim=1)
        users, items = (
            normalize(part[torch.randint(len(part), (BATCH,), device=self.device)], dim=1)
            for part in layers.mean(dim=1).split(self.sizes)
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
def _rival(folder: Any, device: torch.device) -> Rival:
    return Rival(gowalla(argparse.Namespace(data=folder, part="in_batch")).train, device)


def _rival_seconds(folder: Any, device: torch.device) -> float:
    return timed(_rival(folder, device), STEPS, device)()


def in_batch(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Race our step of LightGCN, one layer, with the batch's negatives against BSL's form of it."""
    rows, parts = [], gowalla(arguments)
    settings = settings_of(LOSS, batch_size=BATCH, negatives_from="batch", layers=1)
    for device in devices():
        trainer = Trainer(parts, LOSS, settings, 0, device, backbone="lightgcn")
        rows += beside_field(arguments, device, trainer, STEPS, _rival_seconds)
    return rows
