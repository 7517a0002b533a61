"""CUDA kernel (Triton) of `engine/propagation.py`: a program sums the neighbours of a row.

Nothing is added by atomics, so that the bits are the same from run to run.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from recloss.engine.propagation import Graph

VALUES = 2048  # of vectors held by a program at a time


@triton.jit
def _propagate(
    out,
    x,
    add,
    first,
    neighbours,
    left,
    right,
    rows,
    columns,
    factor,
    dim,
    K: tl.constexpr,
    D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, D)[None, :]
    low, high = tl.load(first + row), tl.load(first + row + 1)
    if rows is not None:
        high = tl.where(tl.load(rows + row) != 0, high, low)
    total = tl.zeros((1, D), tl.float32)
    for begin in range(low, high, K):
        at = begin + tl.arange(0, K)
        mask = at < high
        node = tl.load(neighbours + at, mask=mask, other=0).to(tl.int64)
        if columns is not None:
            mask = mask & (tl.load(columns + node) != 0)
        scale = tl.load(right + node, mask=mask, other=0.0)
        vectors = tl.load(x + node[:, None] * dim + d, mask=mask[:, None] & (d < dim), other=0.0)
        total += tl.sum(vectors * scale[:, None], 0)[None, :]
    total *= tl.load(left + row)
    here = row * dim + d
    if add is not None:
        total += tl.load(add + here, mask=d < dim, other=0.0)
    tl.store(out + here, total * factor, mask=d < dim)


def propagate(
    x: Tensor,
    graph: Graph,
    add: Tensor | None,
    factor: float,
    rows: Tensor | None,
    columns: Tensor | None,
) -> Tensor:
    """Return factor (S x + add), (n, D): as the CPU kernel of this name."""
    n, dim = x.shape
    out = torch.empty_like(x)
    width = triton.next_power_of_2(dim)
    _propagate[(n,)](
        out,
        x,
        add,
        graph.first,
        graph.neighbours,
        graph.left,
        graph.right,
        *(None if mask is None else mask.view(torch.uint8) for mask in (rows, columns)),
        factor,
        dim,
        K=max(VALUES // width, 1),
        D=width,
    )
    return out
