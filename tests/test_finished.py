"""What of an experiment has finished, and can be shown."""

import pytest

from recloss.experiment import config as configuration
from recloss.experiment.finished import files_of, finished, so_far, wanted
from recloss.experiment.runs import experiments
from recloss.files import write_json

SMALL = {"simulate": {"users": 20, "items": 60, "observed": 2}}
STEPS = [{"name": "from", "loss": "infonce"}, {"name": "to", "loss": "mine"}]


@pytest.fixture(scope="module")
def asked():
    return configuration.load(
        {
            "run": "small",
            "datasets": [{"name": name} | SMALL for name in "ab"],
            "losses": ["infonce", "mine"],
            "linear": ["ease"],
            "seeds": [0, 1],
            "controls": [],
            "grids": [
                {
                    "name": "t",
                    "loss": ["infonce", "mine"],
                    "over": {"temperature": [0.1, 0.5]},
                    "seeds": [0, 1],
                }
            ],
            "ablations": [{"name": "steps", "steps": STEPS, "seeds": [0, 1]}],
        }
    )


def test_all_that_has_finished_is_the_whole_experiment(asked):
    every = experiments(asked)
    assert experiments(asked, set(every)) == every
    assert so_far(asked, every, ["a", "b"], ["a"]) == asked


def test_a_seed_of_a_grid_or_an_ablation_counts_with_all_of_its_points(asked):
    late = {"train/a/mf/infonce/temperature0.5/seed1", "train/a/mf/mine/base/seed1"}
    late |= {"train/b/mf/mine/temperature0.5/seed0", "train/b/mf/mine/temperature0.5/seed1"}
    member = experiments(asked, set(experiments(asked)) - late)
    of_grid = {path[len("train/") :] for path in member if "grid:t" in member[path]}
    assert of_grid == {
        f"{run}/{variant}/seed{seed}"
        for run, seeds in (("a/mf/infonce", [0]), ("a/mf/mine", [0]), ("b/mf/infonce", [0, 1]))
        for variant in ("base", "temperature0.5")
        for seed in seeds
    }
    of_steps = {path for path in member if "ablations" in member[path]}
    assert sorted({path.split("/")[1] + path[-1] for path in of_steps}) == ["a0", "b0", "b1"]
    [grid] = so_far(asked, member, [], [])["grids"]
    assert (grid["datasets"], grid["loss"], grid["seeds"]) == (
        ["a", "b"],
        ["infonce", "mine"],
        [0, 1],
    )


def test_what_has_no_model_yet_is_left_out(asked):
    done = {path for path in experiments(asked) if "/b/" not in path and "/ease/" not in path}
    done.add("train/b/mf/mine/base/seed1")  # not the seed whose vectors are judged
    found = so_far(asked, experiments(asked, done), [], [])
    assert [entry["name"] for entry in found["datasets"]] == ["a"]
    assert [entry["datasets"] for entry in (*found["grids"], *found["ablations"])] == [["a"], ["a"]]
    assert (found["losses"], found["linear"]) == (["infonce", "mine"], [])
    assert found["debiasing"]["c"] == found["debiasing"]["tau"] == []
    assert not found["bounds"]
    assert experiments(asked, set()) == {}


@pytest.mark.parametrize("path", ["train/a/mf/mine/base/seed0", "data/a"])
@pytest.mark.parametrize("key", ["settings", "code_hash", "data_hash"])
def test_what_has_finished_is_what_is_wanted(asked, tmp_path, path, key):
    runs = wanted(asked)
    *others, name = files_of(path)
    record = {name: runs[path][name] for name in ("settings", "code_hash")} | {"data_hash": "d"}
    write_json(tmp_path / path / name, record)
    for other in others:
        (tmp_path / path / other).touch()
    assert finished(runs, tmp_path) == set()  # of which data is not known
    write_json(tmp_path / "data/a/published/split.json", {"data_hash": "d"})
    assert finished(runs, tmp_path) == {path}
    write_json(tmp_path / path / name, record | {key: "another"})
    assert finished(runs, tmp_path) == set()
    write_json(tmp_path / path / name, record)
    (tmp_path / path / others[0]).unlink()
    assert finished(runs, tmp_path) == set()


def test_certificates_are_wanted_of_linear_models_and_their_settings(asked):
    data = {path for path in wanted(asked) if path.startswith("data/")}
    assert data == {"data/a", "data/b"}
    settings = wanted(asked)["data/a"]["settings"]
    assert settings == {"ease": {"reg": settings["ease"]["reg"]}} | asked["debiasing"]
    without = wanted(asked | {"linear": []})
    assert not {path for path in without if path.startswith("data/")}
