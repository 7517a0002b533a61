"""Scores of a batch of users against sampled items, or of its other pairs, differentiable."""

import functools
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


def batch_scores(
    users: Tensor, items: Tensor, cosine: bool, factor: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Score B users against the items of the same B pairs: one matrix product.

    users, items (B, D) float, of pair b in row b; factor: of the scores, a number or (B, 1).
    Returns the scores with the own item (B, 1) and, laid out by `others`, with the rest (B, B - 1).
    """
    if cosine:
        users, items = functional.normalize(users, dim=1), functional.normalize(items, dim=1)
    return _BatchScores.apply(users * factor, items)


def others(matrix: Tensor) -> Tensor:
    """Return what each row of a matrix (B, B) has off its diagonal: (B, B - 1), without a copy.

    Column 0 of row b is written over its diagonal: what is left are columns 1 to B - 1, of which
    column b stands for column 0.
    """
    matrix.diagonal().copy_(matrix[:, 0].clone())
    return matrix[:, 1:]


def same(*labels: Tensor) -> Tensor:
    """Tell where the other pairs of a batch share one of the labels (B,): bool (B, B - 1).

    Laid out by `others`. A row that shares one with all others counts as sharing none, so that
    every row keeps a negative.
    """
    shared = [others(label[:, None] == label) for label in labels]
    found = functools.reduce(torch.logical_or, shared)
    return found & ~found.all(1, keepdim=True)


class _BatchScores(torch.autograd.Function):
    """A matrix product and `others` of it; nothing of the size of the product is copied."""

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(users, items)
        product = users @ items.T
        return product.diagonal()[:, None].clone(), others(product)

    @staticmethod
    def backward(ctx: Any, own: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        users, items = ctx.saved_tensors
        # On the diagonal of the product: what is of column 0 there, and what is of its own.
        first = functional.pad(rest.diagonal(-1), (1, 0))[:, None]
        for_users = (own - first) * items + first * items[0]
        for_users.addmm_(rest, items[1:])
        for_items = (own - first) * users
        for_items[0] += (first * users).sum(0)
        for_items[1:].addmm_(rest.T, users)
        return for_users, for_items


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
