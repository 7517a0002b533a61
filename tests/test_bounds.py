"""The lower bounds hold at any scores, and their check can fail."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recloss.analysis import bounds
from recloss.experiment.record import write_run


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.floats(0.01, 20), st.integers(0, 10**6))
def test_no_scores_violate_a_bound(negatives, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    pos = scale * torch.randn(5, generator=generator, dtype=torch.float64)
    neg = scale * torch.randn(5, negatives, generator=generator, dtype=torch.float64)
    for loss, bound in bounds.evaluate(pos, neg).values():
        assert (loss >= bound - 1e-9 * loss.abs().clamp(min=1)).all()


def test_equal_scores_meet_the_bounds():
    y = torch.full((3,), 0.7, dtype=torch.float64)
    found = bounds.evaluate(y, y[:, None].expand(3, 8))
    expected = {"infonce": math.log(9), "mine": 0.0, "bpr": math.log(2)}
    for name, (loss, bound) in found.items():
        assert loss.tolist() == pytest.approx([expected[name]] * 3)
        assert bound.tolist() == pytest.approx([expected[name]] * 3)


@pytest.fixture
def run(small_split, tmp_path):
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(n, 4)).astype(np.float32) for n in (60, 40)]
    values = {"recall@20": np.ones(1), "ndcg@20": np.ones(1)}
    metrics = {"dataset": "small", "loss": "mine", "recall@20": 1.0}
    metrics["settings"] = {"negatives": 7, "temperature": 0.2, "score": "cosine"}
    write_run(tmp_path, metrics, [{"epoch": 1}], np.zeros(1), values, vectors)
    return tmp_path


def test_a_run_has_a_row_per_inequality(run, small_split):
    rows = bounds.rows(run, small_split.train, pairs=50)
    assert [row["inequality"] for row in rows] == ["infonce", "mine", "bpr"]
    assert {(row["pairs"], row["negatives"], row["violated"]) for row in rows} == {(50, 7, 0)}
    assert all(row["smallest slack"] > 0 for row in rows)


def test_a_wrong_bound_is_violated(run, small_split, monkeypatch):
    right = bounds.BOUNDS["mine"]
    monkeypatch.setitem(bounds.BOUNDS, "mine", lambda d: right(d) + 10)
    rows = bounds.rows(run, small_split.train, pairs=50)
    assert [row["violated"] for row in rows] == [0, 50, 0]
