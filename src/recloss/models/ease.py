"""EASE (Steck 2019, arXiv 1905.03375). U users, I items, X interactions (U, I), B weights."""

import dataclasses

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor
from torch.nn.functional import embedding_bag

from recloss.data.interactions import Interactions, interaction_matrix
from recloss.engine.device import available_memory
from recloss.engine.ranking import ScoreBlock
from recloss.files import ReclossError
from recloss.models.sizes import ease_memory

BLOCK_VALUES = 2**24  # of the Gram matrix that are made at a time


def gram(train: Interactions, device: torch.device | str = "cpu") -> Tensor:
    """Return X'X (I, I) float32 of the interactions X (U, I), after asking whether EASE fits."""
    device, n = torch.device(device), train.n_items
    needed, available = ease_memory(n), available_memory(device)
    if needed > available:
        remedy = "use a machine or a GPU with more, or leave ease out of `linear`"
        if device.type == "cuda":
            remedy = "use device cpu"
        raise ReclossError(
            f"EASE on {n:,} items needs {needed / 1e9:.1f} GB of memory on {device.type}, "
            f"{available / 1e9:.1f} GB are available; {remedy}"
        )
    x = interaction_matrix(train).tocsc()
    out = torch.empty((n, n), device=device)
    block = max(1, BLOCK_VALUES // n)
    for low in range(0, n, block):
        rows = (x[:, low : low + block].T @ x).toarray()
        out[low : low + block] = torch.from_numpy(rows)
    return out


@dataclasses.dataclass(frozen=True)
class Ease:
    """EASE as the inverse P (I, I) of the penalised Gram matrix.

    B_ij = -P_ij / P_jj, B_jj = 0; the scores X B = X - X P / diag(P) need no second matrix.
    """

    inverse: Tensor

    def weights(self, columns: Tensor) -> Tensor:
        """Return columns (n,) of B, (I, n) float64."""
        here = columns.to(self.inverse.device), torch.arange(len(columns))
        p = self.inverse[:, here[0]].double()
        b = -p / p[here]
        b[here] = 0
        return b

    def scores(self, train: Interactions) -> ScoreBlock:
        """Return a function giving the (high - low, I) scores of users low..high - 1."""
        diagonal, first = self.inverse.diagonal(), train.indptr()
        items = torch.from_numpy(train.items).to(self.inverse.device)
        keys = torch.from_numpy(train.keys()).to(self.inverse.device)

        def block(low: int, high: int) -> Tensor:
            here = slice(first[low], first[high])
            begins = torch.from_numpy(first[low:high] - first[low]).to(items)
            # A sum of the few rows of P that a user's items name.
            scores = embedding_bag(items[here], self.inverse, begins, mode="sum").div_(-diagonal)
            scores.view(-1)[keys[here] - low * train.n_items] += 1
            return scores

        return block


def ease(gram_matrix: Tensor, reg: float) -> Ease:
    """Return EASE of a Gram matrix (I, I) with the penalty reg |B|^2, in the memory of the matrix.

    For several penalties give copies.
    """
    gram_matrix.diagonal().add_(reg)
    # LAPACK works on columns: as its own transpose the symmetric matrix needs no copy, neither
    # here nor in a product with its rows later.
    columns = gram_matrix.mT
    torch.linalg.cholesky(columns, out=columns)
    torch.cholesky_inverse(columns, out=columns)
    return Ease(gram_matrix)


def ease_columns(train: Interactions, reg: float, columns: Tensor) -> Tensor:
    """Return columns (n,) of EASE's weights, (I, n) float64, without an item-item matrix.

    Each column of the inverse by conjugate gradients, to 1e-12 of its right-hand side.
    """
    x = interaction_matrix(train).astype(np.float64)
    transposed, n, diagonal = x.T.tocsr(), train.n_items, train.item_counts() + reg
    system = LinearOperator((n, n), lambda v: transposed @ (x @ v) + reg * v, dtype=np.float64)
    scale = LinearOperator((n, n), lambda v: v / diagonal, dtype=np.float64)
    out = np.zeros((n, len(columns)))
    for place, item in enumerate(columns.tolist()):
        unit = np.zeros(n)
        unit[item] = 1
        column, failed = cg(system, unit, rtol=1e-12, atol=0, maxiter=10_000, M=scale)
        if failed:
            raise ReclossError(f"EASE: no solution at reg {reg:g} for item {item}; raise reg")
        out[:, place] = -column / column[item]
        out[item, place] = 0
    return torch.from_numpy(out)
