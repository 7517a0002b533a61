"""The advice on planted results: a clear winner, ties, popularity as good, too little to tell."""

import pytest
from test_claims import Experiment

from recloss.analysis import advice
from recloss.report import tables


def advise(experiment):
    """Return the advice on the experiment's one data set."""
    evidence = experiment.evidence()
    table = advice.advise(evidence.metrics, experiment.folder, experiment.config)
    assert list(table) == list(advice.COLUMNS)
    (row,) = table.to_dict("records")
    return row


@pytest.fixture
def experiment(tmp_path):
    """Popularity at 0.1, a random order at 0.9 (which no advice may name), and what tests add."""
    found = Experiment(tmp_path)
    for control, value in (("popularity", 0.1), ("random", 0.9)):
        found.run(control, value, seeds=1, experiments="control", backbone="control")
    return found


def test_a_clear_winner_is_sure(experiment):
    experiment.run("ccl", 0.3)
    experiment.run("mine_plus", 0.33)
    experiment.run("ease", 0.32, seeds=1, backbone="linear")
    row = advise(experiment)
    assert (row["loss"], row["next"], row["verdict"]) == ("mine_plus", "EASE", advice.SURE)
    assert row["effect"] == pytest.approx(0.33 / 0.32 - 1, abs=0.002)
    assert row["ci_low"] < row["effect"] < row["ci_high"]
    assert row["p_value"] < 1e-6
    assert (row["n_seeds"], row["n_users"], row["as_good"]) == (3, 300, "")
    assert row["sentence"] == (
        f"best is MINE+ with temperature t 0.1, λ 1.1: Recall@20 {row['value']:.4f}, +3.1% over "
        "EASE (95 % interval +3.0% to +3.2%, p below 0.001, 3 seeds, 300 users), +230% over "
        "ranking by popularity; sure, of 3 models."
    )


def test_those_that_do_not_differ_from_the_best_may_be_as_good(experiment):
    experiment.run("mine_plus", 0.3)
    experiment.run("infonce", 0.3)
    experiment.run("ials", 0.3, backbone="linear")
    experiment.run("bpr", 0.2)
    row = advise(experiment)
    assert row["verdict"] == advice.UNSURE
    others = {"MINE+", "InfoNCE", "iALS"} - {row["sentence"].split()[2].strip(":")}
    assert set(row["as_good"].split(" and ")) == others
    assert row["sentence"].endswith(f"; not sure: {row['as_good']} may be as good.")


@pytest.mark.parametrize(
    ("settings", "verdict", "models"),
    [
        ({}, advice.SURE, "of 2 models"),
        ({"infonce_plus": {"eps": 0.1}}, advice.UNSURE, "InfoNCE+ may be as good"),
        ({"infonce_plus": {"lambda": 1.2}}, advice.UNSURE, "InfoNCE+ may be as good"),
    ],
)
def test_infonce_plus_is_not_a_second_model_where_it_is_mine_plus(
    tmp_path, settings, verdict, models
):
    experiment = Experiment(tmp_path, loss_settings=settings)
    experiment.run("mine_plus", 0.3)
    experiment.run("infonce_plus", 0.3)
    experiment.run("bpr", 0.2)
    row = advise(experiment)
    assert (row["loss"], row["verdict"]) == ("mine_plus", verdict)
    assert models in row["sentence"]


def test_infonce_plus_without_mine_plus_is_a_model(experiment):
    experiment.run("infonce_plus", 0.3)
    experiment.run("bpr", 0.2)
    row = advise(experiment)
    assert (row["loss"], row["verdict"], row["next"]) == ("infonce_plus", advice.SURE, "BPR")


@pytest.mark.parametrize(
    ("value", "said"), [(0.05, "does better (0.1"), (0.1, "may be as good (0.1")]
)
def test_popularity_is_named_where_it_is_as_good_and_never_wins(experiment, value, said):
    experiment.run("mine_plus", value)
    experiment.run("bpr", 0.04)
    row = advise(experiment)
    assert (row["loss"], row["verdict"]) == ("mine_plus", advice.USELESS)
    assert f"; but ranking by popularity {said}" in row["sentence"]
    assert "sure" not in row["sentence"]


def test_a_model_alone_is_compared_with_popularity_only(experiment):
    experiment.run("mine_plus", 0.3)
    row = advise(experiment)
    assert (row["verdict"], row["as_good"]) == (advice.ALONE, "")
    assert "(3 seeds, 300 users), with no other model to compare, +200%" in row["sentence"]


@pytest.mark.parametrize(
    ("options", "missing"),
    [({"seeds": 1}, "a verdict takes 3 seeds"), ({"users": 50}, "a verdict takes 100 users")],
)
def test_one_seed_or_few_users_are_never_sure(tmp_path, options, missing):
    experiment = Experiment(tmp_path)
    experiment.run("mine_plus", 0.3, **options)
    experiment.run("bpr", 0.2, **options)
    row = advise(experiment)
    assert (row["verdict"], row["as_good"]) == (advice.UNSURE, "")
    assert row["sentence"].endswith(f"; not sure: {missing}.")


def test_models_without_a_common_seed_are_not_told_apart(experiment):
    experiment.run("mine_plus", 0.3, seeds=1)
    experiment.run("bpr", 0.2, seeds=2)
    experiment.rows = [row for row in experiment.rows if (row["loss"], row["seed"]) != ("bpr", 0)]
    row = advise(experiment)
    assert row["sentence"].endswith("; not sure: BPR may be as good.")
    assert "ahead of BPR (0." in row["sentence"] and "no seed in common" in row["sentence"]


def test_the_settings_are_the_models_own_and_the_tuned(tmp_path):
    found = {"settings": {"l2": 1e-9, "lambda": 1.1}}
    tuned = {"datasets": {"one": {"mine_plus": found, "ials": {"settings": {"dim": 64}}}}}
    settings = {"mine_plus": {"temperature": 0.2}}
    changes = {"loss_settings": settings, "settings": {"negatives": 64}, "tuned": tuned}
    config = Experiment(tmp_path, **changes).config
    found = advice.settings_of(config, "one", "mine_plus", "mf").split(", ")
    assert sorted(found) == ["L2 1e-09", "temperature t 0.2", "λ 1.1"]
    found = advice.settings_of(config, "one", "mine_plus", "lightgcn").split(", ")
    assert sorted(found) == ["layers 3", "temperature t 0.2", "λ 1.1"]
    assert "dimension D 64" in advice.settings_of(config, "one", "ials", "linear").split(", ")
    assert advice.settings_of(config, "one", "ease", "linear").endswith(" 200")
    assert advice.settings_of(config, "one", "bpr", "mf") == "temperature t 0.1"


def test_the_advice_is_shown_with_names_and_percent(experiment):
    experiment.run("mine_plus", 0.33)
    experiment.run("ease", 0.3, seeds=1, backbone="linear")
    evidence = experiment.evidence()
    table = advice.advise(evidence.metrics, experiment.folder, experiment.config)
    html = tables.readable(tables.advice_display(table)).to_html()
    for text in ("MINE+", "EASE", "Recall@20", f"{table['value'][0]:.4f}", "+10.0%", "sure"):
        assert text in html


def test_ahead_of_a_model_that_finds_nothing_no_ratio_is_said(experiment):
    experiment.run("ccl", 0.3)
    experiment.run("mine_plus", 0.0)
    row = advise(experiment)
    assert "users), ahead of MINE+ (0.0000), +200% over ranking by popularity" in row["sentence"]
    assert "nan" not in row["sentence"]
