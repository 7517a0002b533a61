"""Backbones: tables in, user and item vectors out."""

import torch
from torch import Tensor, nn

from recloss.engine import sampling


class MatrixFactorization(nn.Module):
    """One free vector per user and per item.

    Tables (n_users, dim) and (n_items, dim), initialised from the stream (seed, "init").
    """

    def __init__(
        self, n_users: int, n_items: int, dim: int, init: str, init_std: float, seed: int
    ) -> None:
        super().__init__()
        generator = sampling.stream(seed, "init")
        self.users = nn.Parameter(torch.empty(n_users, dim))
        self.items = nn.Parameter(torch.empty(n_items, dim))
        for table in (self.users, self.items):
            if init == "xavier":
                nn.init.xavier_uniform_(table, generator=generator)
            else:
                nn.init.normal_(table, std=init_std, generator=generator)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the user vectors (n_users, dim) and the item vectors (n_items, dim)."""
        return self.users, self.items
