"""LightGCN on Gowalla: its propagation beside what others do, its floor, and a training step."""

import argparse
import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gowalla import gowalla
from benchmarks.race import beside_field, devices, race, settings_of, timed
from benchmarks.step import COPIED
from recloss.data.interactions import Interactions
from recloss.engine.propagation import Graph, graph_of, propagate, reference
from recloss.train import Trainer

# As LightGCN's authors train it.
LIGHTGCN = {
    "score": "dot",
    "temperature": 1.0,
    "batch_size": 2048,
    "negatives": 1,
    "learning_rate": 1e-3,
    "init_std": 0.1,
    "l2": 1e-4,
    "l2_on": "rows",
    "exclude_positives": True,
    "layers": 3,
}


def sparse_matrix(graph: Graph, layout: torch.layout) -> Tensor:
    """Return the operator as PyTorch's sparse matrix, of layout sparse_coo or sparse_csr."""
    n = len(graph.left)
    rows = torch.repeat_interleave(graph.first.diff())
    values = graph.left[rows] * graph.right[graph.neighbours]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that sparse tensors are a beta
        if layout == torch.sparse_coo:
            indices = torch.stack([rows, graph.neighbours.long()])
            return torch.sparse_coo_tensor(indices, values, (n, n), is_coalesced=True)
        # In int32 PyTorch hands it to MKL as it is.
        return torch.sparse_csr_tensor(graph.first.int(), graph.neighbours, values, (n, n))


def propagation(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Race one layer of LightGCN against other products of a sparse matrix, and copies of memory.

    The floor is the bytes of the edges, of a gathered row for each, and of the result, at the rate
    at which PyTorch copies an array past any cache, and one of the size of the vectors.
    """
    rows, train = [], gowalla(arguments).train
    for device in devices():
        graph = graph_of(train, -0.5, -0.5, False, device)
        x = torch.randn(len(graph.left), settings_of("bpr")["dim"], device=device)
        works: dict[str, Callable[[], object]] = {
            "ours": functools.partial(propagate, graph, x),
            "plain": functools.partial(reference, graph, x),
        }
        for name, layout in (("coo", torch.sparse_coo), ("csr", torch.sparse_csr)):
            works[name] = functools.partial(torch.mm, sparse_matrix(graph, layout), x)
        if device.type == "cpu":
            csr = sparse_matrix(graph, torch.sparse_csr)
            works["scipy"] = functools.partial(_scipy(csr).dot, x.numpy())
        bytes_moved = 4 * (graph.neighbours.numel() * (1 + x.shape[1]) + 2 * x.numel())
        copied = {"memory": COPIED // 4, "cache": x.numel()}
        sources = {name: torch.ones(n, device=device) for name, n in copied.items()}
        for name, source in sources.items():
            works[name] = functools.partial(torch.empty_like(source).copy_, source)
        times = race({k: timed(work, 1, device) for k, work in works.items()}, arguments.rounds)
        for name, n in copied.items():
            share = bytes_moved / (8 * n)
            floor = times.pop(name)
            for key in ("median", "low", "high"):
                floor[key] *= share
            times[f"floor, {name}"] = floor
        rows += [{"device": device.type, "name": name, "seconds": times[name]} for name in times]
    return rows


def _scipy(csr: Tensor) -> Any:
    from scipy import sparse

    arrays = (csr.values(), csr.col_indices(), csr.crow_indices())
    return sparse.csr_matrix(tuple(a.numpy() for a in arrays), shape=tuple(csr.shape))


class Rival:
    """A step of LightGCN as LightGCN-PyTorch writes it (github.com/gusye1234/LightGCN-PyTorch).

    The layers are products with a sparse COO matrix, stacked and averaged; scores are sums of
    products of looked-up vectors; autograd and torch.optim.Adam. Its pairs and negatives are drawn
    by one call of `randint`, where the original's sampler takes half the time.
    """

    def __init__(self, train: Interactions, device: torch.device) -> None:
        s = settings_of("bpr", **LIGHTGCN)
        self.settings, self.n_users, self.n_items = s, train.n_users, train.n_items
        self.matrix = sparse_matrix(graph_of(train, -0.5, -0.5, False, device), torch.sparse_coo)
        self.users, self.items = (
            torch.nn.Parameter(torch.randn(n, s["dim"], device=device) * s["init_std"])
            for n in (train.n_users, train.n_items)
        )
        self.adam = torch.optim.Adam([self.users, self.items], lr=s["learning_rate"])

    def __call__(self) -> None:
        s, device = self.settings, self.users.device
        users = torch.randint(self.n_users, (s["batch_size"],), device=device)
        pos, neg = torch.randint(self.n_items, (2, s["batch_size"]), device=device)
        layers = [torch.cat([self.users, self.items])]
        for _ in range(s["layers"]):
            layers.append(torch.sparse.mm(self.matrix, layers[-1]))
        mean = torch.stack(layers, dim=1).mean(dim=1)
        of_users, of_items = mean.split([self.n_users, self.n_items])
        u = of_users[users]
        difference = (u * of_items[neg]).sum(1) - (u * of_items[pos]).sum(1)
        rows = (self.users[users], self.items[pos], self.items[neg])
        penalty = sum(vectors.norm(2).square() for vectors in rows) / 2 / s["batch_size"]
        loss = functional.softplus(difference).mean() + s["l2"] * penalty
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()


@functools.cache
def _rival(folder: Any, device: torch.device) -> Rival:
    return Rival(gowalla(argparse.Namespace(data=folder, part="lightgcn")).train, device)


def _rival_seconds(folder: Any, device: torch.device) -> float:
    return timed(_rival(folder, device), 1, device)()


def lightgcn(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Race our step of LightGCN against the field's."""
    rows, parts = [], gowalla(arguments)
    for device in devices():
        trainer = Trainer(
            parts, "bpr", settings_of("bpr", **LIGHTGCN), 0, device, backbone="lightgcn"
        )
        rows += beside_field(arguments, device, trainer, 2, _rival_seconds)
    return rows
