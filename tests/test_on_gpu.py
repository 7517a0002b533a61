"""What only a GPU can show: captured steps, whole runs and linear models beside those on the CPU.

Everywhere else the other tests run the same kernels in Triton's interpreter, step by step.
"""

import numpy as np
import pytest
import torch
from conftest import interactions

from recloss.checkpoint import Stopped
from recloss.data.split import split
from recloss.experiment.schema import default_settings
from recloss.losses import LOSSES
from recloss.models import linear
from recloss.train import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

DEVICES = ("cpu", "cuda")
FAST = {
    "dim": 16,
    "batch_size": 128,
    "negatives": 24,
    "learning_rate": 0.01,
    "max_epochs": 3,
    "init_std": 0.1,
    "layers": 2,
    "message_dropout": 0.0,
}


@pytest.fixture(scope="module")
def parts():
    """300 users with 12 of 250 items each: 29 batches, of which 25 are captured ones."""
    rng = np.random.default_rng(0)
    train, test = [], []
    for user in range(300):
        liked = rng.permutation(250)[:14]
        train += [(user, item) for item in liked[:12]]
        test += [(user, item) for item in liked[12:]]
    return split(interactions(train, 300, 250), interactions(test, 300, 250), "published")


def trainer(parts, loss, device, backbone="mf", **changes):
    settings = default_settings(loss, backbone) | FAST | changes
    return Trainer(parts, loss, settings, 0, torch.device(device), backbone=backbone)


def after_epochs(parts, loss, backbone="mf", epochs=1, **changes):
    """Return for each device the losses of the last epoch's steps and the tables after it."""
    found = []
    for device in DEVICES:
        run = trainer(parts, loss, device, backbone, **changes)
        for epoch in range(1, epochs + 1):
            run.epoch(epoch)
        assert (run._graph is not None) == (device == "cuda")
        tables = {name: table.detach().cpu() for name, table in run.model.state_dict().items()}
        found.append((run.losses.cpu(), tables))
    return found


def agree(found):
    (losses, tables), (others, other_tables) = found
    torch.testing.assert_close(losses, others, rtol=1e-3, atol=1e-5)
    for name in tables:
        off = (tables[name] - other_tables[name]).norm() / tables[name].norm()
        # Adam divides by the root of a mean square: a small difference may turn a small step.
        assert off < 0.01, name


@pytest.mark.parametrize("loss", LOSSES)
def test_captured_steps_train_every_loss_as_the_cpu_does(parts, loss):
    agree(after_epochs(parts, loss))


@pytest.mark.parametrize(
    "changes",
    [
        {"negatives_from": "batch", "mask_same": "both"},
        {"exclude_positives": True, "negative_exponent": 0.5},
        {"dropout": 0.2, "dropout_position": "before"},
        {"dropout": 0.2, "dropout_position": "after", "l2": 0.01},
        {"l2": 0.01, "l2_on": "rows", "score": "dot", "temperature": 1.0},
        {"pairs": "users", "dim": 24},
        {"dim": 200, "clip_norm": 0.01},
    ],
    ids=lambda changes: " ".join(f"{key} {value}" for key, value in changes.items()),
)
def test_captured_steps_follow_every_setting(parts, changes):
    agree(after_epochs(parts, "mine_plus", **changes))


@pytest.mark.parametrize("backbone", ["lightgcn", "ngcf"])
@pytest.mark.parametrize("source", ["items", "batch"])
def test_captured_steps_train_graphs_as_the_cpu_does(parts, backbone, source):
    # At 0.01 NGCF's losses differ by 0.03 on the CPU too, where the vectors it starts from do by
    # 1e-7.
    changes = {"negatives_from": source, "learning_rate": 1e-3}
    agree(after_epochs(parts, "mine_plus", backbone, **changes))


def test_a_captured_step_follows_the_learning_rate_and_the_epoch(parts):
    agree(after_epochs(parts, "debiased_ccl", epochs=3))


def test_a_deterministic_run_has_the_same_bits_each_time_and_resumed(parts, tmp_path):
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        runs = [trainer(parts, "mine_plus", "cuda") for _ in range(3)]
        for run in runs[:2]:
            run.run()
        # The third is told to stop in its second epoch and goes on as another.
        path = tmp_path / "checkpoint.pt"
        with pytest.raises(Stopped):
            runs[2].run(path, "same", enough=lambda row: row["epoch"] == 2 and runs[2].stop())
        runs.append(trainer(parts, "mine_plus", "cuda"))
        runs[3].run(path, "same")
    finally:
        torch.use_deterministic_algorithms(before)
    one, again, _, resumed = ({k: v.cpu() for k, v in r.model.state_dict().items()} for r in runs)
    assert all(torch.equal(one[k], again[k]) and torch.equal(one[k], resumed[k]) for k in one)


def test_a_ranking_is_that_of_the_cpu(parts):
    run = trainer(parts, "mine_plus", "cpu")
    run.run()
    on_gpu = trainer(parts, "mine_plus", "cuda")
    on_gpu.model.load_state_dict(run.model.state_dict())
    (users, values), (same_users, others) = (r.evaluate(on_test=True) for r in (run, on_gpu))
    assert np.array_equal(users, same_users)
    for name, of_users in values.items():
        # Scores that differ by rounding may change places.
        assert np.mean(np.abs(of_users - others[name]) > 1e-6) < 0.02


@pytest.mark.parametrize("model", ["ials", "ease"])
def test_a_linear_model_is_that_of_the_cpu(parts, model):
    values = []
    for name in DEVICES:
        device, settings = torch.device(name), default_settings(model)
        fitted = linear.fit(model, parts, settings, 0, device)
        values.append(fitted.scores(0, 300).cpu())
    torch.testing.assert_close(*values, rtol=1e-2, atol=1e-3)
