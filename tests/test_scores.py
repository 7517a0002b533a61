"""Sampled scores against the plain definition, by every back end."""

import os
import warnings

import pytest
import torch
from conftest import BACKENDS, backend
from hypothesis import given, settings
from hypothesis import strategies as st

from recloss.engine import device as dispatch
from recloss.engine.kernels import cpu
from recloss.engine.scores import batch_scores, reference_scores, same, sampled_scores


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


def check(name, rows, items, count, dim, cosine, id_type=torch.int32):
    users, table, ids, weight = example(rows, items, count, dim)
    with backend(name) as device:
        arguments = [x.to(device) for x in (users, table, ids.to(id_type), weight)]
        ours = with_gradients(sampled_scores, *arguments, cosine)
    exact = with_gradients(definition, users.double(), table.double(), ids, weight.double(), cosine)
    for a, b in zip(ours, exact, strict=True):
        assert relative_error(a.cpu(), b) < 1e-5


@given(
    st.integers(0, 40), st.integers(1, 50), st.integers(1, 40), st.integers(2, 70), st.booleans()
)
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("name", ["plain", "cpu"])
def test_scores_and_gradients_are_those_of_the_definition(name, rows, items, count, dim, cosine):
    check(name, rows, items, count, dim, cosine)


# The interpreter takes a hundred thousand times as long as the kernel.
@given(st.integers(0, 4), st.integers(1, 9), st.integers(1, 70), st.integers(2, 40), st.booleans())
@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("deterministic", [False, True])
def test_the_cuda_kernels_agree_too(deterministic, rows, items, count, dim, cosine):
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(deterministic)
    try:
        check("cuda", rows, items, count, dim, cosine)
    finally:
        torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(
    ("rows", "items", "count", "dim"),
    [(0, 5, 3, 8), (3, 5, 1, 17), (2, 1, 6, 1), (3, 40, 33, 200)],
    ids=["empty batch", "K = 1", "one item, one dimension", "D = 200"],
)
def test_corner_shapes(name, rows, items, count, dim):
    check(name, rows, items, count, dim, cosine=dim > 1, id_type=torch.int64)


def test_float64_is_scored_in_float64():
    users, table, ids, weight = example(5, 9, 4, 3)
    arguments = users.double(), table.double(), ids, weight.double(), True
    for a, b in zip(
        with_gradients(sampled_scores, *arguments),
        with_gradients(definition, *arguments),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.skipif(os.cpu_count() < 2, reason="needs two cores")
def test_results_do_not_depend_on_the_number_of_threads():
    arguments = *example(200, 500, 100, 24), True
    results = []
    for threads in (1, 2):
        dispatch.use_threads(threads)
        results.append(with_gradients(sampled_scores, *arguments))
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_the_others_of_a_batch_follow_the_own_item():
    users, items = torch.eye(3), torch.arange(9.0).view(3, 3).T
    own, rest = batch_scores(users, items, cosine=False, factor=2.0)  # of 2 (3 u + i)
    assert own.tolist() == [[0], [8], [16]]
    assert rest.tolist() == [[2, 4], [6, 10], [14, 12]]  # column b of row b stands for column 0


@given(st.integers(1, 9), st.integers(1, 9), st.booleans())
@settings(max_examples=30, deadline=None)
def test_scores_of_a_batch_and_their_gradients_are_those_of_the_definition(rows, dim, cosine):
    users, items, _, weight = example(rows, rows, rows, dim)
    at = torch.arange(rows).expand(rows, rows).clone()
    at[:, 0], at[range(rows), range(rows)] = torch.arange(rows), 0
    at[0, 0] = 0
    arguments = users.double(), items.double(), at, weight.double(), cosine

    def ours(users, items, at, cosine):
        return torch.cat(batch_scores(users, items, cosine, 1.0), dim=1)

    exact = with_gradients(definition, *arguments)
    for a, b in zip(with_gradients(ours, *arguments), exact, strict=True):
        torch.testing.assert_close(a, b)


def test_pairs_of_a_batch_that_share_a_user_or_an_item_are_told():
    users, items = torch.tensor([7, 7, 8, 9]), torch.tensor([1, 2, 1, 3])
    # Columns 1 to 3, of which column b of row b stands for column 0.
    assert same(users).nonzero().tolist() == [[0, 0], [1, 0]]
    assert same(items).nonzero().tolist() == [[0, 1], [2, 1]]
    assert same(users, items).int().sum() == 4
    assert not same(torch.tensor([5, 5, 5])).any()  # else nothing would be left


@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("name", BACKENDS)
def test_a_zero_vector_scores_zero(name, cosine):
    with backend(name) as device:
        users, table = torch.zeros(1, 3, device=device), torch.ones(2, 3, device=device)
        ids = torch.tensor([[0, 1]], device=device)
        assert sampled_scores(users, table, ids, cosine).tolist() == [[0, 0]]


def test_kernels_that_cannot_run_give_way_to_plain_pytorch_with_one_warning(monkeypatch):
    arguments = example(4, 9, 5, 3)[:3]

    def broken():
        raise ImportError("numba needs another numpy\nmore lines")

    monkeypatch.setattr(cpu, "check", broken)
    dispatch._load.cache_clear()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            results = [sampled_scores(*arguments, cosine=True) for _ in range(2)]
    finally:
        dispatch._load.cache_clear()
    assert [str(w.message) for w in caught] == [
        "the cpu kernels are off and plain PyTorch runs instead, slower: numba needs another numpy"
    ]
    for result in results:
        assert torch.equal(result, reference_scores(*arguments, cosine=True))
