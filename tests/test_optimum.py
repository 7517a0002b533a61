"""The optimum: the best value of a setting at every level of a cause, and what is told apart."""

import numpy as np
import pandas as pd
import pytest

from recloss.analysis.optimum import best_value, judged, least_difference, optimum_table
from recloss.experiment import config as configuration
from recloss.experiment.optimum import levels
from recloss.files import ReclossError
from recloss.report.figures import optimum_panels

VALUES = [0.8, 1, 1.2]
SMALL = {"users": 20, "items": 40, "observed": 6, "prior": 0.3}


def configured(**changes):
    """An experiment with an optimum over two data sets, two grids and two temperatures."""
    over = {"lambda": VALUES, "temperature": [0.1, 0.2]}
    raw = {
        "run": "small",
        "datasets": [
            {"name": "a", "simulate": SMALL | {"test": "uniform"}},
            {"name": "b", "simulate": SMALL},
        ],
        "losses": ["mine_plus"],
        "linear": [],
        "protocol": "heldout",
        "loss_settings": {"mine_plus": {"lambda": 1}},
        "grids": [
            {"name": "base", "loss": "mine_plus", "over": over, "seeds": [0, 1]},
            {"name": "wide", "loss": "mine_plus", "over": over, "datasets": ["a"], "seeds": [0, 1],
             "settings": {"dim": 128}},
        ],
        "optimum": {
            "over": "lambda",
            "causes": [
                {"name": "data", "datasets": {"a": 0, "b": 0.5}},
                {"name": "dimension", "grids": {"base": 64, "wide": "wide"}},
                {"name": "temperature", "setting": "temperature"},
            ],
        },
    }  # fmt: skip
    return configuration.load(raw | changes)


def runs_of(values, temperatures=(0.1,), seeds=2):
    """Runs of a grid: values[temperature][seed, point]."""
    return pd.DataFrame(
        {"seed": seed, "settings.lambda": VALUES[point], "settings.temperature": t,
         "recall@20": values[place][seed, point]}
        for place, t in enumerate(temperatures)
        for seed in range(seeds)
        for point in range(len(VALUES))
    )  # fmt: skip


def test_the_least_difference_is_that_of_a_randomised_block_design():
    values = np.array([[0.1, 0.2, 0.4], [0.2, 0.3, 0.4]])
    rest = (
        np.array([-1, -1, 2]) / 60
    )  # without seed and point, of the first; opposite of the second
    variance = 2 * np.square(rest).sum() / 2
    assert least_difference(values) == pytest.approx(4.302653 * np.sqrt(variance))
    # What all points gain from a seed is no difference between points.
    assert least_difference(np.add(values, [[0], [5]])) == pytest.approx(least_difference(values))
    assert np.isnan(least_difference(values[:1]))


def test_the_best_value_has_the_interval_of_those_not_told_apart_from_it():
    # Residuals of .001: the least difference is 4.3 * sqrt(2 * 6e-6 / 2 / 2) = .0075.
    noise = np.array([[0.001, -0.002, 0.001], [-0.001, 0.002, -0.001]])
    found = best_value(
        runs_of([np.array([0.3, 0.306, 0.2]) + noise]), "lambda", ["lambda", "temperature"], 1.2
    )
    assert (found["best"], found["low"], found["high"]) == (1, 0.8, 1)
    assert found["gain"] == pytest.approx(0.306 / 0.2 - 1)
    assert found["seeds"] == 2 and found["recall@20"] == pytest.approx(0.306)


def test_every_value_stands_at_its_own_best_other_setting():
    exact = [np.tile(row, (2, 1)) for row in ([0.1, 0.3, 0.2], [0.4, 0.2, 0.1])]
    found = best_value(runs_of(exact, (0.1, 0.5)), "lambda", ["temperature", "lambda"], 1)
    assert (found["best"], found["temperature at best"]) == (0.8, 0.5)
    assert found["gain"] == pytest.approx(0.4 / 0.3 - 1)
    single = best_value(runs_of(exact, (0.1, 0.5), seeds=1), "lambda", ["lambda", "temperature"], 1)
    assert np.isnan(single["low"]) and np.isnan(single["high"])


def test_under_heldout_runs_are_judged_by_validation_too_at_the_epoch_picked():
    run = {"dataset": "a", "backbone": "mf", "loss": "mine_plus", "variant": "base", "seed": 0}
    metrics = pd.DataFrame([run | {"protocol": "heldout", "best_epoch": 2, "recall@20": 0.1}])
    history = pd.DataFrame([run | {"epoch": e, "recall@20": e / 10} for e in (1, 2, 3)])
    found = judged(metrics, history)
    assert list(found) == ["validation", "test"]
    assert found["validation"]["recall@20"].item() == 0.2
    assert found["test"]["recall@20"].item() == 0.1
    assert list(judged(metrics.assign(protocol="published"), history)) == ["test"]


def test_a_level_is_a_data_set_a_grid_or_a_value_of_the_other_setting():
    found = [(x.cause, x.value, x.dataset, x.grid["name"], x.fixed) for x in levels(configured())]
    assert found == [
        ("data", 0, "a", "base", {}),
        ("data", 0.5, "b", "base", {}),
        ("dimension", 64, "a", "base", {}),
        ("dimension", "wide", "a", "wide", {}),
        ("temperature", 0.1, "a", "base", {"temperature": 0.1}),
        ("temperature", 0.2, "a", "base", {"temperature": 0.2}),
    ]


def test_a_uniform_test_set_of_simulated_data_is_the_truth_and_each_judge_has_its_best():
    config = configured()
    run = {"backbone": "mf", "loss": "mine_plus", "protocol": "heldout", "best_epoch": 1}
    rows = [
        run | {"dataset": dataset, "seed": seed, "variant": f"{grid}{x}{t}",
               "experiments": f"grid:{grid}", "settings.lambda": x, "settings.temperature": t,
               "recall@20": x * (1 + t)}
        for dataset, grid in (("a", "base"), ("b", "base"), ("a", "wide"))
        for x in VALUES for t in (0.1, 0.2) for seed in (0, 1)
    ]  # fmt: skip
    metrics = pd.DataFrame(rows)
    history = metrics.assign(epoch=1, **{"recall@20": 1 / metrics["recall@20"]})
    table = optimum_table(metrics, history, config)
    assert len(table) == 12
    assert table[table["cause"] == "data"]["judged by"].to_list() == [
        *("validation", "truth"),
        *("validation", "test"),
    ]
    for judge, best, at in (("validation", 0.8, 0.1), ("truth", 1.2, 0.2)):
        mine = table[table["judged by"] == judge]
        assert (mine["best"] == best).all()
        others = mine[mine["cause"] != "temperature"]
        assert (others["temperature at best"] == at).all()
    assert [panel.title for panel in optimum_panels(table)] == ["data", "dimension", "temperature"]


@pytest.mark.parametrize(
    ("cause", "fault"),
    [
        ({"grids": {"other": 1}}, "no grid 'other'; known: base, wide"),
        ({"datasets": {"a": 1}, "grid": "other"}, "no grid 'other'; known: base, wide"),
        ({"setting": "dim"}, "setting: not varied beside lambda; known: temperature"),
        ({"datasets": {"c": 1}}, "grid base is not run on c; add it there"),
        ({"datasets": {"b": 1}, "grid": "wide"}, "grid wide is not run on b; add it there"),
    ],
)
def test_an_optimum_over_what_is_not_run_is_refused(cause, fault):
    with pytest.raises(ReclossError, match="configuration: optimum") as error:
        configured(optimum={"over": "lambda", "causes": [{"name": "it"} | cause]})
    assert fault in str(error.value)


def test_an_optimum_over_what_has_no_order_is_refused():
    causes = [{"name": "it", "grids": {"base": 1}}]
    with pytest.raises(ReclossError, match="grid base has no numbers of dim; vary it there"):
        configured(optimum={"over": "dim", "causes": causes})
    with pytest.raises(ReclossError, match="optimum: there are no grids"):
        configured(grids=[], optimum={"over": "dim", "causes": causes})
