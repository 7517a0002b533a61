"""Two models compared, against scipy, simulation and hand-computed cases; Holm's correction."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from recloss.analysis import stats
from recloss.files import ReclossError


def users(mean, n=400, seed=0):
    return np.random.default_rng(seed).normal(mean, 0.1, n)


def test_the_interval_is_that_of_scipys_paired_bootstrap():
    other = users(0.5)
    one = other + np.random.default_rng(1).normal(0.01, 0.05, len(other))
    found = stats.compare(one[None], other[None])
    theirs = scipy_stats.bootstrap(
        (one, other),
        lambda x, y, axis: x.mean(axis) / y.mean(axis) - 1,
        paired=True,
        method="percentile",
        n_resamples=5000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert found.effect == pytest.approx(one.mean() / other.mean() - 1)
    assert found.low == pytest.approx(theirs.low, abs=0.06 * width)
    assert found.high == pytest.approx(theirs.high, abs=0.06 * width)


@pytest.mark.parametrize("gain", [0.0, 0.004, 0.02])
def test_p_of_one_seed_is_near_that_of_a_paired_t_test(gain):
    other = users(0.5)
    one = other + np.random.default_rng(1).normal(gain, 0.05, len(other))
    p = scipy_stats.ttest_rel(one, other).pvalue
    assert stats.compare(one[None], other[None]).p == pytest.approx(p, abs=0.01)


def test_a_constant_gain_has_no_width():
    other = users(0.5)[None]
    found = stats.compare(1.1 * other, other)
    assert (found.effect, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.p < 1e-6
    assert (found.n_seeds, found.n_users) == (1, 400)


def test_equal_models_do_not_differ():
    same = np.zeros((2, 50))
    assert stats.compare(same, same)[:4] == (0, 0, 0, 1)


def test_seeds_that_disagree_widen_the_interval():
    other = np.stack([users(0.5)] * 3)
    steady = other + 0.02
    shaky = other + np.array([[-0.03], [0.02], [0.07]])
    wide, narrow = (stats.compare(one, other) for one in (shaky, steady))
    assert wide.effect == pytest.approx(narrow.effect)
    assert wide.low < 0 < narrow.low
    # Only the seeds differ: a t-test of three numbers.
    p = scipy_stats.ttest_1samp([-0.03, 0.02, 0.07], 0).pvalue
    assert wide.p == pytest.approx(p, abs=0.01)


def test_users_that_differ_at_every_seed_alike_are_as_good_as_one_seed():
    other = users(0.5)
    one = other + np.random.default_rng(1).normal(0.01, 0.05, len(other))
    three = stats.compare(np.stack([one] * 3), np.stack([other] * 3))
    assert three[:4] == pytest.approx(stats.compare(one[None], other[None])[:4])


@pytest.mark.parametrize("of_users", [0, 0.05])
@pytest.mark.parametrize("of_seeds", [0, 0.005])
@pytest.mark.parametrize("of_both", [0, 0.1])
def test_models_that_differ_by_chance_alone_are_told_apart_one_time_in_twenty(
    of_users, of_seeds, of_both
):
    generator, count, shape = np.random.default_rng(0), 1000, (3, 300)
    found = []
    for _ in range(count):
        chance = generator.normal(0, 1, shape[1]) * of_users
        chance = chance + generator.normal(0, 1, (3, 1)) * of_seeds
        chance = chance + generator.normal(0, 1, shape) * of_both
        found.append(stats.compare(0.5 + chance, np.full(shape, 0.5)).p < 0.05)
    some = of_users or of_seeds or of_both
    assert (0.02 if some else 0) <= np.mean(found) <= (0.08 if some else 0)


def test_seeds_that_agree_by_luck_do_not_narrow_the_interval():
    noise = np.random.default_rng(0).normal(0, 0.1, (3, 400))
    noise -= noise.mean(axis=1, keepdims=True)  # now every seed has the same mean
    found = stats.compare(0.5 + 0.001 + noise, np.full((3, 400), 0.5))
    half = 1.96 * 0.1 / np.sqrt(noise.size) / 0.5
    assert found.high - found.effect == pytest.approx(half, rel=0.1)


def test_of_one_user_and_over_nothing_no_interval_is_known():
    one = stats.compare(np.array([[0.2], [0.3]]), np.array([[0.1], [0.1]]))
    assert one.effect == pytest.approx(1.5)
    assert np.isnan([one.low, one.high]).all() and one.p == 1
    some, nothing = users(0.5)[None], np.zeros((1, 400))
    over_nothing = stats.compare(some, nothing)
    assert np.isnan(over_nothing[:3]).all() and over_nothing.p < 1e-6


def test_runs_are_compared_at_common_seeds(tmp_path):
    rows = []
    for loss, seed, value in (("a", 0, 0.2), ("a", 1, 0.4), ("b", 1, 0.2), ("b", 2, 0.9)):
        path = tmp_path / f"{loss}{seed}"
        path.mkdir()
        np.savez(path / "per_user.npz", **{"recall@20": np.full(30, value)})
        rows.append({"loss": loss, "seed": seed, "path": path.name})
    frame = pd.DataFrame(rows)
    one, other = (frame[frame["loss"] == loss] for loss in "ab")
    assert stats.compare_runs(one, other, tmp_path, "recall@20").effect == pytest.approx(1.0)
    assert stats.compare_runs(one[:1], other, tmp_path, "recall@20") is None


def test_users_that_do_not_match_are_refused():
    with pytest.raises(ReclossError, match="not paired"):
        stats.compare(np.ones((2, 5)), np.ones((2, 6)))


def test_holm_by_hand():
    # Sorted .01, .02, .03, .04 times 4, 3, 2, 1: .04, .06, .06, .06 after the running maximum.
    assert stats.holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert stats.holm([0.5, 0.9]) == [1.0, 1.0]
    assert stats.holm([0.02]) == [0.02]
