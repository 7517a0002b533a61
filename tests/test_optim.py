"""Adam against PyTorch's, by every back end."""

import pytest
import torch
from conftest import BACKENDS, backend

from recloss.engine import optim

SHAPES = [(37, 5), (1100, 3)]


@pytest.mark.parametrize("clip_norm", [0.0, 0.5, 1e9])
@pytest.mark.parametrize(
    ("name", "sparse"), [(name, False) for name in BACKENDS] + [("plain", True), ("cpu", True)]
)
def test_adam_is_that_of_pytorch_after_clipping(name, sparse, clip_norm):
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in SHAPES]
    exact = [torch.nn.Parameter(table.double()) for table in start]
    theirs = torch.optim.Adam(exact, lr=0.01)
    with backend(name) as device:
        tables = [torch.nn.Parameter(table.clone().to(device)) for table in start]
        ours = optim.Adam(tables, 0.01, clip_norm)
        for step in range(4):
            gradients = [torch.randn(shape, generator=generator) * 10.0**-step for shape in SHAPES]
            for table, double, gradient in zip(tables, exact, gradients, strict=True):
                table.grad = gradient.clone().to(device)
                if sparse:  # five rows, one of them twice
                    rows = torch.randint(len(table), (5,), generator=generator)
                    rows[4] = rows[0]
                    table.grad = torch.sparse_coo_tensor(rows[None], gradient[:5], table.shape)
                double.grad = table.grad.to_dense().cpu().double()
            ours.step()
            if clip_norm:
                torch.nn.utils.clip_grad_norm_(exact, clip_norm)
            theirs.step()
        for table, double in zip(tables, exact, strict=True):
            torch.testing.assert_close(table.detach().cpu().double(), double, rtol=1e-5, atol=1e-6)


def test_the_rate_can_change_between_steps():
    table = torch.nn.Parameter(torch.zeros(2, 2))
    adam = optim.Adam([table], 0.1, 0.0)
    moves = []
    for rate in (0.1, 0.01):
        adam.rate.fill_(rate)
        table.grad = torch.ones(2, 2)
        before = table.detach().clone()
        adam.step()
        moves.append(float((table.detach() - before).abs().max()))
    assert moves == pytest.approx([0.1, 0.01], rel=1e-4)
