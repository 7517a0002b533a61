"""The class prior of each user, by each rule."""

import numpy as np
import pytest
from conftest import interactions

from recloss.data.prior import class_prior, row_weights
from recloss.experiment.schema import PRIOR_RULES, model_schema
from recloss.files import ReclossError

# Users with 1, 3 and no train items of 10.
TRAIN = interactions([(0, 1), (1, 0), (1, 2), (1, 9)], 3, 10)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"rule": "more", "k": 0}, [0.1, 0.3, 0.0]),
        ({"rule": "more", "k": 2}, [0.3, 0.5, 0.2]),
        ({"rule": "share", "alpha": 1}, [0.2, 0.6, 0.0]),
        ({"rule": "constant", "tau": 0.05}, [0.05, 0.05, 0.05]),
        ({"rule": "truth"}, [0.4, 0.5, 0.6]),
    ],
)
def test_a_rule_gives_each_user_a_prior(rule, expected):
    found = class_prior(TRAIN, rule, truth=np.array([0.4, 0.5, 0.6]))
    assert found == pytest.approx(np.float32(expected))
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"rule": "more", "k": 7}, "user 1 has a class prior of 1; lower prior.k"),
        ({"rule": "share", "alpha": 4}, r"user 1 has a class prior of 1.5; lower prior.alpha"),
    ],
)
def test_a_prior_of_one_or_more_is_refused_with_the_user(rule, said):
    with pytest.raises(ReclossError, match=said):
        class_prior(TRAIN, rule)


def test_the_truth_must_be_known():
    with pytest.raises(ReclossError, match="rule truth needs simulated data"):
        class_prior(TRAIN, {"rule": "truth"})


def test_rows_weigh_users_alike_or_pairs_alike():
    assert row_weights(TRAIN, "per_user")[:2] == pytest.approx([10, 10 / 3])
    assert row_weights(TRAIN, "per_pair") == pytest.approx([10 / (4 / 3)] * 3)
    # Over the pairs drawn, the weights of both have the mean |I| over the mean of |I_u+|, but for
    # users without a pair.
    weights = [row_weights(TRAIN, name)[TRAIN.users].mean() for name in ("per_user", "per_pair")]
    assert weights[0] == pytest.approx(weights[1] * 2 / 3)


def test_the_schema_knows_the_rules_and_their_parameters():
    node = model_schema("debiased_ccl")["prior"]
    assert node["properties"]["rule"]["enum"] == list(PRIOR_RULES)
    assert set(node["properties"]) == {"rule", *filter(None, PRIOR_RULES.values())}
