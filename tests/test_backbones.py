"""Backbones: their vectors, and that everything a run does works on each."""

import os

import numpy as np
import pytest
import torch
from conftest import BACKENDS, backend, interactions, missing
from torch.nn.functional import leaky_relu, normalize

from recloss import seeds
from recloss.data.simulate import simulate
from recloss.data.split import split
from recloss.engine import device as dispatch
from recloss.engine import sampling
from recloss.engine.ranking import on_test
from recloss.experiment.plan import stand_in
from recloss.experiment.schema import default_settings
from recloss.losses import LOSSES
from recloss.models.backbones import BACKBONES
from recloss.models.controls import popularity
from recloss.models.factorization import Batch
from recloss.train import Trainer

CPU = torch.device("cpu")
GRAPH = ("lightgcn", "ngcf")
FAST = {
    "dim": 8,
    "batch_size": 64,
    "negatives": 4,
    "learning_rate": 0.02,
    "max_epochs": 4,
    "init_std": 0.1,
    "layers": 2,
    "message_dropout": 0.1,
}
# Users 3 and 4 and items 4 to 6 have no pair.
TRAIN = interactions([(0, 0), (0, 1), (1, 1), (1, 2), (1, 3), (2, 3)], 5, 7)


def trainer(parts, backbone, loss="mine_plus", seed=0, device=CPU, **changes):
    settings = default_settings(loss) | FAST | changes
    return Trainer(parts, loss, settings, seed, device, backbone=backbone)


def tables(run):
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def model_of(backbone, device=CPU, **changes):
    settings = default_settings("bpr") | FAST | {"init_std": 1.0} | changes
    return BACKBONES[backbone](TRAIN, settings, 0, device)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("layers", [1, 3])
def test_lightgcn_is_that_of_pytorch_geometric(name, layers):
    try:
        from torch_geometric.nn import LightGCN
    except ImportError:
        missing("no torch_geometric")
    weight = torch.randn(12, 8)
    with backend(name) as device:
        ours = model_of("lightgcn", device, layers=layers)
        vectors = torch.cat(ours())
        (vectors * weight.to(device)).sum().backward()
    theirs = LightGCN(12, 8, layers)
    theirs.embedding.weight.data = torch.cat([ours.users, ours.items]).detach().cpu()
    there = np.stack([TRAIN.users, TRAIN.items + 5])
    expected = theirs.get_embedding(torch.from_numpy(np.hstack([there, there[::-1]])).long())
    (expected * weight).sum().backward()
    torch.testing.assert_close(vectors.detach().cpu(), expected.detach())
    gradient = torch.cat([ours.users.grad, ours.items.grad]).cpu()
    torch.testing.assert_close(gradient, theirs.embedding.weight.grad)


def dense_ngcf(model, kept):
    """Return the joined vectors in float64, entries of layer k dropped where kept[k] is 0."""
    matrix = torch.eye(12, dtype=torch.float64)
    users, items = torch.from_numpy(TRAIN.users), torch.from_numpy(TRAIN.items) + 5
    matrix[users, items] = matrix[items, users] = 1
    matrix /= matrix.sum(1, keepdim=True)
    state = {name: value.detach().double() for name, value in model.named_parameters()}
    e = torch.cat([state["users"], state["items"]])
    joined = [e]
    for k, mask in enumerate(kept):
        w1, b1, w2, b2 = (state[f"weights.{4 * k + j}"] for j in range(4))
        passed = matrix @ e
        sums = leaky_relu(passed @ w1 + b1, 0.2)
        e = (sums + leaky_relu((e * passed) @ w2 + b2, 0.2)) * mask
        joined.append(normalize(e, dim=1))
    return torch.cat(joined, dim=1)


@pytest.mark.parametrize("name", BACKENDS)
def test_ngcf_is_its_dense_definition(name):
    with backend(name) as device:
        model = model_of("ngcf", device)
        vectors = torch.cat(model()).detach().cpu()
    assert vectors.shape == (12, 24)
    expected = dense_ngcf(model.cpu(), [1, 1])
    torch.testing.assert_close(vectors, expected.float(), rtol=1e-4, atol=1e-5)


def test_ngcf_drops_messages_in_training_only_and_by_the_clock():
    model, clock = model_of("ngcf", message_dropout=0.4), torch.tensor([3, 2])
    batch = Batch(torch.arange(5), torch.arange(7)[:, None], clock)
    keys = [seeds.derive(0, "message dropout", k) for k in range(2)]
    kept = [(sampling.uniform(key, clock, 12, 8) >= 0.4) / 0.6 for key in keys]
    dropped = torch.cat(model(batch)).detach()
    expected = dense_ngcf(model, kept).float()
    torch.testing.assert_close(dropped, expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(dropped, torch.cat(model(batch._replace(clock=clock + 1))).detach())


def test_ngcf_starts_from_xavier_weights():
    weights = model_of("ngcf", dim=50).weights
    assert [tuple(w.shape) for w in weights] == 2 * [(50, 50), (1, 50), (50, 50), (1, 50)]
    bound = (6 / 100) ** 0.5
    assert 0.95 * bound < float(weights[0].detach().abs().max()) <= bound
    assert not torch.equal(weights[0], weights[2])


def test_lightgcn_without_layers_is_matrix_factorisation_to_the_bit(small_split):
    changes = {"layers": 0, "l2": 0.1, "l2_on": "rows", "max_epochs": 2}
    runs = [trainer(small_split, backbone, **changes) for backbone in ("mf", "lightgcn")]
    for run in runs:
        run.run()
    assert same(*map(tables, runs))


@pytest.mark.parametrize("backbone", GRAPH)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_every_parameter(small_split, backbone, loss):
    run = trainer(small_split, backbone, loss, batch_size=512)
    before = tables(run)
    assert np.isfinite(run.epoch(1))  # one step
    after = tables(run)
    for name in before:
        assert after[name].isfinite().all()
        assert not torch.equal(before[name], after[name]), name


@pytest.mark.parametrize("backbone", GRAPH)
def test_a_resumed_run_ends_in_the_same_bits(small_split, tmp_path, backbone):
    whole = trainer(small_split, backbone, dropout=0.2)
    whole.run()
    broken = trainer(small_split, backbone, dropout=0.2)
    broken.settings["max_epochs"] = 2
    broken.run(tmp_path / "state.pt", "same")
    resumed = trainer(small_split, backbone, dropout=0.2)
    resumed.run(tmp_path / "state.pt", "same")
    assert len(resumed.progress.history) == 4
    assert same(tables(whole), tables(resumed))


@pytest.mark.skipif(os.cpu_count() < 2, reason="needs two cores")
def test_lightgcn_trains_to_the_same_bits_on_one_thread_and_on_two():
    parts = stand_in({"n_users": 1500, "n_items": 1100}, 9000)
    results = []
    for threads in (1, 2):
        dispatch.use_threads(threads)
        run = trainer(parts, "lightgcn", batch_size=2048, l2=0.1, l2_on="rows", layers=3)
        run.epoch(1)
        results.append(tables(run))
    assert same(*results)


@pytest.mark.parametrize("backbone", GRAPH)
def test_the_cuda_kernels_train_as_the_cpu_kernels_do(small_split, backbone):
    results = []
    for name in ("cpu", "cuda"):
        with backend(name) as device:
            run = trainer(small_split, backbone, device=device, batch_size=256)
            run.sparse = False  # as on a GPU
            losses = run.epoch(1)
            results.append((losses, {k: v.cpu() for k, v in tables(run).items()}))
    (ours, one), (theirs, other) = results
    assert ours == pytest.approx(theirs, rel=1e-4)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("backbone", GRAPH)
def test_l2_on_rows_is_on_layer_0_of_lightgcn_and_on_the_joined_vectors_of_ngcf(
    small_split, backbone
):
    changes = {"message_dropout": 0.0}
    plain = trainer(small_split, backbone, **changes)
    run = trainer(small_split, backbone, l2=0.5, l2_on="rows", **changes)
    for each in (plain, run):
        each.sampler.start(1)
    users, ids = run.sampler.draw(64)
    of_users, of_items = (
        (run.model.users, run.model.items) if backbone == "lightgcn" else run.model()
    )
    rows = of_users[users].square().sum() + of_items[ids.long()].square().sum()
    torch.testing.assert_close(run.batch_loss(64) - plain.batch_loss(64), 0.25 * rows / 64)


@pytest.mark.parametrize("backbone", GRAPH)
def test_a_graph_model_beats_popularity(backbone):
    made = simulate(300, 200, 4, 0.2, 15, 0.7, 0.25, seed=0)
    parts = split(made.train, made.test, "published")
    ranking = on_test(parts, CPU)
    floor = ranking.per_user(popularity(parts, 0))[1]["ndcg@20"].mean()
    changes = {"max_epochs": 15, "batch_size": 256, "negatives": 8, "init_std": 0.1}
    run = trainer(parts, backbone, "bpr", **changes)
    run.run()
    assert run.evaluate(on_test=True)[1]["ndcg@20"].mean() > 1.2 * floor
