"""Trials to tuned settings."""

import pytest
import yaml
from conftest import REPO

from recloss.__main__ import main
from recloss.analysis import summaries
from recloss.experiment import config, tuning
from recloss.experiment.runs import every_run, settings_for, studies
from recloss.files import ReclossError
from recloss.report import tables
from recloss.study import Trial

PAPER = yaml.safe_load((REPO / "config.yaml").read_text())
TUNE = {"over": {"mine_plus": {"temperature": [0.1, 0.2, 0.3], "lambda": [1.0, 1.2]}}}


IDENTITY = {"dataset": "gowalla", "backbone": "mf", "loss": "mine_plus"}


def trial(number, values, chosen, outcome="completed"):
    """Return a trial of these values on validation, an epoch each."""
    curve = [{"epoch": n + 1, "recall@20": value} for n, value in enumerate(values)]
    return Trial(number, chosen, outcome, 10 * len(values), 2.5, curve)


def write(folder, trials):
    """Write what a study leaves behind; return the path of its study.json."""
    found = tuning.summary(IDENTITY, trials, "recall@20", 50)
    tuning.write(folder, found | {"commit": "abc", "hardware": "a computer"}, trials)
    return folder / "study.json"


def test_the_best_trial_on_validation_wins_at_its_best_epoch(tmp_path):
    trials = [
        trial(1, [0.2], {"temperature": 0.3}),
        trial(2, [0.1, 0.3, 0.2], {"temperature": 0.1}),
        trial(3, [0.25, 0.26], {"temperature": 0.2}, "stopped"),
        trial(4, [], {"temperature": 0.01}, "diverged"),
    ]
    path = write(tmp_path, trials)
    text = tuning.tuned_yaml([path], "small")
    assert "--configfile FILE results/small/tuned.yaml" in text
    found = yaml.safe_load(text)["tuned"]
    assert found["datasets"]["gowalla"]["mine_plus"] == {
        "settings": {"temperature": 0.1},
        "trials": 4,
        "completed": 2,
        "budget": 50,
        "steps": 60,
        "untuned": 0.2,
        "best": 0.3,
        "median": 0.26,
        "worst": 0.2,
        "seconds": 10.0,
    }
    assert found["provenance"] == {
        "experiment": "small",
        "protocol": "heldout",
        "commit": "abc",
        "hardware": "a computer",
        "metric": "recall@20",
    }
    full = config.load(PAPER | yaml.safe_load(text))
    assert settings_for(full, "gowalla", "mine_plus")["temperature"] == 0.1
    assert settings_for(full, "yelp2018", "mine_plus")["temperature"] == 0.1
    shown = tables.tuning_display(summaries.tuning(full["tuned"]["datasets"])).to_html()
    assert "temperature 0.1" in shown and "+50.0%" in shown
    said = summaries.budget(full["tuned"]["datasets"])
    assert said.startswith(
        "Every loss had as many training steps to begin trials in: 50 on Gowalla. "
    )


def test_settings_that_diverged_are_not_chosen(tmp_path):
    trials = [
        trial(1, [0.1], {"learning_rate": 0.001}),
        trial(2, [0.12], {"learning_rate": 1.0}, "diverged"),
    ]
    found = tuning.summary(IDENTITY, trials, "recall@20", 50)
    assert (found["chosen"], found["best"]) == ({"learning_rate": 0.001}, 0.1)
    with pytest.raises(ReclossError, match="no trial came to an evaluation"):
        tuning.summary(IDENTITY, trials[1:], "recall@20", 50)


def test_every_trial_has_its_curve_in_a_table(tmp_path):
    trials = [
        trial(1, [0.1, 0.2], {"temperature": 0.3}),
        trial(2, [], {"temperature": 0.01}, "diverged"),
    ]
    table = tuning.trials_csv([write(tmp_path, trials)])
    assert list(table["trial"]) == [1, 1, 2]
    assert list(table["outcome"]) == ["completed", "completed", "diverged"]
    assert list(table["settings.temperature"]) == [0.3, 0.3, 0.01]
    assert list(table["recall@20"][:2]) == [0.1, 0.2] and table["recall@20"].isna()[2]


def test_a_study_without_an_evaluation_or_of_nothing_is_named(tmp_path):
    with pytest.raises(ReclossError, match=r"no trial came to an evaluation; change tune.over"):
        write(tmp_path, [trial(1, [], {"temperature": 0.01}, "diverged")])
    with pytest.raises(ReclossError, match="has no tune"):
        tuning.tuned_yaml([], "x")


def test_tuned_settings_reach_the_runs_of_losses_and_of_linear_models():
    found = {"mine_plus": {"settings": {"temperature": 0.3}}, "ease": {"settings": {"reg": 7}}}
    full = config.load(PAPER | {"tuned": {"datasets": {"gowalla": found}}})
    runs = {(r.dataset, r.loss): r.settings for r in every_run(full) if r.variant == "base"}
    assert runs["gowalla", "mine_plus"]["temperature"] == 0.3
    assert runs["gowalla", "ease"]["reg"] == 7
    assert runs["yelp2018", "ease"]["reg"] == 300


def test_every_loss_has_the_same_budget_and_a_linear_model_its_grid():
    over = TUNE["over"] | {"ease": {"reg": [1, 10]}, "bpr": {"temperature": [0.1, 0.2]}}
    settings = {"max_epochs": 3}
    full = config.load(PAPER | {"tune": {"budget": 5, "over": over, "settings": settings}})
    found = {(s.dataset, s.model): s for s in studies(full)}
    assert len(found) == len(full["datasets"]) * len(over)
    of_losses = [s for s in found.values() if s.backbone == "mf"]
    assert {(s.epochs, s.batch_size) for s in of_losses} == {(15, 512)}
    assert {s.settings["max_epochs"] for s in of_losses} == {3}
    ease = found["gowalla", "ease"]
    assert ease.epochs is None and "max_epochs" not in ease.settings
    assert len({s.path for s in found.values()}) == len(found)


def test_what_was_tuned_before_does_not_count_as_untuned():
    before = {"datasets": {"gowalla": {"mine_plus": {"settings": {"temperature": 0.3}}}}}
    full = config.load(PAPER | {"tune": TUNE, "tuned": before})
    found = next(s for s in studies(full) if s.dataset == "gowalla")
    assert found.settings["temperature"] == 0.1


def test_tuning_is_only_for_a_validation_set(tmp_path):
    manifest = tmp_path / "split.json"
    manifest.write_text('{"protocol": "published", "dataset": "x"}')
    command = ["tune", "--data", "x", "--manifest", str(manifest), "--model", "bpr"]
    command += ["--out", str(tmp_path), "--settings", "{}", "--over", "{}"]
    with pytest.raises(SystemExit, match="of protocol published; tune on heldout"):
        main(command)


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ({"over": {"mine": {"lambda": [1]}}}, "tune.over.mine.lambda: mine has no such setting"),
        ({"over": {"slim": {"reg": [1]}}}, "tune.over: no loss 'slim'"),
        ({"datasets": ["x"]}, "tune.datasets: no data set 'x'"),
        ({"over": {"mine": {"temperature": [0]}}}, "tune.over.mine.temperature: 0 is less than"),
        (
            {"over": {"mine": {"temperature": {"low": 0, "high": 1}}}},
            "tune.over.mine.temperature: 0 is less than",
        ),
        (
            {"over": {"mine": {"temperature": {"low": 1, "high": 0.5}}}},
            "tune.over.mine.temperature: low is not below high; exchange them",
        ),
        (
            {"over": {"mine": {"l2": {"low": 0, "high": 1, "log": True}}}},
            "tune.over.mine.l2: a logarithmic scale has no 0; raise low above 0",
        ),
        ({"over": {"mine": {"l2": {"low": 0}}}}, "tune.over.mine.l2: 'high' is a required"),
        (
            {"over": {"mine": {"schedule": {"low": 0, "high": 1}}}},
            "tune.over.mine.schedule: 0 is",
        ),
        (
            {"over": {"ease": {"reg": {"low": 1, "high": 9}}}},
            "tune.over.ease.reg: a linear model is tried by its grid; give a list",
        ),
    ],
)
def test_faults_of_a_tuning_are_named(tune, message):
    with pytest.raises(ReclossError, match=message):
        config.load(PAPER | {"tune": tune})
