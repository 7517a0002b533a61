"""iALS and EASE against their definitions and against irspack."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import missing
from scipy import sparse

from recloss.data.interactions import Interactions, interaction_matrix
from recloss.data.parse import load
from recloss.data.split import split, write
from recloss.files import ReclossError
from recloss.models import ease, ials


@pytest.fixture
def train(small_split):
    return small_split.train


def varied(train, dtype=torch.float64):
    """A problem in which every weight differs."""
    generator = torch.Generator().manual_seed(0)

    def between(low, high, n):
        return low + (high - low) * torch.rand(n, generator=generator, dtype=dtype)

    return ials.Problem(
        train,
        between(0.3, 1, train.n_users),
        between(1, 2, train.n_users),
        0.2,
        between(0.5, 2, train.n_users),
        between(0.5, 2, train.n_items),
    )


def dense_objective(problem, users, items):
    """Write the objective down entry by entry."""
    x = torch.from_numpy(interaction_matrix(problem.train).toarray()).double()
    y = users @ items.T
    observed = (problem.confidence[:, None] * (y - problem.target[:, None]).square() * x).sum()
    penalty = (problem.user_penalty * users.square().sum(1)).sum()
    penalty += (problem.item_penalty * items.square().sum(1)).sum()
    return observed + problem.unobserved * y.square().sum() + penalty


@pytest.mark.parametrize("blocks", [2**24, 3000])
def test_each_half_step_is_the_exact_minimum(train, monkeypatch, blocks):
    monkeypatch.setattr(ials, "SYSTEM_VALUES", blocks)
    problem = varied(train)
    solver = ials.Solver(problem)
    start = ials.initial(train, 6, 1.0, 0, dtype=torch.float64)
    users = solver.solve_users(start.items).requires_grad_()
    (slope,) = torch.autograd.grad(dense_objective(problem, users, start.items), users)
    assert slope.abs().max() < 1e-10
    users = users.detach()
    items = solver.solve_items(users).requires_grad_()
    (slope,) = torch.autograd.grad(dense_objective(problem, users, items), items)
    assert slope.abs().max() < 1e-10
    value = solver.objective(ials.Factors(users, items.detach()))
    expected = dense_objective(problem, users, items).item()
    assert value == pytest.approx(expected, rel=1e-12)


def solved(problem, items, threads):
    """Return the users' factors, solved by so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return ials.Solver(problem).solve_users(items)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dim", [ials.LU_DIM, ials.LU_DIM + 32])
def test_several_threads_solve_large_systems_as_one_does(train, dim):
    problem, items = varied(train, torch.float32), ials.initial(train, dim, 1.0, 0).items
    double = (value.double() if torch.is_tensor(value) else value for value in problem)
    exact = solved(ials.Problem(*double), items.double(), 1)
    for threads in (1, 2):
        assert (solved(problem, items, threads) - exact).norm() < 1e-4 * exact.norm()


def test_the_objective_never_increases(train):
    problem = ials.ials_problem(train, 0.1, 0.01, 1.0)
    values = []
    start = ials.initial(train, 8, 0.1, 0)
    ials.ials(problem, start, 12, lambda i, value: values.append(value))
    assert len(values) == 12
    assert all(b <= a * (1 + 1e-6) for a, b in itertools.pairwise(values))


def test_a_seed_decides_the_start(train):
    one, same, other = (ials.initial(train, 8, 0.1, seed) for seed in (0, 0, 1))
    assert torch.equal(one.users, same.users)
    assert not torch.equal(one.users, other.users)


def test_irspack_and_ours_agree_on_plain_ials(train):
    needs_irspack()
    problem = ials.ials_problem(train, 0.2, 0.03, 0.7)
    start = ials.initial(train, 8, 0.5, 0)
    objectives = [], []
    theirs = ials.plain_ials(
        train, 0.2, 0.03, 0.7, start, 4, lambda i, value: objectives[0].append(value)
    )
    ours = ials.ials(problem, start, 4, lambda i, value: objectives[1].append(value))
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_without_irspack_ours_does_the_work(train, monkeypatch):
    monkeypatch.setitem(sys.modules, "irspack.recommenders.ials", None)
    problem = ials.ials_problem(train, 0.2, 0.03, 0.7)
    start = ials.initial(train, 8, 0.5, 0)
    one = ials.plain_ials(train, 0.2, 0.03, 0.7, start, 2)
    assert torch.equal(one.users, ials.ials(problem, start, 2).users)


def test_ease_minimises_its_objective(train):
    x = torch.from_numpy(interaction_matrix(train).toarray()).double()
    model = ease.ease(x.T @ x, 5.0)
    b = model.weights(torch.arange(train.n_items)).requires_grad_()
    objective = (x - x @ b).square().sum() + 5.0 * b.square().sum()
    (slope,) = torch.autograd.grad(objective, b)
    off = ~torch.eye(train.n_items, dtype=torch.bool)
    assert slope[off].abs().max() < 1e-10  # the diagonal is held at 0
    assert not b.diagonal().any()
    scores = ease.ease(ease.gram(train), 5.0).scores(train)
    torch.testing.assert_close(scores(7, 31).double(), (x @ b)[7:31], rtol=1e-4, atol=1e-5)


def test_the_gram_matrix_is_that_of_the_interactions(train, monkeypatch):
    x = torch.from_numpy(interaction_matrix(train).toarray())
    whole = ease.gram(train)
    monkeypatch.setattr(ials, "SYSTEM_VALUES", 7 * train.n_items)
    assert torch.equal(whole, x.T @ x)
    assert torch.equal(ease.gram(train), whole)


def test_ease_refuses_what_does_not_fit_before_it_starts():
    empty = np.zeros(0, np.int32)
    with pytest.raises(ReclossError, match=r"needs 520000\.0 GB of memory on cpu, .* available"):
        ease.gram(Interactions(empty, empty, 1, 10**7))


@pytest.mark.mirror
def test_ease_on_real_data_is_that_of_irspack(mirror):
    needs_irspack()
    import irspack

    whole, _ = load(mirror / "gowalla" / "train.txt", mirror / "gowalla" / "test.txt")
    chosen = (whole.users < 1500) & (whole.items < 800)
    users, items = whole.users[chosen], whole.items[chosen]
    part = Interactions(users, items, 1500, 800)
    theirs = irspack.DenseSLIMRecommender(interaction_matrix(part), reg=80).learn()
    scores = ease.ease(ease.gram(part), 80.0).scores(part)(0, 1500)
    expected = torch.from_numpy(sparse.csr_matrix(theirs.get_score(np.arange(1500))).toarray())
    torch.testing.assert_close(scores, expected.float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "flags"), [("ials", "--reg 0.1 --dim 4"), ("ease", "--reg 50")], ids=str
)
@pytest.mark.parametrize("protocol", ["published", "heldout"])
def test_the_command_line_writes_a_run(small_split, tmp_path, model, flags, protocol):
    parts = split(small_split.train, small_split.test, protocol, 0.3)
    write(tmp_path, parts, "small", protocol, 0.3, 0)
    done = command(tmp_path, model, *flags.split())
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    # 13 of the 33 items left to rank are liked, 3 of them in test.
    assert metrics["recall@20"] > 0.9
    assert (metrics["backbone"], metrics["loss"]) == ("linear", model)
    assert metrics["settings"].items() >= {"reg": 0.1 if model == "ials" else 50}.items()
    history = pd.read_csv(tmp_path / "history.csv")
    assert list(history["epoch"]) == list(range(1, metrics["epochs"] + 1))
    on_test = history["ndcg@20"].iloc[-1] == pytest.approx(metrics["ndcg@20"], rel=1e-6)
    assert on_test == (protocol == "published")
    assert ((tmp_path / "vectors.npz").stat().st_size > 0) == (model == "ials")


def test_a_setting_of_the_other_model_is_refused(small_split, tmp_path):
    write(tmp_path, small_split, "small", "published", 0.1, 0)
    done = command(tmp_path, "ease", "--alpha0", "0.1")
    assert done.returncode == 1
    assert done.stderr == "error: --alpha0: ease has no such setting; its own are: reg\n"


def command(folder, model, *flags):
    call = [sys.executable, "-m", "recloss", "linear", model, "--data", folder / "split.npz"]
    call += ["--manifest", folder / "split.json", "--out", folder, "--device", "cpu", *flags]
    return subprocess.run(list(map(str, call)), capture_output=True, text=True)


def needs_irspack():
    try:
        import irspack  # noqa: F401
    except ImportError:
        missing("no irspack")
