"""Eq. 11 to 13: which loss obeys which bound, at any scores; and the check of it can fail."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from recloss.analysis import bounds, summaries
from recloss.experiment.record import write_run
from recloss.report import comparisons, look, tables

LOSSES = ("infonce", "mine", "bpr")
CLAIMED = {
    *((11, "lower", loss) for loss in LOSSES),
    *((12, side, loss) for side in ("lower", "upper") for loss in ("infonce", "mine")),
    (13, "lower", "bpr"),
}


def at(d):
    """Return what `evaluate` finds at one pair of score 0 with the negatives d: slack by bound."""
    neg = torch.tensor([d], dtype=torch.float64)
    values = bounds.evaluate(torch.zeros(1, dtype=torch.float64), neg)
    return {
        key: (loss - bound).item() * (1 if key[1] == "lower" else -1)
        for key, (loss, bound) in values.items()
    }


# The facts

difference = st.floats(-30, 30) | st.floats(-1e6, 1e6)


@settings(deadline=None)
@given(st.lists(difference, min_size=1, max_size=40))
def test_no_scores_violate_a_claimed_bound(d):
    slack = at(d)
    rounding = 1e-9 * (1 + sum(map(abs, d)))
    assert {key for key in slack if slack[key] < -rounding} <= slack.keys() - CLAIMED


@settings(deadline=None)
@given(st.lists(difference, min_size=1, max_size=40))
def test_bpr_obeys_the_lower_side_of_eq_12_too(d):
    # Eq. 13 is never below it: it is the upper side that tells BPR from the others.
    assert at(d)[12, "lower", "bpr"] >= -1e-9 * (1 + sum(map(abs, d)))


@settings(deadline=None)
@given(st.floats(0, 1e3), st.integers(2, 40))
def test_bpr_lies_above_eq_12_at_equal_negatives_that_rank_too_high(d, n):
    # n log(1 + e^d) against d + log(n + 1)
    assert at([d] * n)[12, "upper", "bpr"] < 0


@settings(deadline=None)
@given(st.floats(1.5, 1e3), st.integers(2, 40))
def test_infonce_and_mine_lie_below_eq_13_at_equal_negatives_that_rank_too_high(d, n):
    # d + log(n + e^-d) against n d
    slack = at([d] * n)
    assert slack[13, "lower", "infonce"] < 0 and slack[13, "lower", "mine"] < 0


def test_equal_scores_meet_eq_11_and_leave_eq_12_log_n_plus_1_away():
    slack = at([0.0] * 8)
    assert [slack[11, "lower", loss] for loss in LOSSES] == pytest.approx([0, 0, 0], abs=1e-12)
    assert slack[12, "lower", "infonce"] == pytest.approx(math.log(9))
    assert slack[12, "lower", "mine"] == pytest.approx(math.log(8))
    assert slack[12, "upper", "infonce"] == pytest.approx(0, abs=1e-12)
    assert slack[12, "upper", "bpr"] == pytest.approx(math.log(9) - 8 * math.log(2))


def test_one_negative_far_above_the_others_meets_eq_12_and_13():
    slack = at([40.0, -40.0, -40.0])
    for key in ((12, "lower", "infonce"), (12, "lower", "mine"), (13, "lower", "bpr")):
        assert slack[key] == pytest.approx(0, abs=1e-12)
    assert slack[11, "lower", "infonce"] == pytest.approx(40 + 40 / 4 - math.log(4))


def test_losses_and_bounds_are_those_computed_by_hand():
    # pos 1, negatives 1 + log 2 and 1 - log 2: e^d is 2 and 1/2
    pos = torch.ones(1, dtype=torch.float64)
    neg = 1 + torch.tensor([[2.0, 0.5]], dtype=torch.float64).log()
    loss = {"infonce": math.log(3.5), "mine": math.log(2.5), "bpr": math.log(3 * 1.5)}
    eq_11 = {"infonce": math.log(3), "mine": math.log(2), "bpr": 2 * math.log(2)}
    expected = {(11, "lower", name): bound for name, bound in eq_11.items()}
    expected |= {(12, "lower", name): math.log(2) for name in LOSSES}
    expected |= {(12, "upper", name): math.log(2) + math.log(3) for name in LOSSES}
    expected |= {(13, "lower", name): math.log(2) for name in LOSSES}
    found = bounds.evaluate(pos, neg)
    assert found.keys() == expected.keys()
    for key, (value, bound) in found.items():
        assert value.item() == pytest.approx(loss[key[2]])
        assert bound.item() == pytest.approx(expected[key])


# Of trained runs


def run_at(temperature, folder):
    """Write a run with random vectors and return its folder."""
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(n, 4)).astype(np.float32) for n in (60, 40)]
    values = {"recall@20": np.ones(1), "ndcg@20": np.ones(1)}
    metrics = {"dataset": "small", "loss": "mine", "recall@20": 1.0}
    metrics["settings"] = {"negatives": 7, "temperature": temperature, "score": "cosine"}
    write_run(folder, metrics, [{"epoch": 1}], np.zeros(1), values, vectors)
    return folder


@pytest.fixture
def run(tmp_path):
    return run_at(0.2, tmp_path)


def table_of(run, split, pairs=50):
    return pd.DataFrame(bounds.rows(run, split.train, pairs=pairs))


def test_random_vectors_show_the_claimed_pattern_and_only_that(run, small_split):
    table = table_of(run, small_split)
    keys = ["equation", "side", "inequality"]
    assert set(table[table["claimed"]][keys].itertuples(index=False, name=None)) == CLAIMED
    assert (table["pairs"] == 50).all() and (table["negatives"] == 7).all()
    assert (table["violated"] > 0).equals(table["smallest slack"] < 0)
    violated = table[table["violated"] > 0]
    assert set(violated[keys].itertuples(index=False, name=None)) == {
        (12, "upper", "bpr"),
        (13, "lower", "infonce"),
        (13, "lower", "mine"),
    }
    assert table["mean gap"].to_numpy() == pytest.approx(
        (table["mean loss"] - table["mean bound"]) * np.where(table["side"] == "upper", -1, 1)
    )


@pytest.mark.parametrize(("temperature", "above"), [(0.01, 50), (100.0, 0)])
def test_eq_12_is_the_tighter_at_widely_spread_scores_and_eq_11_near_equal_ones(
    tmp_path, small_split, temperature, above
):
    table = table_of(run_at(temperature, tmp_path), small_split)
    rivals = table[table["above Eq. 11"].notna()]
    assert rivals[["equation", "inequality"]].to_numpy().tolist() == [
        *([12, "infonce"], [12, "mine"], [13, "bpr"])
    ]
    assert abs(rivals["above Eq. 11"] - above).max() <= 2
    assert (summaries.bounds(table)["tighter"].dropna() == bool(above)).all()


def test_a_bound_that_is_wrong_is_violated(run, small_split, monkeypatch):
    right = bounds.BOUNDS[11, "lower"]["mine"]
    monkeypatch.setitem(bounds.BOUNDS[11, "lower"], "mine", lambda d: right(d) + 10)
    table = table_of(run, small_split)
    loose = table[table["equation"] == 11].set_index("inequality")["violated"]
    assert loose.to_dict() == {"infonce": 0, "mine": 50, "bpr": 0}
    obeyed = summaries.obeyed(table).set_index(["equation", "inequality"])
    assert obeyed.loc[(11, "mine"), "claimed"] and not obeyed.loc[(11, "mine"), "obeys"]
    html = tables.bounds_display(summaries.bounds(table)).to_html()
    assert html.count("font-weight: bold") == 1


def test_scores_do_not_depend_on_how_many_are_computed_at_a_time(run, small_split, monkeypatch):
    given = {"negatives": 7, "temperature": 0.2, "score": "cosine"}
    whole = bounds.sampled_pairs(run, given, small_split.train, 50, 0)
    monkeypatch.setattr(bounds, "CHUNK", 7)
    parts = bounds.sampled_pairs(run, given, small_split.train, 50, 0)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
        assert one.dtype == torch.float64


# What is made of the rows


def test_a_loss_obeys_an_equation_if_it_obeys_both_sides(run, small_split):
    table = table_of(run, small_split)
    both = pd.concat([table, table.assign(model="bpr"), table.assign(dataset="other")])
    obeyed = summaries.obeyed(both)
    assert obeyed["dataset"].value_counts().to_dict() == {"small": 9, "other": 9}
    assert (obeyed["obeys"] == obeyed["claimed"]).all()
    row = obeyed.set_index(["dataset", "equation", "inequality"]).loc[("small", 12, "bpr")]
    sides = table[(table["equation"] == 12) & (table["inequality"] == "bpr")]
    assert (row["models"], row["pairs"]) == (2, 100)
    assert row["violated"] == 2 * sides["violated"].sum() > 0


def test_the_figure_draws_every_mean_of_the_rows(run, small_split):
    table = table_of(run, small_split)
    figure = look.compose(comparisons.bounds(table))
    for axis, loss in zip(figure.axes[:3], LOSSES, strict=True):
        mine = table[table["inequality"] == loss].set_index(["equation", "side"])
        (bar,) = axis.patches
        drawn = {line.get_label(): line.get_xdata().item() for line in axis.lines}
        lower_13 = "Eq. 13, lower" if loss == "bpr" else "Eq. 13, lower (not claimed)"
        means = mine["mean bound"]
        assert drawn["Eq. 11, lower"] == means[11, "lower"]
        assert drawn[lower_13] == means[13, "lower"]
        assert drawn["loss"] == mine["mean loss"].iloc[0]
        assert (bar.get_x(), bar.get_x() + bar.get_width()) == pytest.approx(tuple(means[12]))
        assert (bar.get_facecolor()[:3] == to_rgb(look.PAPER)) == (loss == "bpr")
