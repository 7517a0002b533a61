"""Scores of a batch of users against sampled items: the one place where kernels go."""

import torch
from torch import Tensor
from torch.nn import functional


def sampled_scores(users: Tensor, table: Tensor, ids: Tensor, cosine: bool) -> Tensor:
    """Score B users against K sampled items each.

    users (B, D) float, table (I, D) float, ids (B, K) int64 rows of the table; returns (B, K):
    the cosine similarity, or the inner product. Differentiable in `users` and `table`. The
    (B, K, D) tensor of gathered items is never formed: one product with the whole table and a
    gather of its entries move less memory and need only B x I values.
    """
    if cosine:
        users, table = functional.normalize(users, dim=1), functional.normalize(table, dim=1)
    return torch.gather(users @ table.T, 1, ids)
