"""Trials to tuned settings."""

import json

import pandas as pd
import pytest
import yaml
from conftest import REPO

from recloss.analysis import summaries
from recloss.experiment import config, tuning
from recloss.experiment.runs import every_run, settings_for, trial_runs
from recloss.files import ReclossError
from recloss.report import tables

PAPER = yaml.safe_load((REPO / "config.yaml").read_text())
TUNE = {"over": {"mine_plus": {"temperature": [0.1, 0.2, 0.3], "lambda": [1.0, 1.2]}}}


def trial(folder, name, values, settings, protocol="heldout"):
    """Write what a trial leaves behind: its metric on validation by epoch."""
    run = folder / name
    run.mkdir()
    record = {"dataset": "gowalla", "loss": "mine_plus", "protocol": protocol, "commit": "abc"}
    record |= {"settings": {"dim": 8} | settings, "hardware": "a computer"}
    record |= {"train_seconds": 2.0, "eval_seconds": 0.5}
    (run / "metrics.json").write_text(json.dumps(record))
    pd.DataFrame({"epoch": range(len(values)), "recall@20": values}).to_csv(run / "history.csv")
    return run


def test_the_best_trial_on_validation_wins_at_its_best_epoch(tmp_path):
    runs = [
        trial(tmp_path, "a", [0.1, 0.3, 0.2], {"temperature": 0.1}),
        trial(tmp_path, "b", [0.25, 0.26], {"temperature": 0.2}),
        trial(tmp_path, "c", [0.2], {"temperature": 0.3}),
    ]
    text = tuning.tuned_yaml(runs, "small")
    assert "--configfile FILE results/small/tuned.yaml" in text
    found = yaml.safe_load(text)["tuned"]
    entry = found["datasets"]["gowalla"]["mine_plus"]
    assert entry["settings"] == {"temperature": 0.1}
    assert (entry["best"], entry["median"], entry["worst"]) == (0.3, 0.26, 0.2)
    assert (entry["trials"], entry["seconds"]) == (3, 7.5)
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
    assert "temperature 0.1" in shown


def test_tuned_settings_reach_the_runs_of_losses_and_of_linear_models():
    found = {"mine_plus": {"settings": {"temperature": 0.3}}, "ease": {"settings": {"reg": 7}}}
    full = config.load(PAPER | {"tuned": {"datasets": {"gowalla": found}}})
    runs = {(r.dataset, r.loss): r.settings for r in every_run(full) if r.variant == "base"}
    assert runs["gowalla", "mine_plus"]["temperature"] == 0.3
    assert runs["gowalla", "ease"]["reg"] == 7
    assert runs["yelp2018", "ease"]["reg"] == 300


def test_a_trial_that_saw_the_test_set_is_refused(tmp_path):
    run = trial(tmp_path, "a", [0.1], {"temperature": 0.1}, protocol="published")
    with pytest.raises(ReclossError, match="protocol published; tune on heldout"):
        tuning.tuned([run])
    with pytest.raises(ReclossError, match="has no tune"):
        tuning.tuned_yaml([], "x")


def test_every_model_gets_as_many_trials_or_its_whole_grid():
    over = TUNE["over"] | {"ease": {"reg": [1, 10]}}
    full = config.load(PAPER | {"tune": {"trials": 4, "over": over, "settings": {"max_epochs": 3}}})
    trials = list(trial_runs(full))
    count = pd.Series([(run.dataset, run.loss) for run in trials]).value_counts()
    assert count["gowalla", "mine_plus"] == 4
    assert count["gowalla", "ease"] == 2
    assert {run.stage for run in trials} == {"heldout"}
    assert {run.settings.get("max_epochs") for run in trials} == {3, None}
    assert len({run.path for run in trials}) == len(trials)
    assert [run.path for run in trial_runs(full)] == [run.path for run in trials]
    assert not {run.path for run in trials} & {run.path for run in every_run(full)}


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ({"over": {"mine": {"lambda": [1]}}}, "tune.over.mine.lambda: mine has no such setting"),
        ({"over": {"slim": {"reg": [1]}}}, "tune.over: no loss 'slim'"),
        ({"datasets": ["x"]}, "tune.datasets: no data set 'x'"),
        ({"over": {"mine": {"temperature": [0]}}}, "tune.over.mine.temperature: 0 is less than"),
    ],
)
def test_faults_of_a_tuning_are_named(tune, message):
    with pytest.raises(ReclossError, match=message):
        config.load(PAPER | {"tune": tune})
