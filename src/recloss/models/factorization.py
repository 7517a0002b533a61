"""Matrix factorisation, and what a backbone is: parameters in, user and item vectors out."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recloss.data.interactions import Interactions
from recloss.engine import sampling


class Batch(NamedTuple):
    """What a step reads: users (B,) int64, items (B, K) int32, and its clock (2,) int64."""

    users: Tensor
    items: Tensor
    clock: Tensor


class MatrixFactorization(nn.Module):
    """One free vector per user and per item.

    Tables (n_users, dim) and (n_items, dim), initialised from the stream (seed, "init"). Settings:
    dim, init, init_std. A backbone of one's own has the same three methods.
    """

    def __init__(
        self, train: Interactions, settings: dict[str, Any], seed: int, device: torch.device
    ) -> None:
        super().__init__()
        generator = sampling.stream(seed, "init")
        self.users, self.items = (
            nn.Parameter(torch.empty(n, settings["dim"])) for n in (train.n_users, train.n_items)
        )
        for table in (self.users, self.items):
            if settings["init"] == "xavier":
                nn.init.xavier_uniform_(table, generator=generator)
            else:
                nn.init.normal_(table, std=settings["init_std"], generator=generator)
        self.to(device)

    def forward(self, batch: Batch | None = None) -> tuple[Tensor, Tensor]:
        """Return the user vectors (n_users, D) and the item vectors (n_items, D).

        Of a batch, in training, only the rows that it reads need be right; without one, all are.
        """
        return self.users, self.items

    def penalised(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tables whose looked-up rows `l2_on: rows` penalises, of what forward gave."""
        return users, items
