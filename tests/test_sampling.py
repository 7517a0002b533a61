"""Draws of a training step."""

import numpy as np
import pytest
import torch
from conftest import interactions
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recloss import sampling

CPU = torch.device("cpu")
TRAIN = interactions([(0, 0), (0, 1), (1, 1), (2, 1), (2, 2), (3, 3)], 4, 5)


def negatives(count=50, exponent=0.0, exclude=False, seed=0):
    return sampling.Negatives(TRAIN, count, exponent, exclude, seed, CPU)


def test_draws_depend_on_seed_epoch_and_step_only():
    users = torch.tensor([0, 1])
    first = negatives().draw(users, 1, 2)
    torch.rand(10)  # the global stream plays no part
    assert torch.equal(first, negatives().draw(users, 1, 2))
    for other in (negatives().draw(users, 1, 3), negatives().draw(users, 2, 2)):
        assert not torch.equal(first, other)
    assert not torch.equal(first, negatives(seed=1).draw(users, 1, 2))


@pytest.mark.parametrize("exponent", [0.0, 0.75, 1.0])
def test_negatives_follow_popularity_to_the_exponent(exponent):
    counts = np.bincount(TRAIN.items, minlength=5).astype(float)
    expected = counts**exponent / (counts**exponent).sum()
    ids = negatives(40_000, exponent).draw(torch.tensor([0]), 1, 0).flatten()
    seen = np.bincount(ids, minlength=5)
    assert seen[expected == 0].sum() == 0
    there = expected > 0
    assert stats.chisquare(seen[there], expected[there] * 40_000).pvalue > 1e-4


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_the_alias_table_has_the_probabilities_it_was_made_from(weights):
    q = np.array(weights) / np.sum(weights)
    accept, other = sampling.alias_table(q)
    drawn = accept / len(q)
    np.add.at(drawn, other, (1 - accept) / len(q))
    np.testing.assert_allclose(drawn, q, atol=1e-12)


def test_excluded_positives_are_never_drawn():
    users = torch.tensor([0, 1, 2, 3])
    ids = negatives(500, 0.5, exclude=True).draw(users, 1, 0)
    for user, row in zip(users.tolist(), ids, strict=True):
        assert not set(TRAIN.items[TRAIN.users == user]) & set(row.tolist())


def test_extra_positives_are_train_items_of_the_user_and_reach_all_of_them():
    users = torch.tensor([2, 0, 3])
    extra = sampling.ExtraPositives(TRAIN, 100, 0, CPU).draw(users, 1, 0)
    for user, row in zip(users.tolist(), extra, strict=True):
        assert set(row.tolist()) == set(TRAIN.items[TRAIN.users == user])


def test_an_epoch_visits_every_pair_once_in_an_order_of_its_own():
    first = sampling.epoch_order(100, 0, 1, CPU)
    assert sorted(first.tolist()) == list(range(100))
    assert not torch.equal(first, sampling.epoch_order(100, 0, 2, CPU))


def test_groups_number_the_users_of_a_batch():
    users = torch.tensor([7, 3, 7, 9, 3, 7])
    assert torch.equal(sampling.groups(users), torch.tensor([1, 0, 1, 2, 0, 1]))
