"""The configuration: completed, refused with a path, expanded into runs."""

import argparse
import copy
import json
import shlex
import warnings

import pytest
import yaml
from conftest import REPO, failure

from recloss.experiment import config
from recloss.experiment.flags import add_setting_flags, as_flags, settings_from_flags
from recloss.experiment.runs import (
    every_run,
    grid_runs,
    inflation_runs,
    main_runs,
    reproduction_runs,
    settings_for,
)
from recloss.experiment.schema import (
    check_setting,
    loss_names,
    loss_schema,
    resolved,
    schema,
    settings_schema,
)
from recloss.files import ReclossError
from recloss.losses import LOSSES, data_arguments, hyper_parameters

SHIPPED = ["config.yaml", *(f"config/{p.name}" for p in (REPO / "config").glob("*.yaml"))]
PAPER = yaml.safe_load((REPO / "config.yaml").read_text())


def changed(path, value):
    raw = copy.deepcopy(PAPER)
    node = raw
    for key in path[:-1]:
        node = node[key] if isinstance(key, int) else node.setdefault(key, {})
    node[path[-1]] = value
    return raw


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations_are_valid(name):
    raw = PAPER | yaml.safe_load((REPO / name).read_text())
    assert every_run(config.load(raw))


def test_a_completed_configuration_is_valid_and_stays_the_same():
    full = config.load(PAPER)
    assert config.load(full) == full


def test_numbers_given_as_text_are_numbers():
    # What YAML makes of 1e-4, and Snakemake of --config seeds=[0,1].
    raw = changed(("settings", "learning_rate"), "1e-4") | {"seeds": ["0", "1"]}
    raw["grids"][0]["over"]["eps"] = ["0", "0.5"]
    full = config.load(raw)
    assert full["settings"]["learning_rate"] == 1e-4
    assert full["seeds"] == [0, 1]
    assert full["grids"][0]["over"]["eps"] == [0, 0.5]


def test_a_bare_name_is_a_data_set():
    named = [{"name": "gowalla"}, {"name": "yelp2018"}]
    full = config.load(PAPER | {"datasets": ["gowalla", "yelp2018"]})
    assert full == config.load(PAPER | {"datasets": named})
    message = failure(config.load, PAPER | {"datasets": ["gowala"]})
    assert message.startswith("configuration: datasets[0].name: no published data set 'gowala'")


def test_an_experiment_without_any_model_is_refused():
    nothing = {"losses": [], "linear": [], "controls": []}
    assert "nothing to show" in failure(config.load, PAPER | nothing)


def test_equal_numbers_are_one_value_one_path_and_one_variant():
    settings = {"dim": 64.0, "batch_size": 1e3, "negatives": "64.0", "l2": 0.0}
    floats = PAPER | {"seeds": [1.0], "threads": 2.0, "settings": settings}
    floats["grids"] = [{"name": "g", "loss": "mine_plus", "over": {"lambda": [1.0, 1.5]}}]
    floats["grids"][0] |= {"settings": {"max_epochs": 3.0}}
    ints = copy.deepcopy(floats) | {"seeds": [1], "threads": 2}
    ints["settings"] = {"dim": 64, "batch_size": 1000, "negatives": 64, "l2": 0}
    ints["grids"][0] |= {"over": {"lambda": [1, 1.5]}, "settings": {"max_epochs": 3}}
    one, other = config.load(floats), config.load(ints)
    assert json.dumps(one) == json.dumps(other)
    assert "train/gowalla/mf/mine_plus/lambda1_max_epochs3/seed1" in [
        run.path for run in every_run(one)
    ]
    flags = as_flags({"dim": 64.0, "l2": 0.0})
    parser = argparse.ArgumentParser()
    add_setting_flags(parser)
    found = settings_from_flags(parser.parse_args(shlex.split(flags)), "mine_plus")
    assert json.dumps([found["dim"], found["l2"]]) == "[64, 0]"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), "nan", "NaN"])
@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("settings", "l2"), "settings.l2"),
        (("grids", 0, "over", "eps", 0), "grids[0].over.eps"),
        (("grids", 0, "settings", "l2"), "grids[0].settings.l2"),
    ],
)
def test_what_is_no_finite_number_is_refused_by_its_place(path, place, value):
    assert failure(config.load, changed(path, value)).startswith(f"configuration: {place}")


def test_what_is_loaded_is_left_as_it_was():
    raw = copy.deepcopy(PAPER)
    config.load(raw)
    assert raw == PAPER


def test_the_papers_experiments_on_absent_data_sets_are_left_out():
    raw = PAPER | {"datasets": [{"name": "own", "path": "x"}]}
    full = config.load(raw)
    assert [grid["name"] for grid in full["grids"]] == [
        "eps",
        "lambda",
        "lambda_eps",
        "temperature",
    ]
    assert not list(inflation_runs(full))


def test_seeds_of_single_models():
    full = config.load(PAPER | {"model_seeds": {"mine": [7, 8], "ials": [9]}})
    seeds = {(run.loss, run.seed) for run in main_runs(full)}
    assert {s for loss, s in seeds if loss == "mine"} == {7, 8}
    assert {s for loss, s in seeds if loss == "ials"} == {9}
    assert {s for loss, s in seeds if loss == "ccl"} == set(PAPER["seeds"])


def test_published_models_are_trained_with_their_settings_and_no_others():
    full = config.load(PAPER | {"settings": {"dim": 8, "dropout": 0.5}, "reproduce": REPRODUCED})
    first, second = reproduction_runs(full)
    assert first.path == "train/yelp2018/mf/ccl/MF-CCL/seed3"
    assert second.path == "train/gowalla/mf/ccl/MF-CCL/seed3"
    expected = {"dim": 64, "dropout": 0.1, "negatives": 800, "init_std": 1e-4, "max_epochs": 100}
    assert expected.items() <= second.settings.items()
    assert (first.settings["batch_size"], second.settings["batch_size"]) == (512, 256)
    assert {first, second} <= set(every_run(full))


REPRODUCED = {"names": ["MF-CCL"], "datasets": ["yelp2018", "gowalla"], "seeds": [3]}

REFUSED = [
    (("sedes",), 1, "sedes: unknown key; allowed: run, datasets, losses"),
    (("se\n",), 1, "'se\\n': unknown key; allowed: run, datasets, losses"),
    (("settings", "dims"), 3, "settings.dims: unknown key; allowed: dim, score"),
    (("settings", "score"), "cos", "settings.score: 'cos' is not allowed; allowed: cosine, dot"),
    (("settings", "dim"), 0, "settings.dim: 0 is less than the minimum of 1"),
    (("settings", "dim"), "1e-4", "settings.dim: 0.0001 is not of type 'integer'"),
    (("settings", "dim"), "wide", "settings.dim: 'wide' is not of type 'integer'"),
    (("settings", "dim"), None, "settings.dim: None is not of type 'integer'"),
    (("loss_settings", "ccl", "temperature"), 1, "loss_settings.ccl.temperature: unknown key"),
    (("loss_settings", "ccll"), {}, "loss_settings.ccll: unknown key; allowed: bpr, softmax"),
    (("losses",), ["mine", "cll"], "losses: no loss 'cll'; known: bpr, softmax"),
    (("seeds",), [], "seeds: [] should be non-empty"),
    (("linear",), ["slim"], "linear[0]: 'slim' is not allowed; allowed: ials, ease"),
    (("linear_settings", "ease", "alpha0"), 1, "linear_settings.ease.alpha0: unknown key; allowed"),
    (("grids", 0, "loss"), "slim", "grids[0].loss: no loss 'slim'; known: bpr, softmax"),
    (("seeds",), [0, 0], "seeds: [0, 0] has non-unique elements"),
    (("protocol",), "test", "protocol: 'test' is not allowed; allowed: published, heldout"),
    (
        ("datasets", 0, "name"),
        "a/b",
        "datasets[0].name: 'a/b' is no name; characters may be: letters",
    ),
    (("datasets", 0, "name"), "yelp2018", "datasets[0].name: 'yelp2018' is used twice"),
    (("datasets", 0, "name"), "mine", "no published data set 'mine' (known: amazon-book"),
    (("datasets", 0, "path"), "x", "'amazon-book' is a published data set; name your own"),
    (("datasets", 0, "columns"), {"user": 1}, "datasets[0].columns: is for data of your own"),
    (("datasets", 0, "validation"), "published", "no published validation set of 'amazon-book'"),
    (("datasets", 0, "rating"), {"at_least": 4}, "'amazon-book' has no ratings; leave it out"),
    (("datasets", 0, "name"), "coat", "coat has ratings; add rating: {at_least: 4}"),
    (("datasets", 0, "settings"), {"dimm": 1}, "datasets[0].settings.dimm: unknown key"),
    (("grids", 0, "loss"), "x", "grids[0].loss: no loss 'x'"),
    (("grids", 0, "over"), {"weight": [1]}, "grids[0].over.weight: infonce_plus has no such"),
    (("grids", 0, "over"), {"eps": [-1]}, "grids[0].over.eps: -1 is less than the minimum of 0"),
    (("grids", 0, "datasets"), ["x"], "grids[0].datasets: no data set 'x'; known: amazon"),
    (("grids", 0, "name"), "lambda", "grids[0].name: 'lambda' is used twice"),
    (("grids", 5, "loss"), ["infonce_plus", "mine"], "grids[5].over: several losses or backbones"),
    (("grids", 1, "loss"), ["mine_plus", "mine"], "over.lambda: mine has no such setting"),
    (("model_seeds",), {"slim": [1]}, "model_seeds: no loss 'slim'"),
    (("reproduce",), {"names": ["MF"]}, "reproduce.names: no model 'MF'; known: MF-CCL, BSL"),
    (("inflation", "losses"), ["ials"], "inflation.losses: no loss 'ials'"),
    (
        ("tuned",),
        {"datasets": {"a": {"ccl": {"settings": {"t": 1}}}}},
        "tuned.datasets.a.ccl.t: ccl",
    ),
    (("loss_settings", "mine_plus", "score"), "dot", "lambda 1.1 with score dot is unbounded"),
    (("run",), "a b", "run: 'a b' is no name; characters may be: letters"),
    (("run",), "ab\n", "run: 'ab\\n' is no name; characters may be: letters"),
    (
        ("ablations",),
        [{"name": "a\\b", "steps": []}],
        "ablations[0].name: 'a\\\\b' is no name; characters may be: any but line breaks",
    ),
    (("datasets", 0, "path"), "\ud800", "datasets[0].path: surrogates not allowed"),
    (("run",), "ab" * 150, "abab' is too long"),
    (
        ("datasets", 0, "name"),
        "-rf",
        "datasets[0].name: '-rf' is no name; characters may be: letters",
    ),
    (("seeds",), [2**32], "seeds[0]: 4294967296 is greater than the maximum of 4294967295"),
    (
        ("datasets", 0),
        {"name": "mine", "simulate": {"items": 60, "observed": 5}},
        "datasets[0].simulate: observed 5 is not between 0 and the 3 items that a user likes",
    ),
    (
        ("datasets", 0),
        {"name": "a" * 25, "simulate": {}},
        "ends in a twenty times, which no name may",
    ),
    (
        ("loss_settings", "debiased_ccl", "prior"),
        {"rule": "more", "alpha": 1},
        "loss_settings.debiased_ccl: prior: rule more takes k; it has alpha",
    ),
    (
        ("loss_settings", "debiased_ccl", "prior"),
        {"rule": "most"},
        "prior.rule: 'most' is not allowed; allowed: more, share, constant, truth",
    ),
]


@pytest.mark.parametrize(("path", "value", "message"), REFUSED, ids=lambda x: str(x)[:40])
def test_faults_are_refused_in_one_line_with_the_path(path, value, message):
    with pytest.raises(ReclossError) as refusal:
        config.load(changed(path, value))
    text = str(refusal.value)
    assert text.startswith("configuration: ")
    assert message in text
    assert "\n" not in text


def test_lambda_one_allows_inner_products_and_l2_does_with_a_warning():
    def load(**settings):
        own = [{"name": "own", "path": "x"}]  # without settings of its own
        raw = changed(("loss_settings", "mine_plus"), settings)
        config.load(raw | {"grids": [], "datasets": own})

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(score="dot", **{"lambda": 1.0})
    with pytest.warns(UserWarning, match=r"lambda 1.1 with score dot .* only a strong l2"):
        load(score="dot", l2=0.01)


def test_every_key_has_a_description_and_every_setting_a_default():
    def visit(node, path):
        for name, child in node.get("properties", {}).items():
            full = resolved(child)
            assert full.get("description"), f"{path}.{name}"
            visit(full, f"{path}.{name}")
            visit(full.get("items", {}), f"{path}.{name}[]")

    visit(schema(), "")
    for loss in loss_names():
        for name, node in (settings_schema() | loss_schema(loss)).items():
            check_setting(name, node, node["default"])


def test_schema_and_losses_agree():
    assert loss_names() == list(LOSSES)
    for loss in LOSSES:
        own = set(loss_schema(loss)) - {"temperature", "extra_positives", "correct_logq"}
        own -= {"prior", "estimator"}
        assert own == set(hyper_parameters(loss)) - {"temperature"}
        needs_extra = "extra" in data_arguments(loss)
        assert needs_extra == ("extra_positives" in loss_schema(loss))


def test_the_most_specific_setting_wins():
    raw = changed(("settings",), {"dim": 16, "negatives": 10, "dropout": 0.1})
    for dataset in raw["datasets"]:
        del dataset["loss_settings"]
    raw["datasets"][2] |= {
        "settings": {"negatives": 20, "dropout": 0.2},
        "loss_settings": {"mine_plus": {"lambda": 1.3}},
    }
    raw["loss_settings"] = {"mine_plus": {"lambda": 1.2, "temperature": 0.2, "dropout": 0.3}}
    full = config.load(raw)
    got = settings_for(full, "gowalla", "mine_plus")
    assert {key: got[key] for key in ("dim", "negatives", "dropout", "lambda", "temperature")} == {
        "dim": 16,
        "negatives": 20,
        "dropout": 0.3,
        "lambda": 1.3,
        "temperature": 0.2,
    }
    assert settings_for(full, "yelp2018", "mine_plus")["lambda"] == 1.2
    assert "lambda" not in settings_for(full, "gowalla", "ccl")


def test_the_paper_has_the_runs_that_its_counts_say():
    full = config.load(PAPER)
    main, runs = list(main_runs(full)), every_run(full)
    assert len(main) == 3 * (12 * 5 + 5 + 1)  # losses, iALS, EASE
    grids = {grid["name"]: grid for grid in full["grids"]}
    # 7 + 5 grid points a data set and seed, of which one each is the main table's own.
    plus = [run for name in ("eps", "lambda") for run in grid_runs(full, grids[name])]
    assert len(plus) == 3 * 3 * (7 + 5)
    assert len(set(plus) - set(main)) == 3 * 3 * (7 + 5 - 2)
    assert len({run.path for run in runs}) == len(runs)


def test_a_grid_point_equal_to_the_main_table_is_the_same_run():
    full = config.load(PAPER)
    points = {
        tuple(r.settings[k] for k in ("lambda", "eps")): r
        for r in grid_runs(full, next(g for g in full["grids"] if g["name"] == "lambda_eps"))
        if (r.dataset, r.seed) == ("gowalla", 0)
    }
    assert points[1.2, 0].path == "train/gowalla/mf/infonce_plus/base/seed0"
    assert points[1.0, 1].path == "train/gowalla/mf/infonce_plus/eps1_lambda1/seed0"


def test_a_prior_is_one_value_in_a_grid_in_a_path_and_in_flags():
    full = config.load(PAPER)
    grid = next(g for g in full["grids"] if g["name"] == "prior")
    runs = [run for run in grid_runs(full, grid) if run.loss == "debiased_ccl"]
    assert [run.variant for run in runs] == [
        *("priormore-k0", "priormore-k10", "base", "priorshare-alpha1")
    ]
    words = shlex.split(as_flags(runs[1].settings))
    assert words[words.index("--prior") + 1] == '{"rule": "more", "k": 10}'


@pytest.mark.parametrize("backbone", ["mf", "ngcf"])
def test_flags_give_back_the_settings(backbone):
    import argparse

    settings = settings_for(config.load(PAPER), "gowalla", "debiased_ccl", backbone)
    settings |= {"learning_rate": 3e-7, "prior": {"rule": "share", "alpha": 0.5}}
    parser = argparse.ArgumentParser()
    add_setting_flags(parser)
    given = parser.parse_args(shlex.split(as_flags(settings)))
    assert settings_from_flags(given, "debiased_ccl", backbone) == settings


def test_every_loss_is_trained_on_every_backbone_with_settings_of_its_own():
    raw = changed(("backbones",), ["mf", "lightgcn"]) | {"grids": [], "linear": ["ease"]}
    raw["datasets"] = [{"name": "gowalla"}]
    raw["datasets"][0]["backbone_settings"] = {
        "lightgcn": {"layers": 1, "loss_settings": {"mine_plus": {"lambda": 0.84}}}
    }
    raw["backbone_settings"] = {"lightgcn": {"learning_rate": 1.0e-3, "layers": 2}}
    raw["loss_settings"] = {"mine_plus": {"learning_rate": 1.0e-2}}
    runs = {(run.backbone, run.loss): run for run in main_runs(config.load(raw)) if not run.seed}
    assert set(runs) == {
        *((backbone, loss) for backbone in ("mf", "lightgcn") for loss in loss_names()),
        ("linear", "ease"),
    }
    mf, graph = (runs[backbone, "mine_plus"].settings for backbone in ("mf", "lightgcn"))
    assert (mf["learning_rate"], mf["lambda"], "layers" in mf) == (0.01, 1.1, False)
    assert (graph["learning_rate"], graph["lambda"], graph["layers"]) == (0.001, 0.84, 1)
    assert runs["lightgcn", "bpr"].path == "train/gowalla/lightgcn/bpr/base/seed0"


def test_a_grid_runs_on_the_backbones_it_names_else_on_the_first():
    raw = changed(("backbones",), ["lightgcn", "mf"])
    raw["grids"] = [
        {"name": "one", "loss": "bpr", "over": {"layers": [1, 3]}},
        {"name": "two", "loss": "bpr", "over": {"dim": [8]}, "backbones": ["mf", "ngcf"]},
    ]
    raw["grids"][1]["settings"] = {"max_epochs": 2}
    full = config.load(raw)
    of_grids = [{run.backbone for run in grid_runs(full, grid)} for grid in full["grids"]]
    assert of_grids == [{"lightgcn"}, {"mf", "ngcf"}]
    assert {run.variant for run in grid_runs(full, full["grids"][1])} == {"dim8_max_epochs2"}
    raw["grids"][0]["backbones"] = ["mf"]
    with pytest.raises(ReclossError, match=r"grids\[0\].over.layers: bpr has no such setting"):
        config.load(raw)
