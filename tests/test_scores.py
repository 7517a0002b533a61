"""Sampled scores against the plain definition."""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recloss.scores import cpu_kernels, reference_scores, sampled_scores, use_threads


def definition(users, table, ids, cosine):
    """Gather the (B, K, D) rows, which the operator never does, and multiply."""
    rows = table[ids]
    scores = torch.einsum("bd,bkd->bk", users, rows)
    return scores / users.norm(dim=1)[:, None] / rows.norm(dim=2) if cosine else scores


def with_gradients(function, users, table, ids, weight, cosine):
    users, table = users.clone().requires_grad_(), table.clone().requires_grad_()
    result = function(users, table, ids, cosine)
    return result.detach(), *torch.autograd.grad((result * weight).sum(), (users, table))


def example(rows, items, count, dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    users = torch.randn(rows, dim, generator=generator)
    table = torch.randn(items, dim, generator=generator)
    ids = torch.randint(items, (rows, count), generator=generator)  # repeats ids within a row
    return users, table, ids, torch.randn(rows, count, generator=generator)


def relative_error(ours, exact):
    if not exact.any():  # no rows, or nothing but zeros
        return float(ours.abs().sum())
    return float((ours - exact).abs().max() / exact.abs().max())


@given(
    st.integers(0, 40), st.integers(1, 50), st.integers(1, 40), st.integers(2, 70), st.booleans()
)
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("function", [sampled_scores, reference_scores])
def test_scores_and_gradients_are_those_of_the_definition(
    function, rows, items, count, dim, cosine
):
    users, table, ids, weight = example(rows, items, count, dim)
    ours = with_gradients(function, users, table, ids, weight, cosine)
    exact = with_gradients(definition, users.double(), table.double(), ids, weight.double(), cosine)
    for a, b in zip(ours, exact, strict=True):
        assert relative_error(a, b) < 1e-5


def test_float64_is_scored_in_float64():
    users, table, ids, weight = example(5, 9, 4, 3)
    arguments = users.double(), table.double(), ids, weight.double(), True
    for a, b in zip(
        with_gradients(sampled_scores, *arguments),
        with_gradients(definition, *arguments),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_the_cpu_kernels_run_here():
    assert cpu_kernels() is not None


@pytest.mark.skipif(os.cpu_count() < 2, reason="needs two cores")
def test_results_do_not_depend_on_the_number_of_threads():
    arguments = *example(200, 500, 100, 24), True
    results = []
    for threads in (1, 2):
        use_threads(threads)
        results.append(with_gradients(sampled_scores, *arguments))
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("cosine", [True, False])
def test_a_zero_vector_scores_zero(cosine):
    ids = torch.tensor([[0, 1]])
    assert sampled_scores(torch.zeros(1, 3), torch.ones(2, 3), ids, cosine).tolist() == [[0, 0]]
