"""Adam on whole tables, with clipping, in two passes over the parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor

from recloss.kernels import kernels_for

BETAS = (0.9, 0.999)
EPSILON = 1e-8
CLIP_EPSILON = 1e-6  # as torch.nn.utils.clip_grad_norm_ adds to the norm


def adam(
    values: Sequence[Tensor],
    gradients: Sequence[Tensor],
    means: Sequence[Tensor],
    squares: Sequence[Tensor],
    count: Tensor,
    rate: Tensor,
    clip_norm: float,
) -> None:
    """Take one step of Adam (Kingma and Ba 2015, arXiv 1412.6980), in place.

    values, gradients, means, squares: tensors of equal shapes; count () int64, of this step, from
    1; rate () float32, the learning rate. Gradients count as scaled down to the global norm
    `clip_norm`; 0 never clips. Gradients are left as they are. On the CPU a gradient may be sparse
    (rows of a table); the rows without one move too, by their mean.
    """
    kernels = kernels_for(values[0])
    if kernels is not None:
        kernels.adam(values, gradients, means, squares, count, rate, clip_norm)
        return
    gradients = [g.to_dense() if g.is_sparse else g for g in gradients]
    factor = torch.ones_like(rate)
    if clip_norm:
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        factor = (clip_norm / (norm + CLIP_EPSILON)).clamp(max=1)
    correction1, correction2 = (1 - beta**count for beta in BETAS)
    for value, gradient, mean, square in zip(values, gradients, means, squares, strict=True):
        g = gradient * factor
        mean.lerp_(g, 1 - BETAS[0])
        square.lerp_(g.square(), 1 - BETAS[1])
        value -= rate / correction1 * mean / ((square / correction2).sqrt() + EPSILON)


class Adam:
    """The state of Adam on some tables.

    A plain object rather than a torch.optim.Optimizer: rate and count lie in tensors of the
    tables' device, so that a captured step follows the learning rate and nothing waits for it.
    """

    def __init__(self, tables: Sequence[Tensor], rate: float, clip_norm: float) -> None:
        self.tables, self.clip_norm = list(tables), clip_norm
        self.means = [torch.zeros_like(table) for table in tables]
        self.squares = [torch.zeros_like(table) for table in tables]
        self.count = torch.zeros((), dtype=torch.int64, device=tables[0].device)
        self.rate = torch.full((), rate, device=tables[0].device)

    def step(self) -> None:
        """Move the tables by their gradients."""
        self.count += 1
        gradients = [table.grad for table in self.tables]
        with torch.no_grad():
            adam(
                self.tables,
                gradients,
                self.means,
                self.squares,
                self.count,
                self.rate,
                self.clip_norm,
            )

    def state(self) -> list[Tensor]:
        """Return what a resumed run needs: means, squares and the count, the very tensors."""
        return [*self.means, *self.squares, self.count]
