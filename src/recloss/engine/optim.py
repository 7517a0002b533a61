"""Adam on whole tables, with clipping, in two passes over the parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor

from recloss.engine.device import kernels_for

BETAS = (0.9, 0.999)
EPSILON = 1e-8
CLIP_EPSILON = 1e-6  # as torch.nn.utils.clip_grad_norm_ adds to the norm


class Adam:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980) on some tables, and its state.

    means, squares: of the shapes of the tables; count () int64, steps so far; rate () float32, the
    learning rate. Gradients count as scaled down to the global norm `clip_norm`; 0 never clips. On
    the CPU a gradient may be sparse (rows of a table); rows without one move too, by their mean.

    A plain object rather than a torch.optim.Optimizer: rate and count lie in tensors of the
    tables' device, so that a captured step follows the learning rate and nothing waits for it.
    """

    def __init__(self, tables: Sequence[Tensor], rate: float, clip_norm: float) -> None:
        self.tables, self.clip_norm = list(tables), clip_norm
        self.means = [torch.zeros_like(table) for table in tables]
        self.squares = [torch.zeros_like(table) for table in tables]
        self.count = torch.zeros((), dtype=torch.int64, device=tables[0].device)
        self.rate = torch.full((), rate, device=tables[0].device)

    @torch.no_grad()
    def step(self) -> None:
        """Move the tables by their gradients, which are left as they are."""
        self.count += 1
        kernels = kernels_for(self.rate)
        if kernels is not None:
            kernels.adam(self)
            return
        gradients = [t.grad.to_dense() if t.grad.is_sparse else t.grad for t in self.tables]
        factor = torch.ones_like(self.rate)
        if self.clip_norm:
            norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
            factor = (self.clip_norm / (norm + CLIP_EPSILON)).clamp(max=1)
        correction1, correction2 = (1 - beta**self.count for beta in BETAS)
        for value, gradient, mean, square in zip(
            self.tables, gradients, self.means, self.squares, strict=True
        ):
            g = gradient * factor
            mean.lerp_(g, 1 - BETAS[0])
            square.lerp_(g.square(), 1 - BETAS[1])
            value -= self.rate / correction1 * mean / ((square / correction2).sqrt() + EPSILON)

    def state(self) -> list[Tensor]:
        """Return what a resumed run needs: means, squares and the count, the very tensors."""
        return [*self.means, *self.squares, self.count]
