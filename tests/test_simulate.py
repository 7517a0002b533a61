"""The simulated data set: what is known of it holds, and its preferences can be learnt."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from recloss.data import parse
from recloss.data import simulate as simulation_module
from recloss.data.simulate import write_text
from recloss.experiment.flags import as_flags
from recloss.experiment.schema import simulation_defaults
from recloss.files import ReclossError

SMALL = {"users": 300, "items": 200, "dim": 4, "prior": 0.1, "observed": 8.0}


def simulate(**changes):
    return simulation_module.simulate(**simulation_defaults() | changes)


@pytest.fixture(scope="module")
def simulation():
    return simulate()


def dense(pairs):
    matrix = np.zeros((pairs.n_users, pairs.n_items), bool)
    matrix[pairs.users, pairs.items] = True
    return matrix


def recall_at_20(scores, simulation):
    """Return the mean Recall@20 of scores (users, items), train items left out."""
    scores = np.where(dense(simulation.train), -np.inf, scores)
    test = dense(simulation.test)
    hits = np.take_along_axis(test, np.argsort(-scores, axis=1)[:, :20], axis=1).sum(1)
    tested = test.any(1)
    return (hits[tested] / test.sum(1)[tested]).mean()


def test_a_seed_gives_one_simulation_and_another_seed_another():
    first, again, other = simulate(**SMALL), simulate(**SMALL), simulate(**SMALL, seed=1)
    for part in ("train", "test"):
        assert np.array_equal(getattr(first, part).keys(), getattr(again, part).keys())
        assert not np.array_equal(getattr(first, part).keys(), getattr(other, part).keys())
    for part in ("truth", "propensity"):
        assert np.array_equal(getattr(first, part), getattr(again, part))
        assert not np.array_equal(getattr(first, part), getattr(other, part))


def test_every_user_likes_exactly_the_prior_share_of_the_items(simulation):
    assert (simulation.truth.sum(1) == 75).all()
    assert simulation.summary()["prior"] == 0.05


def test_only_liked_items_are_observed_and_no_pair_twice(simulation):
    train, test = dense(simulation.train), dense(simulation.test)
    assert not (train & test).any()
    assert not ((train | test) & ~simulation.truth).any()


def test_noise_adds_pairs_that_are_not_liked_to_train_alone(simulation):
    noisy = simulate(noise=0.25)
    train, clean = dense(noisy.train), dense(simulation.train)
    assert not (clean & ~train).any() and not (train & ~clean & noisy.truth).any()
    assert (train & ~noisy.truth).sum() / train.sum() == pytest.approx(0.25, abs=0.01)
    assert np.array_equal(noisy.test.keys(), simulation.test.keys())
    # As exposed as the liked ones: no item's share of the noise is that of a uniform draw.
    wrong = (train & ~clean).sum(0)
    assert np.corrcoef(wrong, simulation.propensity)[0, 1] > 0.9
    seen = train | dense(noisy.test)
    assert noisy.summary()["residual_prior"] == pytest.approx(noisy.truth[~seen].mean())


def test_a_uniform_test_set_has_the_same_train_pairs_and_as_many_items_a_user(simulation):
    uniform = simulate(test="uniform")
    assert np.array_equal(uniform.train.keys(), simulation.train.keys())
    assert np.array_equal(uniform.test.counts(), simulation.test.counts())
    noisy = simulate(test="uniform", noise=0.25)
    assert np.array_equal(noisy.train.keys(), simulate(noise=0.25).train.keys())


def test_a_uniform_test_set_is_drawn_from_the_liked_items_whatever_their_exposure(simulation):
    uniform = simulate(test="uniform")
    train, test = dense(uniform.train), dense(uniform.test)
    hidden = uniform.truth & ~train
    assert not (test & ~hidden).any()
    # Of the tenth of the items that are the most exposed and the tenth that are the least, as many
    # as there are among the hidden; of an observed test set the former only.
    order = np.argsort(uniform.propensity)
    expected = hidden * (test.sum(1) / hidden.sum(1))[:, None]
    for part in (order[:150], order[-150:]):
        n = expected[:, part].sum()
        assert test[:, part].sum() == pytest.approx(n, abs=4 * np.sqrt(n))
    observed = dense(simulation.test)
    assert observed[:, order[-150:]].sum() > 4 * expected[:, order[-150:]].sum()


def test_the_pairs_of_a_uniform_test_set_are_not_observed():
    uniform = simulate(test="uniform")
    seen = dense(uniform.train)
    summary = uniform.summary()
    assert summary["residual_prior"] == pytest.approx(uniform.truth[~seen].mean())
    assert summary["observed_share"] == pytest.approx(seen[uniform.truth].mean())


def test_the_mean_number_of_observed_items_is_as_asked(simulation):
    # The standard error is below sqrt(25 / 2000) = 0.11.
    assert (len(simulation.train) + len(simulation.test)) / 2000 == pytest.approx(25, abs=0.5)


def test_summary_counts_the_liked_pairs_among_the_unobserved(simulation):
    seen = dense(simulation.train) | dense(simulation.test)
    summary = simulation.summary()
    assert summary["residual_prior"] == pytest.approx(simulation.truth[~seen].mean())
    assert summary["observed_share"] == pytest.approx(seen[simulation.truth].mean())
    assert summary["true_positives_per_user"] == 75
    assert summary["parameters"]["skew"] == 1.0


@pytest.mark.parametrize("skew", [0.5, 1.0, 2.0])
def test_propensity_is_a_power_law_of_the_rank_up_to_certainty(skew):
    propensity = np.sort(simulate(skew=skew).propensity)[::-1]
    rank = np.arange(1, len(propensity) + 1)
    below = propensity < 1
    slope = np.polyfit(np.log(rank[below]), np.log(propensity[below]), 1)[0]
    assert slope == pytest.approx(-skew, abs=1e-3)


def test_the_most_exposed_item_is_the_last_so_that_files_tell_the_number_of_items():
    steep = simulate(skew=3.0, observed=0.03)  # so few that no propensity is cut at 1
    assert np.flatnonzero(steep.propensity == steep.propensity.max()).tolist() == [1499]


def test_without_skew_all_items_are_exposed_alike():
    assert np.ptp(simulate(**SMALL, skew=0).propensity) == 0


def test_liked_pairs_are_observed_with_the_propensity_of_their_item(simulation):
    seen = dense(simulation.train) | dense(simulation.test)
    rate = seen.sum(0) / simulation.truth.sum(0)
    assert np.corrcoef(rate, simulation.propensity)[0, 1] > 0.95
    assert (rate - simulation.propensity).mean() == pytest.approx(0, abs=0.01)


def test_exposure_does_not_depend_on_how_many_users_like_an_item(simulation):
    # 1500 independent items correlate by 0.026 at one standard deviation.
    liked = simulation.truth.sum(0)
    assert abs(np.corrcoef(liked, simulation.propensity)[0, 1]) < 0.1


def test_a_fifth_of_the_observed_items_is_for_the_test_and_one_stays_for_training(simulation):
    seen = simulation.train.counts() + simulation.test.counts()
    assert np.array_equal(simulation.test.counts(), np.round(0.2 * seen))
    sparse = simulate(**SMALL | {"observed": 1.0}, test_fraction=0.9)
    seen = sparse.train.counts() + sparse.test.counts()
    assert (seen == 1).any()
    assert (sparse.train.counts()[seen > 0] >= 1).all()


def test_popularity_beats_chance_and_low_rank_structure_beats_popularity(simulation):
    shape = simulation.truth.shape
    observed = csr_matrix(dense(simulation.train).astype(float))
    left, values, right = svds(observed, k=8, random_state=0)
    popularity = np.broadcast_to(np.bincount(simulation.train.items, minlength=shape[1]), shape)
    chance = recall_at_20(np.random.default_rng(0).random(shape), simulation)
    popular = recall_at_20(popularity, simulation)
    learnt = recall_at_20(left * values @ right, simulation)
    assert popular > 2 * chance
    assert learnt > 5 * popular


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prior": 0.001}, "prior 0.001 is 0 of 200 items; change prior"),
        ({"prior": 1.0}, "prior 1.0 is 200 of 200 items; change prior"),
        ({"observed": 20.0}, "observed 20.0 is not between 0 and the 20 items that a user likes"),
        ({"observed": 0.0}, "observed 0.0 is not between 0 and"),
        ({"test": "true"}, "test 'true' is not one of observed, uniform"),
        ({"test_fraction": 1.0}, "test_fraction 1.0 is not between 0 and 1"),
        ({"users": 1, "observed": 0.01}, "the most exposed item is never seen; raise users"),
    ],
)
def test_impossible_parameters_are_refused(change, message):
    with pytest.raises(ReclossError, match=f"^simulate: {message}"):
        simulate(**SMALL | change)


def test_written_text_reads_back_as_the_same_pairs(tmp_path):
    simulation = simulate(**SMALL | {"observed": 1.0})
    assert (simulation.train.counts() == 0).any()  # a user without items is written as well
    for part in ("train", "test"):
        write_text(tmp_path / f"{part}.txt", getattr(simulation, part))
    for found, part in zip(
        parse.load(tmp_path / "train.txt", tmp_path / "test.txt"), ("train", "test"), strict=True
    ):
        expected = getattr(simulation, part)
        assert (found.n_users, found.n_items) == (300, 200)
        assert np.array_equal(found.keys(), expected.keys())


def test_command_line_writes_the_simulation(tmp_path):
    given = simulation_defaults() | {"users": 300, "items": 200, "prior": 0.1, "observed": 8.0}
    flags = as_flags(given).split()
    command = [sys.executable, "-m", "recloss", "simulate", "--out", str(tmp_path), *flags]
    assert subprocess.run(command).returncode == 0
    expected = simulate(**given)
    summary = json.loads((tmp_path / "simulation.json").read_text())
    assert summary == expected.summary()
    assert summary["parameters"] == given
    train, test = parse.load(tmp_path / "train.txt", tmp_path / "test.txt")
    assert np.array_equal(train.keys(), expected.train.keys())
    assert np.array_equal(test.keys(), expected.test.keys())
    with np.load(tmp_path / "truth.npz", allow_pickle=False) as arrays:
        truth = np.unpackbits(arrays["truth"], axis=1, count=200).astype(bool)
        assert np.array_equal(truth, expected.truth)
        assert np.array_equal(arrays["propensity"], expected.propensity)
        assert arrays["propensity"].dtype == np.float32
