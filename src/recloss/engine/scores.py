"""Scores of a batch of users against sampled items, as one differentiable operator."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from recloss.engine.device import kernels_for


def sampled_scores(users: Tensor, table: Tensor, ids: Tensor, cosine: bool) -> Tensor:
    """Score B users against K sampled items each.

    users (B, D) float, table (I, D) float, ids (B, K) int32 or int64 rows of the table; returns
    (B, K): the cosine similarity, or the inner product. A zero vector scores 0. Differentiable in
    `users` and `table`. The (B, K, D) tensor of gathered items is never formed. float32 on the CPU
    and on CUDA runs in fused kernels, anything else in `reference_scores`.
    """
    if kernels_for(table) is not None:
        return _Scores.apply(users, table, ids, cosine)
    return reference_scores(users, table, ids, cosine)


def reference_scores(users: Tensor, table: Tensor, ids: Tensor, cosine: bool) -> Tensor:
    """Return `sampled_scores` in plain PyTorch, on any device and in any float type.

    One product with the whole table and a gather of its entries: B x I values, but no B x K x D.
    """
    if cosine:
        users, table = functional.normalize(users, dim=1), functional.normalize(table, dim=1)
    return torch.gather(users @ table.T, 1, ids.long())


class _Scores(torch.autograd.Function):
    """The kernels' `scores` and `gradients` as one operator; both gradients come together."""

    @staticmethod
    def forward(ctx: Any, users: Tensor, table: Tensor, ids: Tensor, cosine: bool) -> Tensor:
        ctx.kernels = kernels_for(table)
        u, t = users.detach().contiguous(), table.detach().contiguous()
        values, ctx.state = ctx.kernels.scores(u, t, ids.contiguous(), cosine)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.kernels.gradients(grad.contiguous(), ctx.state), None, None
