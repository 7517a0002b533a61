"""What the simulation's truth says of estimates and rankings."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import interactions

from recloss.analysis import truth
from recloss.data import simulate
from recloss.data.split import split, write
from recloss.experiment.record import write_run

SIMULATION = {"users": 80, "items": 60, "dim": 4, "prior": 0.2, "observed": 6.0}
SIMULATION |= {"skew": 1.0, "test_fraction": 0.25, "seed": 0}


def test_the_debiased_term_is_exact_if_all_liked_items_are_observed():
    made = simulate.simulate(**SIMULATION)
    liked = torch.from_numpy(made.truth)
    scores = torch.randn(liked.shape, generator=torch.Generator().manual_seed(0)) + 2 * liked
    for term in (torch.square, torch.exp):
        plain, debiased = truth.biases(scores, term, liked, liked)
        assert plain > 0.1
        assert debiased == pytest.approx(0, abs=1e-12)


def test_the_plain_term_is_exact_if_scores_do_not_tell_liked_items():
    liked = torch.arange(400).reshape(20, 20) % 5 == 0
    plain, debiased = truth.biases(torch.ones(20, 20), torch.square, liked, liked)
    assert (plain, debiased) == pytest.approx((0, 0))


@pytest.mark.parametrize(
    ("loss", "at"), [("debiased_ccl", 0.3), ("mse", 0.49), ("ials", 0.49), ("mine_plus", None)]
)
def test_every_loss_has_its_term(loss, at):
    y = torch.tensor([0.2, 0.7, 0.4])
    values = truth.negative_term(loss, {"margin": 0.4})[1](y)
    if at is None:
        torch.testing.assert_close(values / values[1], (y - y[1]).exp())
    else:
        assert float(values[1]) == pytest.approx(at)


def test_scores_are_those_of_training(tmp_path):
    users, items = torch.randn(2, 5, 3).unbind()
    np.savez(tmp_path / "vectors.npz", users=3 * users.numpy(), items=2 * items.numpy())
    metrics = {"loss": "mine", "settings": {"score": "cosine", "temperature": 0.5}}
    cosine = torch.cosine_similarity(users[:, None], items[None], dim=2)
    train = interactions([(0, 0)], 5, 5)
    torch.testing.assert_close(truth.scores_of(tmp_path, metrics, train, True), cosine / 0.5)


@pytest.mark.parametrize("loss", ["mine_plus", "bpr", "ials", "ease"])
def test_runs_are_judged_by_all_that_is_liked(tmp_path, loss):
    made = simulate.simulate(**SIMULATION)
    parts = split(made.train, made.test, "published")
    write(tmp_path, parts, "small", "published", 0.1, 0)
    np.savez(tmp_path / "truth.npz", truth=np.packbits(made.truth, axis=1))
    # Vectors that know the truth: a user's vector is the row of it.
    vectors = (made.truth.astype(np.float32), np.eye(60, dtype=np.float32))
    settings = {"ease": {"reg": 5.0}, "ials": {}}.get(loss, {"score": "dot", "temperature": 0.5})
    metrics = {"loss": loss, "settings": settings, "recall@20": 0.25, "ndcg@20": 0.5}
    values = {"recall@20": np.ones(1), "ndcg@20": np.ones(1)}
    write_run(tmp_path / "run", metrics, [{"epoch": 1}], np.zeros(1), values, vectors)
    command = [sys.executable, "-m", "recloss", "truth", "--data", tmp_path / "split.npz"]
    command += ["--manifest", tmp_path / "split.json", "--truth", tmp_path / "truth.npz"]
    command += ["--runs", tmp_path / "run", "--out", tmp_path / "truth.csv"]
    subprocess.run(list(map(str, command)), check=True)
    frame = pd.read_csv(tmp_path / "truth.csv").set_index("certificate")["value"]
    assert frame["observed recall@20"] == 0.25
    assert ("bias, plain" in frame) == (loss != "bpr")
    assert loss != "ials" or np.isnan(frame["bias, plain"])  # 0 on all that is not liked
    if loss == "ease":
        assert 0.1 < frame["true ndcg@20"] < 1
    else:
        assert frame["true recall@20"] == frame["true ndcg@20"] == 1
