"""Whatever the schema lets run, the report can show: experiments with made-up numbers, rendered."""

import contextlib
import io

import pandas as pd
import pytest
import simulated_runs
import yaml
from conftest import REPO

from recloss.__main__ import main
from recloss.analysis.advice import advise
from recloss.analysis.claims import judge
from recloss.analysis.results import Results, summary, summary_names, write_tables
from recloss.analysis.stats import summarise
from recloss.analysis.summaries import CUTOFFS, part_of, tidy
from recloss.analysis.verdicts import Evidence
from recloss.experiment import config as configuration
from recloss.experiment.runs import experiments, first_runs
from recloss.report import figures, look, page
from recloss.report.items import items, write

METRICS = ("recall@20", "ndcg@20")
SMALL = {"users": 20, "items": 40, "observed": 6, "prior": 0.3}
BASE = {
    "run": "small",
    "datasets": [{"name": "small", "simulate": SMALL}],
    "losses": ["mine_plus", "infonce"],
    "linear": ["ease"],
    "settings": {"dim": 4, "max_epochs": 2},
    "debiasing": {"c": [], "tau": []},
}


def rendered(raw, folder):
    """Return the report of an experiment with made-up numbers, made as the rules make it."""
    config = configuration.load(raw)
    results = folder / config["run"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        simulated_runs.fill(config, results, 10)
        for entry in config["datasets"]:
            judge_vectors(config, results, entry["name"])
    (results / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    for frame, name in zip(tidy(experiments(config), results), ("metrics", "history"), strict=True):
        frame.to_csv(results / f"{name}.csv", index=False)
    found, tables = Results(results, config), results / "tables"
    compared = part_of(found.metrics, "main", "control")
    evidence = Evidence(
        found.metrics, results, config, found.debiasing(), found.bounds(), found.shown()
    )
    write_tables(
        {
            tables / "main.csv": lambda: summarise(compared, results, CUTOFFS),
            tables / "advice.csv": lambda: advise(found.metrics, results, config),
            tables / "claims.csv": lambda: judge(evidence),
        },
        results / "seconds/models.json",
    )
    made = {tables / f"{n}.csv": lambda n=n: summary(found, n) for n in summary_names(config)}
    write_tables(made, results / "seconds/summaries.json")
    for name, item in items(config).items():
        write(Results(results), name, item)
    return page.render(results, REPO / "report")


def judge_vectors(config, results, name):
    """Make bounds.csv and truth.csv of a data set, as the rules do."""
    data = results / "data" / name
    split = data / config["protocol"] / "split.npz"
    first = [run for run in first_runs(config) if run.dataset == name]
    losses = [results / run.path for run in first if run.backbone != "linear"]
    common = ["--data", split, "--runs"]
    if losses:
        main(list(map(str, ["bounds", *common, *losses, "--out", data / "bounds.csv"])))
    manifest = ["--manifest", split.with_name("split.json"), "--truth", data / "raw/truth.npz"]
    every = [results / run.path for run in first]
    if every:
        main(list(map(str, ["truth", *manifest, *common, *every, "--out", data / "truth.csv"])))


def grid(loss="mine_plus", **over):
    return {"grids": [{"name": "g", "loss": loss, "over": over}]}


CASES = {
    "words": grid(score=["cosine", "dot"], loss="infonce"),
    "booleans": grid(exclude_positives=[True, False]),
    "words and booleans": grid(rank_by=["score", "inner_product"], exclude_positives=[True, False]),
    "priors": grid(
        prior=[{"rule": "truth"}, {"rule": "more", "k": 0}, {"rule": "constant", "tau": 0.01}],
        loss="debiased_ccl",
    ),
    "priors and numbers": grid(
        prior=[{"rule": "truth"}, {"rule": "more", "k": 3}], margin=[0.1, 0.5], loss="debiased_ccl"
    ),
    "one point": grid(temperature=[0.1]),
    "several models": grid(score=["cosine", "dot"], loss=["infonce", "mine", "bpr"]),
    "a linear model": grid(reg=[1, 2.5], loss="ease"),
    "losses alone": {"linear": []},
    "linear models alone": {"losses": []},
    "controls alone": {"losses": [], "linear": []},
    "one control": {"losses": [], "linear": [], "controls": ["random"]},
    "no controls": {"controls": []},
    "one model": {"losses": ["bpr"], "linear": [], "controls": []},
    "one linear model": {"losses": [], "linear": ["ease"], "controls": []},
    "three seeds": {"seeds": [0, 1, 2]},
    "held out": {"protocol": "heldout", "inflation": {"losses": ["infonce"]}},
    "two backbones": {"backbones": ["mf", "lightgcn"]},
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", CASES)
def test_each_kind_of_experiment_has_a_report(name, tmp_path):
    html = rendered(BASE | CASES[name], tmp_path)
    assert "</html>" in html and ">nan<" not in html


@pytest.mark.filterwarnings("error")
def test_a_model_of_one_test_user_has_a_bar_without_an_interval():
    ends = {f"{m} {end}": [float("nan")] for m in METRICS for end in ("low", "high")}
    row = {"dataset": ["d"], "backbone": ["mf"], "loss": ["bpr"], "recall@20": [0.5]}
    figure = look.compose(figures.main_bars(pd.DataFrame(row | {"ndcg@20": [0.4]} | ends)))
    figure.draw_without_rendering()
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.5000"]
