"""Vectors passed along the edges of the graph of train pairs, as one differentiable operator."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recloss.data.interactions import Interactions
from recloss.engine.device import kernels_for


class Graph(NamedTuple):
    """The operator S = diag(left) A diag(right) over n = U + I nodes, the users before the items.

    A is symmetric and has a 1 where a train pair joins two nodes: those of node i are
    neighbours[first[i]:first[i + 1]], ascending. first int64 (n + 1,), neighbours int32 (E,),
    left and right float32 (n,). S transposed is S with left and right exchanged.
    """

    first: Tensor
    neighbours: Tensor
    left: Tensor
    right: Tensor

    def transposed(self) -> "Graph":
        """Return the operator of the gradients."""
        return self._replace(left=self.right, right=self.left)


def graph_of(
    train: Interactions, left: float, right: float, loops: bool, device: torch.device
) -> Graph:
    """Return D^left A D^right on `device`, D the degrees; a node without edges sends nothing.

    loops: A has an edge from every node to itself. LightGCN (He et al. 2020, arXiv 2002.02126)
    takes D^-1/2 A D^-1/2 without loops; NGCF (Wang et al. 2019, arXiv 1905.08108), in its code,
    D^-1 A with them.
    """
    n = train.n_users + train.n_items
    nodes = np.arange(n if loops else 0, dtype=np.int32)
    items = train.items + np.int32(train.n_users)
    rows = np.concatenate([train.users, items, nodes])
    columns = np.concatenate([items, train.users, nodes])
    neighbours = columns[np.lexsort((columns, rows))]
    degree = np.bincount(rows, minlength=n)
    first = np.concatenate([[0], np.cumsum(degree)])
    scales = [np.where(degree > 0, np.maximum(degree, 1.0) ** power, 0) for power in (left, right)]
    return Graph(
        torch.from_numpy(first).to(device),
        torch.from_numpy(neighbours).to(device),
        *(torch.from_numpy(scale).float().to(device) for scale in scales),
    )


def propagate(graph: Graph, x: Tensor) -> Tensor:
    """Return S x, for x (n, D); differentiable in x.

    float32 on the CPU and on CUDA runs in a kernel, anything else in `reference`.
    """
    if kernels_for(x) is None:
        return reference(graph, x)
    return _Layers.apply(x, graph, 1, False, None)


def mean_of_layers(graph: Graph, x: Tensor, layers: int, wanted: Tensor | None = None) -> Tensor:
    """Return the mean of x, S x, ..., S^layers x, for x (n, D); differentiable in x.

    By Horner's rule, x + S (x + S (x + ...)): what is read is added where it is summed, and no
    layer is kept. wanted bool (n,): the rows that are read afterwards, and that alone may have a
    gradient; the others come out as anything finite. The last product then skips them, and the
    first of the gradient their columns.
    """
    if kernels_for(x) is not None:
        return _Layers.apply(x, graph, layers, True, wanted)
    total = x
    for _ in range(layers):
        total = reference(graph, total) + x
    return total / (layers + 1)


def reference(graph: Graph, x: Tensor) -> Tensor:
    """Return `propagate` in plain PyTorch, on any device and in any float type: E x D values."""
    rows = torch.repeat_interleave(graph.first.diff())
    messages = (x * graph.right.to(x)[:, None])[graph.neighbours]
    return torch.zeros_like(x).index_add_(0, rows, messages) * graph.left.to(x)[:, None]


class _Layers(torch.autograd.Function):
    """The kernels' `propagate`, again and again; with `mean`, x is added each time."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, graph: Graph, layers: int, mean: bool, wanted: Tensor | None
    ) -> Tensor:
        ctx.graph, ctx.layers, ctx.mean, ctx.wanted = graph, layers, mean, wanted
        return _layers(x.detach(), graph, layers, mean, rows=wanted)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        graph = ctx.graph.transposed()
        result = _layers(grad, graph, ctx.layers, ctx.mean, columns=ctx.wanted)
        return result, None, None, None, None


def _layers(
    x: Tensor,
    graph: Graph,
    layers: int,
    mean: bool,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
) -> Tensor:
    """Apply the operator; `rows` limit the last product, `columns` the first."""
    # Here, so that only a run that propagates has them among its sources.
    if x.device.type == "cpu":
        from recloss.engine.kernels import cpu_propagation as kernels
    else:
        from recloss.engine.kernels import cuda_propagation as kernels
    total = x = x.contiguous()
    for layer in range(layers):
        last = layer == layers - 1
        total = kernels.propagate(
            total,
            graph,
            x if mean else None,
            1 / (layers + 1) if mean and last else 1.0,
            rows if last else None,
            columns if layer == 0 else None,
        )
    return total
