"""Trials of one model: what is tried, what it may cost, which end early, what a kill loses."""

import itertools
import math

import optuna
import pytest
import torch
from test_train import FAST

from recloss import study
from recloss.checkpoint import Stopped
from recloss.data.interactions import Split
from recloss.experiment.schema import default_settings
from recloss.study import Budget, Study

CPU = torch.device("cpu")
RANGES = {
    "temperature": {"low": 0.05, "high": 1.0, "log": True},
    "lambda": {"low": 0.8, "high": 1.5},
}
LISTS = {"temperature": [0.05, 0.1, 0.3], "lambda": [1.0, 1.2]}


@pytest.fixture(scope="module")
def parts(small_split):
    """The small split, with a part of train as validation."""
    train = small_split.train
    held = torch.arange(len(train)).numpy() % 7 == 0
    return Split(train.select(~held), train.select(held), small_split.test)


def tried(
    parts,
    folder,
    over=RANGES,
    budget=None,
    model="mine_plus",
    seed=0,
    say=None,
    name="one",
    **changes,
):
    settings = (
        default_settings(model)
        | ({} if model in ("ease", "ials") else FAST | {"max_epochs": 9})
        | changes
    )
    budget = budget or Budget(None, 30 * steps_of(parts))
    found = Study(
        parts, model, settings, over, budget, seed, say or (lambda line: None), device=CPU
    )
    return found, (folder / "journal.log", name)


def steps_of(parts):
    return math.ceil(len(parts.train) / FAST["batch_size"])


def untimed(trials):
    return [
        (
            t.number,
            t.chosen,
            t.outcome,
            t.steps,
            [{k: v for k, v in r.items() if k != "seconds"} for r in t.curve],
        )
        for t in trials
    ]


def run(parts, folder, **changes):
    found, where = tried(parts, folder, **changes)
    return found.run(*where)


def test_the_untuned_settings_come_first_and_no_trial_begins_when_the_budget_is_used_up(
    parts, tmp_path
):
    trials = run(parts, tmp_path)
    assert trials[0].chosen == {"temperature": 0.1, "lambda": 1.1}
    assert trials[0].outcome == "completed"
    used = [trial.steps for trial in trials]
    assert sum(used[:-1]) < 30 * steps_of(parts) <= sum(used)
    assert [trial.number for trial in trials] == list(range(1, len(trials) + 1))
    for trial in trials:
        assert 0.05 <= trial.chosen["temperature"] <= 1 and 0.8 <= trial.chosen["lambda"] <= 1.5
        assert trial.steps == len(trial.curve) * steps_of(parts)  # evaluated every epoch


def test_a_trial_goes_on_only_if_it_is_among_the_best_at_a_rung(parts, tmp_path):
    trials = run(parts, tmp_path, budget=Budget(None, 60 * steps_of(parts)))
    assert {len(trial.curve) for trial in trials} == {1, 3, 9}
    for rung, longest in ((1, 3), (3, 9)):
        before = []
        for trial in trials:
            if len(trial.curve) < rung:
                continue
            value = trial.curve[rung - 1]["recall@20"]
            before.append(value)
            best = sorted(before, reverse=True)[: max(1, len(before) // 3)]
            assert (len(trial.curve) >= longest) == (value >= best[-1])
            expected = "completed" if len(trial.curve) == 9 else "stopped"
            assert trial.outcome == expected


def test_of_lists_every_combination_is_tried_once_in_random_order(parts, tmp_path):
    trials = run(parts, tmp_path, over=LISTS, budget=Budget(None, math.inf), max_epochs=1)
    # And what is not tuned, which is not among them.
    points = [(trial.chosen["temperature"], trial.chosen["lambda"]) for trial in trials]
    assert points[0] == (0.1, 1.1)
    assert sorted(points[1:]) == list(itertools.product(*LISTS.values()))
    assert points[1:] != sorted(points[1:])
    fewer = run(parts, tmp_path, over=LISTS, budget=Budget(3, math.inf), max_epochs=1, name="two")
    assert [trial.chosen for trial in fewer] == [trial.chosen for trial in trials[:3]]


def test_a_value_may_be_an_object(parts, tmp_path):
    over = {"prior": [{"rule": "more", "k": 1}, {"rule": "share", "alpha": 2}]}
    trials = run(parts, tmp_path, over=over, model="debiased_infonce", max_epochs=1)
    assert {str(trial.chosen["prior"]["rule"]) for trial in trials} == {"more", "share"}


def test_a_linear_model_is_tried_at_every_point_of_its_grid(parts, tmp_path):
    trials = run(
        parts, tmp_path, over={"reg": [1, 10]}, model="ease", budget=Budget(None, math.inf)
    )
    assert trials[0].chosen["reg"] == default_settings("ease")["reg"]
    assert {trial.chosen["reg"] for trial in trials} >= {1, 10}
    assert all(0 < trial.best("recall@20") <= 1 for trial in trials)


def test_a_killed_study_goes_on_after_its_last_trial_and_ends_the_same(parts, tmp_path):
    (tmp_path / "whole").mkdir()
    whole = run(parts, tmp_path / "whole")
    found, where = tried(
        parts, tmp_path, say=lambda line: line.startswith("trial 4: te") and kill()
    )

    def kill():
        raise KeyboardInterrupt  # the trial at work stays unfinished in the journal

    with pytest.raises(KeyboardInterrupt):
        found.run(*where)
    said = []
    resumed, where = tried(parts, tmp_path, say=said.append)
    trials = resumed.run(*where)
    assert said[0] == "resumed after 3 trials"
    assert untimed(trials) == untimed(whole)


@pytest.mark.parametrize(
    ("when", "where_on"),
    [("epoch 2/9", "from the start"), ("trial 1: completed", "after trial 1")],
)
def test_a_study_told_to_stop_does_soon_and_says_where_it_goes_on(parts, tmp_path, when, where_on):
    found, where = tried(parts, tmp_path, say=lambda line: line.startswith(when) and found.stop())
    with pytest.raises(Stopped, match=f"goes on {where_on}"):
        found.run(*where)
    again, where = tried(parts, tmp_path)
    assert [trial.number for trial in again.run(*where)][:2] == [1, 2]


def test_a_larger_budget_goes_on_with_the_trials_of_a_smaller(parts, tmp_path):
    few = run(parts, tmp_path, budget=Budget(2, math.inf))
    said = []
    more = run(parts, tmp_path, budget=Budget(4, math.inf), say=said.append)
    assert untimed(more[:2]) == untimed(few)
    assert len(more) == 4 and not any(line.startswith("trial 1") for line in said)


def test_a_journal_of_another_study_or_a_damaged_one_is_not_used(parts, tmp_path):
    budget, said = Budget(2, math.inf), []
    first = run(parts, tmp_path, budget=budget)
    run(parts, tmp_path, budget=budget, name="other", say=said.append)
    assert "is of another study" in said[0]
    (tmp_path / "journal.log").write_bytes(b"\0\1 no journal\n{")
    assert untimed(run(parts, tmp_path, budget=budget, say=said.append)) == untimed(first)


def test_a_trial_that_diverges_is_the_worst_and_the_study_goes_on(parts, tmp_path):
    over = {"learning_rate": [1e12]}
    trials = run(
        parts, tmp_path, over=over, model="mse", budget=Budget(None, math.inf), score="dot", l2=0
    )
    assert [trial.outcome for trial in trials] == ["completed", "diverged"]
    assert trials[1].best("recall@20") == -math.inf


def test_the_journal_is_optunas(parts, tmp_path):
    trials = run(parts, tmp_path, name="one")
    found = optuna.load_study(study_name="one", storage=study._storage(tmp_path / "journal.log"))
    assert len(found.trials) == len(trials)
    assert found.best_value == max(t.best("recall@20") for t in trials if t.outcome == "completed")
