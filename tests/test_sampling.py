"""Draws of a training step."""

import numpy as np
import pytest
import torch
from conftest import BACKENDS, backend, interactions
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recloss.engine import sampling
from recloss.files import ReclossError

TRAIN = interactions([(0, 0), (0, 1), (1, 1), (2, 1), (2, 2), (3, 3)], 4, 5)
POPULARITY = np.array([1, 3, 1, 1, 0])


def sampler(
    negatives=50,
    exponent=0.0,
    exclude=False,
    extra=0,
    seed=0,
    train=TRAIN,
    size=6,
    device="cpu",
    pairs="pairs",
):
    return sampling.Sampler(
        train, size, negatives, exponent, exclude, extra, seed, torch.device(device), pairs
    )


def draw(epoch=1, step=0, size=6, **options):
    """Return users (B,) and ids (B, 1 + N + M) of a step."""
    source = sampler(size=size, **options)
    source.start(epoch)
    for _ in range(step):
        source.advance()
    users, ids = source.draw(size)
    return users.cpu(), ids.cpu()


def test_philox_has_the_known_answers_of_its_authors():
    # Random123's kat_vectors: counter and key all zeros, all ones, and digits of pi.
    cases = [
        ((0, 0, 0, 0), 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0A4093822,
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ]
    for counters, key, expected in cases:
        words = sampling.philox(key, tuple(torch.tensor([c]) for c in counters))
        assert " ".join(f"{word:08x}" for word in words[0].tolist()) == expected


@pytest.mark.parametrize("exponent", [0.0, 0.75])
@pytest.mark.parametrize("exclude", [False, True])
def test_every_back_end_draws_the_same(exponent, exclude):
    drawn, uniform = [], []
    for name in BACKENDS:
        with backend(name) as device:
            drawn.append(
                draw(
                    7,
                    1,
                    3,
                    negatives=30,
                    exponent=exponent,
                    exclude=exclude,
                    extra=5,
                    device=device,
                )
            )
            clock = torch.tensor([7, 1], device=device)
            uniform.append(sampling.uniform(12345, clock, 3, 6).cpu())
    for users, ids in drawn[1:]:
        assert torch.equal(users, drawn[0][0])
        assert torch.equal(ids, drawn[0][1])
    for numbers in uniform[1:]:
        assert torch.equal(numbers, uniform[0])
    assert uniform[0].min() >= 0 and uniform[0].max() < 1


def test_draws_depend_on_seed_epoch_and_step_only():
    first = draw(1, 1, 2)[1]
    torch.rand(10)  # the global stream plays no part
    assert torch.equal(first, draw(1, 1, 2)[1])
    for other in (draw(1, 2, 2), draw(2, 1, 2), draw(1, 1, 2, seed=1)):
        assert not torch.equal(first, other[1])


@pytest.mark.parametrize("negatives", [0, 1])
@pytest.mark.parametrize("extra", [0, 2])
def test_every_back_end_draws_the_same_users_and_as_few_negatives(negatives, extra):
    drawn = []
    for name in BACKENDS:
        with backend(name) as device:
            few = {"negatives": negatives, "extra": extra, "exclude": negatives > 0}
            drawn.append(draw(7, 1, 3, pairs="users", device=device, **few))
    assert drawn[0][1].shape == (3, 1 + negatives + extra)
    for users, ids in drawn[1:]:
        assert torch.equal(users, drawn[0][0])
        assert torch.equal(ids, drawn[0][1])


@pytest.mark.parametrize("name", ["plain", "cpu"])
@pytest.mark.parametrize("exponent", [0.0, 0.75, 1.0])
def test_negatives_follow_popularity_to_the_exponent(name, exponent):
    expected = POPULARITY**exponent / (POPULARITY**exponent).sum()
    with backend(name):
        seen = np.bincount(draw(negatives=8000, exponent=exponent)[1][:, 1:].flatten(), minlength=5)
    assert seen[expected == 0].sum() == 0
    there = expected > 0
    assert stats.chisquare(seen[there], expected[there] * 48_000).pvalue > 1e-4


def test_words_of_neighbouring_rows_steps_and_epochs_are_uncorrelated():
    drawn = np.array(
        [
            draw(epoch, step, 2, negatives=4000)[1][row, 1:]
            for epoch, step, row in [(1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0)]
        ]
    )
    correlation = np.corrcoef(drawn) - np.eye(4)
    assert abs(correlation).max() < 5 / np.sqrt(4000)


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_the_alias_table_has_the_probabilities_it_was_made_from(weights):
    q = np.array(weights) / np.sum(weights)
    accept, other = sampling.alias_table(q)
    drawn = accept / len(q)
    np.add.at(drawn, other, (1 - accept) / len(q))
    np.testing.assert_allclose(drawn, q, atol=1e-12)


@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_excluded_positives_are_never_drawn_and_the_rest_keeps_its_odds(exponent):
    users, ids = draw(negatives=4000, exponent=exponent, exclude=True)
    for user, row in zip(users.tolist(), ids[:, 1:], strict=True):
        odds = POPULARITY**exponent * ~np.isin(np.arange(5), TRAIN.items[TRAIN.users == user])
        seen = np.bincount(row, minlength=5)
        assert seen[odds == 0].sum() == 0
        there = odds > 0
        assert stats.chisquare(seen[there], (odds / odds.sum())[there] * 4000).pvalue > 1e-4


def test_a_user_without_any_negative_is_refused():
    everything = interactions([(0, 0), (1, 0), (1, 1), (1, 2)], 2, 3)
    with pytest.raises(ReclossError, match="leaves user 1 no negative"):
        sampler(exclude=True, train=everything)


def test_extra_positives_are_train_items_of_the_user_and_reach_all_of_them():
    users, ids = draw(negatives=1, extra=100)
    for user, row in zip(users.tolist(), ids[:, 2:], strict=True):
        assert set(row.tolist()) == set(TRAIN.items[TRAIN.users == user])


def test_an_epoch_visits_every_pair_once_in_an_order_of_its_own():
    source = sampler(size=4)
    orders = []
    for epoch in (1, 2):
        source.start(epoch)
        pairs = []
        for size in (4, 2):
            users, ids = source.draw(size)
            pairs += zip(users.tolist(), ids[:, 0].tolist(), strict=True)
            source.advance()
        assert sorted(pairs) == list(zip(TRAIN.users.tolist(), TRAIN.items.tolist(), strict=True))
        orders.append(pairs)
    assert orders[0] != orders[1]


def test_users_are_drawn_uniformly_and_so_are_their_items():
    # User 1 has no train item; the other three have 1, 2 and 4.
    lists = {0: [5], 2: [0, 1], 3: [1, 2, 3, 4]}
    pairs = [(user, item) for user, items in lists.items() for item in items]
    train = interactions(pairs, 4, 6)
    source, seen = sampler(train=train, size=7, negatives=1, pairs="users"), []
    for epoch in range(3000):
        source.start(epoch)
        users, ids = source.draw(7)
        seen += zip(users.tolist(), ids[:, 0].tolist(), strict=True)
    assert len(source.users) == len(train)  # the length of an epoch
    counts = [seen.count(pair) for pair in pairs]
    assert sum(counts) == len(seen)
    odds = np.array([1 / 3 / len(lists[user]) for user, _ in pairs])
    assert stats.chisquare(counts, odds * len(seen)).pvalue > 1e-4


def test_log_q_of_a_batch_is_of_its_pairs():
    # Pairs by popularity; users uniformly, each item of a user by 1 / the user's number of items.
    for pairs, odds in (("pairs", POPULARITY / 6), ("users", np.array([2, 8, 2, 4, 0]) / 16)):
        log_q = sampler(negatives=0, pairs=pairs).log_q
        np.testing.assert_allclose(log_q.exp(), odds, rtol=1e-6)


def test_excluded_positives_are_never_drawn_where_only_one_item_is_left():
    almost = interactions([(0, 0), (0, 1), (0, 3), (1, 2)], 2, 4)
    for name in ("plain", "cpu"):
        with backend(name):
            users, ids = draw(negatives=1, exclude=True, train=almost, size=4)
        assert set(ids[users == 0, 1].tolist()) == {2}
        assert 2 not in ids[users == 1, 1]


def test_groups_number_the_users_of_a_batch():
    users = torch.tensor([7, 3, 7, 9, 3, 7])
    assert torch.equal(sampling.groups(users), torch.tensor([1, 0, 1, 2, 0, 1]))
