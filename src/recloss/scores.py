"""Scores of a batch of users against sampled items: the one place where kernels go."""

import functools
import warnings
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def sampled_scores(users: Tensor, table: Tensor, ids: Tensor, cosine: bool) -> Tensor:
    """Score B users against K sampled items each.

    users (B, D) float, table (I, D) float, ids (B, K) int64 rows of the table; returns (B, K):
    the cosine similarity, or the inner product. Differentiable in `users` and `table`. The
    (B, K, D) tensor of gathered items is never formed. float32 on the CPU runs in a fused kernel,
    anything else in `reference_scores`.
    """
    if users.device.type == "cpu" and users.dtype == torch.float32 and cpu_kernels() is not None:
        return _CpuScores.apply(users, table, ids, cosine)
    return reference_scores(users, table, ids, cosine)


def reference_scores(users: Tensor, table: Tensor, ids: Tensor, cosine: bool) -> Tensor:
    """Return `sampled_scores` in plain PyTorch, on any device and in any float type.

    One product with the whole table and a gather of its entries: B x I values, but no B x K x D.
    """
    if cosine:
        users, table = functional.normalize(users, dim=1), functional.normalize(table, dim=1)
    return torch.gather(users @ table.T, 1, ids)


@functools.cache
def cpu_kernels() -> ModuleType | None:
    """Return the CPU kernels, or None with one warning where numba cannot run."""
    try:
        from recloss import kernels_cpu
    except Exception as error:  # a numba that does not fit this numpy or Python
        warnings.warn(f"CPU kernels are off, training is slower: {error}", stacklevel=2)
        return None
    return kernels_cpu


def use_threads(count: int) -> None:
    """Let PyTorch and the CPU kernels use `count` threads."""
    torch.set_num_threads(count)
    if cpu_kernels() is not None:
        import numba

        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))


class _CpuScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, table: Tensor, ids: Tensor, cosine: bool) -> Tensor:
        kernels = cpu_kernels()
        u, t = (x.detach().contiguous().numpy() for x in (users, table))
        i = ids.contiguous().numpy()
        if cosine:
            scales = kernels.inverse_norms(u), kernels.inverse_norms(t)
        else:
            scales = torch.ones(len(u)).numpy(), torch.ones(len(t)).numpy()
        ctx.arguments = (u, t, i, *scales, cosine)
        return torch.from_numpy(kernels.scores(u, t, i, *scales))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kernels = cpu_kernels()
        g = grad.contiguous().numpy()
        for_users, for_table, *_ = ctx.needs_input_grad
        return (
            torch.from_numpy(kernels.user_gradient(g, *ctx.arguments)) if for_users else None,
            torch.from_numpy(kernels.item_gradient(g, *ctx.arguments)) if for_table else None,
            None,
            None,
        )
