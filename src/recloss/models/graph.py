"""Backbones whose vectors are passed along the train pairs."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recloss import seeds
from recloss.data.interactions import Interactions
from recloss.engine import sampling
from recloss.engine.propagation import graph_of, mean_of_layers, propagate
from recloss.models.factorization import Batch, MatrixFactorization

SLOPE = 0.2  # of TensorFlow's leaky_relu, in which NGCF's numbers were measured


class LightGCN(MatrixFactorization):
    """The mean of the layers 0 to `layers`, linear (He et al. 2020, arXiv 2002.02126, Eq. 7 and 8).

    `l2_on: rows` penalises the rows of layer 0, the only parameters, as in the paper's code. No
    layers at all are matrix factorisation.
    """

    def __init__(
        self, train: Interactions, settings: dict[str, Any], seed: int, device: torch.device
    ) -> None:
        super().__init__(train, settings, seed, device)
        self.layers = settings["layers"]
        self.graph = graph_of(train, -0.5, -0.5, False, device)

    def forward(self, batch: Batch | None = None) -> tuple[Tensor, Tensor]:
        """Return the propagated vectors (n_users, dim) and (n_items, dim)."""
        if self.layers == 0:
            return self.users, self.items
        n_users, table = len(self.users), torch.cat([self.users, self.items])
        wanted = None
        if batch is not None:
            wanted = torch.zeros(len(table), dtype=torch.bool, device=table.device)
            wanted.index_fill_(0, batch.users, True)
            wanted[n_users:].index_fill_(0, batch.items.reshape(-1).long(), True)
        vectors = mean_of_layers(self.graph, table, self.layers, wanted)
        return vectors.split([n_users, len(self.items)])

    def penalised(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tables of layer 0."""
        return self.users, self.items


class NGCF(MatrixFactorization):
    """Neural graph collaborative filtering (Wang et al. 2019, arXiv 1905.08108), as in its code.

    With E the vectors of a layer and L = D^-1 (A + I), the next layer is
    leaky_relu(L E W1 + b1) + leaky_relu((E * L E) W2 + b2), with a `message_dropout`; layer 0 and
    the others, of unit rows, are joined to (layers + 1) dim dimensions. Weights (dim, dim) and
    biases (1, dim) are Xavier, from the stream (seed, "init weights"). `l2_on: rows` penalises the
    joined vectors that were looked up.
    """

    def __init__(
        self, train: Interactions, settings: dict[str, Any], seed: int, device: torch.device
    ) -> None:
        super().__init__(train, settings, seed, device)
        generator, dim = sampling.stream(seed, "init weights"), settings["dim"]
        self.layers, self.dropout = settings["layers"], settings["message_dropout"]
        self.weights = nn.ParameterList(
            nn.init.xavier_uniform_(torch.empty(rows, dim), generator=generator).to(device)
            for _ in range(self.layers)
            for rows in (dim, 1, dim, 1)
        )
        self.keys = [seeds.derive(seed, "message dropout", k) for k in range(self.layers)]
        self.graph = graph_of(train, -1.0, 0.0, True, device)

    def forward(self, batch: Batch | None = None) -> tuple[Tensor, Tensor]:
        """Return the joined vectors, (n_users, D) and (n_items, D) with D = (layers + 1) dim."""
        table = torch.cat([self.users, self.items])
        joined = [table]
        for layer, key in enumerate(self.keys):
            weight1, bias1, weight2, bias2 = self.weights[4 * layer : 4 * layer + 4]
            passed = propagate(self.graph, table)
            sums = functional.leaky_relu(passed @ weight1 + bias1, SLOPE)
            products = functional.leaky_relu((table * passed) @ weight2 + bias2, SLOPE)
            table = sums + products
            if batch is not None and self.dropout:
                kept = sampling.uniform(key, batch.clock, *table.shape) >= self.dropout
                table = torch.where(kept, table / (1 - self.dropout), 0.0)
            joined.append(functional.normalize(table, dim=1))
        return torch.cat(joined, dim=1).split([len(self.users), len(self.items)])
