"""Propagation against dense matrices, by every back end."""

import os

import numpy as np
import pytest
import torch
from conftest import BACKENDS, backend, interactions
from hypothesis import given, settings
from hypothesis import strategies as st

from recloss.engine import device as dispatch
from recloss.engine.propagation import graph_of, mean_of_layers, propagate, reference

CPU = torch.device("cpu")
LIGHTGCN, NGCF = (-0.5, -0.5, False), (-1.0, 0.0, True)


def some_train(n_users=5, n_items=7, n_pairs=9, seed=0):
    """Random pairs; with so few, some users and items have none."""
    rng = np.random.default_rng(seed)
    pairs = np.stack([rng.integers(n_users, size=n_pairs), rng.integers(n_items, size=n_pairs)], 1)
    return interactions(pairs, n_users, n_items)


def dense(train, left, right, loops):
    """Return the operator as a float64 matrix."""
    n = train.n_users + train.n_items
    matrix = torch.eye(n, dtype=torch.float64) * loops
    users, items = torch.from_numpy(train.users), torch.from_numpy(train.items) + train.n_users
    matrix[users, items] = matrix[items, users] = 1
    degree = matrix.sum(1)
    one, other = (torch.where(degree > 0, degree**power, 0) for power in (left, right))
    return one[:, None] * matrix * other


def with_gradient(function, x, weight):
    x = x.clone().requires_grad_()
    result = function(x)
    return result.detach(), torch.autograd.grad((result * weight).sum(), x)[0]


def check(name, train, form, dim, layers):
    matrix = dense(train, *form)
    x, weight = torch.randn(2, len(matrix), dim, generator=torch.Generator().manual_seed(0))
    with backend(name) as device:
        graph = graph_of(train, *form, device)
        inputs = x.to(device), weight.to(device)
        ours = with_gradient(lambda x: propagate(graph, x), *inputs)
        means = with_gradient(lambda x: mean_of_layers(graph, x, layers), *inputs)
    powers = [torch.linalg.matrix_power(matrix, k) for k in range(layers + 1)]
    for (values, gradient), exact in ((ours, matrix), (means, sum(powers) / (layers + 1))):
        torch.testing.assert_close(values.cpu(), (exact @ x.double()).float())
        torch.testing.assert_close(gradient.cpu(), (exact.T @ weight.double()).float())


@given(
    st.integers(1, 30), st.integers(1, 30), st.integers(0, 200), st.integers(1, 150),
    st.integers(1, 4), st.sampled_from([LIGHTGCN, NGCF]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("name", ["plain", "cpu"])
def test_values_and_gradients_are_those_of_the_matrix(name, users, items, pairs, dim, layers, form):
    check(name, some_train(users, items, pairs), form, dim, layers)


@pytest.mark.parametrize("form", [LIGHTGCN, NGCF])
@pytest.mark.parametrize("dim", [1, 16, 20])
def test_the_cuda_kernel_agrees_too(form, dim):
    check("cuda", some_train(), form, dim, 2)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_node_without_edges_keeps_its_share_of_layer_0_and_gets_its_gradient(name):
    train = interactions([(0, 0)], 2, 2)
    x = torch.arange(8.0).view(4, 2)
    with backend(name) as device:
        graph = graph_of(train, *LIGHTGCN, device)
        values, gradient = with_gradient(
            lambda x: mean_of_layers(graph, x, 3), x.to(device), torch.ones(4, 2, device=device)
        )
    torch.testing.assert_close(values.cpu()[[1, 3]], x[[1, 3]] / 4)
    # The pair exchanges its vectors at every layer, two of four times.
    torch.testing.assert_close(values.cpu()[[0, 2]], (x[0] + x[2]).expand(2, 2) / 2)
    assert gradient.cpu()[:, 0].tolist() == [1, 0.25, 1, 0.25]


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("layers", [1, 3])
def test_rows_that_are_not_read_change_neither_the_others_nor_the_gradient(name, layers):
    train = some_train(12, 9, 50)
    with backend(name) as device:
        graph = graph_of(train, *LIGHTGCN, device)
        wanted = torch.zeros(21, dtype=torch.bool, device=device)
        wanted[[0, 3, 4, 20]] = True
        x, weight = torch.randn(2, 21, 18, generator=torch.Generator().manual_seed(0)).to(device)
        weight = weight * wanted[:, None]
        whole = with_gradient(lambda x: mean_of_layers(graph, x, layers), x, weight)
        some = with_gradient(lambda x: mean_of_layers(graph, x, layers, wanted), x, weight)
    torch.testing.assert_close(some[0][wanted], whole[0][wanted])
    torch.testing.assert_close(some[1], whole[1])
    assert some[0].isfinite().all()


def test_the_plain_definition_passes_gradcheck():
    train = some_train()
    for form in (LIGHTGCN, NGCF):
        graph = graph_of(train, *form, CPU)
        x = torch.randn(12, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, graph=graph: reference(graph, x), x)
        assert torch.autograd.gradcheck(lambda x, graph=graph: mean_of_layers(graph, x, 2), x)


@pytest.mark.skipif(os.cpu_count() < 2, reason="needs two cores")
def test_results_do_not_depend_on_the_number_of_threads():
    train = some_train(900, 700, 9000)
    graph = graph_of(train, *LIGHTGCN, CPU)
    x, weight = torch.randn(2, 1600, 70)
    wanted = torch.rand(1600) < 0.3
    results = []
    for threads in (1, 2):
        dispatch.use_threads(threads)
        for rows in (None, wanted):
            results.append(
                with_gradient(lambda x, rows=rows: mean_of_layers(graph, x, 3, rows), x, weight)
            )
    for one, two in zip(results[:2], results[2:], strict=True):
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
