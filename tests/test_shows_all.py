"""Whatever the schema lets run, the report can show: experiments with made-up numbers, rendered."""

import contextlib
import io
import math
import os
import re
import tempfile
from pathlib import Path

import html5lib
import pandas as pd
import pytest
import simulated_runs
import yaml
from conftest import REPO
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from recloss.__main__ import main
from recloss.analysis.advice import advise
from recloss.analysis.claims import judge
from recloss.analysis.results import Results, summary, summary_names, write_tables
from recloss.analysis.stats import summarise
from recloss.analysis.summaries import CUTOFFS, part_of, tidy
from recloss.analysis.verdicts import Evidence
from recloss.experiment import config as configuration
from recloss.experiment.runs import experiments, first_runs
from recloss.experiment.schema import backbone_names, loss_names, model_schema
from recloss.files import ReclossError
from recloss.report import figures, look, page
from recloss.report.items import items, write

HTML = "{http://www.w3.org/1999/xhtml}"
EXAMPLES = int(os.environ.get("RECLOSS_EXAMPLES", 4))  # of experiments drawn from the schema
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


def rendered(raw, folder, done=None):
    """Return the report of an experiment with made-up numbers, made as the rules make it.

    done: the runs that have finished, a set of paths; without it all. None if that is too little.
    """
    asked = configuration.load(raw)
    results, member = folder / asked["run"], experiments(asked, done)
    if not member and done is not None:
        return None
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        simulated_runs.fill(asked, results, 10)
        for entry in asked["datasets"]:
            judge_vectors(asked, results, entry["name"], member)
    (results / "config.yaml").write_text(yaml.safe_dump(asked, sort_keys=False))
    for frame, name in zip(tidy(member, results), ("metrics", "history"), strict=True):
        frame.to_csv(results / f"{name}.csv", index=False)
    found, tables = Results(results, asked), results / "tables"
    config, compared = found.config, part_of(found.metrics, "main", "control")
    assert done is not None or config == asked
    assert experiments(asked, found.metrics["path"].to_list()) == member
    evidence = Evidence(
        found.metrics, results, config, found.debiasing(), found.bounds(), found.shown()
    )
    write_tables(
        {
            tables / "main.csv": lambda: summarise(compared, results, CUTOFFS, 0.05),
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


def check(html):
    """Refuse a page that is cut, or shows as a value what is none."""
    assert "</html>" in html
    text = re.sub("<(script|style).*?</\\1>", "", html, flags=re.S)
    assert not re.search(r">[^<]*\b(?:nan|None)\b", text)


def judge_vectors(config, results, name, member):
    """Make bounds.csv and truth.csv of a data set, as the rules do, from runs among `member`."""
    data = results / "data" / name
    split = data / config["protocol"] / "split.npz"
    first = [run for run in first_runs(config) if run.dataset == name and run.path in member]
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
    "an optimum": grid(temperature=[0.1, 1])
    | {
        "optimum": {"over": "temperature", "causes": [{"name": "none", "datasets": {"small": "x"}}]}
    },
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", CASES)
def test_each_kind_of_experiment_has_a_report(name, tmp_path):
    check(rendered(BASE | CASES[name], tmp_path))


def test_what_a_user_writes_is_text_in_the_page_and_its_tables(tmp_path):
    name = "<img src=x onerror=alert(1)>&amp;\"'λ 100% #1_a"
    steps = [{"name": name, "loss": loss} for loss in ("infonce", "mine_plus")]
    steps[1]["name"] += "<script>"
    raw = BASE | {"ablations": [{"name": name, "steps": steps}]}
    html = rendered(raw, tmp_path)
    table = tmp_path / "small/tables/ablations.html"
    for text, scripts in ((html, 2), (table.read_text(), 0)):
        tree = html5lib.parse(text)
        assert not [*tree.iter(f"{HTML}img")] and len([*tree.iter(f"{HTML}script")]) == scripts
        assert {name, f"{name}<script>"} <= {cell.text for cell in tree.iter(f"{HTML}td")}
    latex = table.with_suffix(".tex").read_text()
    assert r"""<img src=x onerror=alert(1)>\&amp;"'$\lambda$ 100\% \#1\_a &""" in latex


def values_of(node):
    """Values of a setting that its schema allows."""
    if "enum" in node:
        return st.sampled_from(node["enum"])
    if node["type"] == "boolean":
        return st.booleans()
    if node["type"] == "object":
        return st.sampled_from([{"rule": "truth"}, {"rule": "more", "k": 2}])
    low = node.get("minimum", node.get("exclusiveMinimum", 0)) + 1e-3
    high = min(node.get("maximum", 9), node.get("exclusiveMaximum", 9) - 1e-3)
    if node["type"] == "integer":
        return st.integers(math.floor(low), 9)
    return st.floats(low, high).map(lambda x: round(x, 3))


def several(strategy, least=0, most=2):
    return st.lists(strategy, min_size=least, max_size=most, unique_by=str)


@st.composite
def settings_of(draw, model, backbone, least=1, most=2):
    """By name of a setting of a model, several values."""
    nodes = model_schema(model, backbone)
    names = draw(several(st.sampled_from(sorted(nodes)), least, most))
    return {name: draw(several(values_of(nodes[name]), 1, 3)) for name in names}


@st.composite
def experiments_of(draw):
    """Any experiment that the schema has words for, on one small simulated data set or two."""
    some = st.sampled_from
    losses, linear = (
        draw(several(some(loss_names()), most=3)),
        draw(several(some(["ials", "ease"]))),
    )
    raw = {
        "run": "any",
        "datasets": [{"name": name, "simulate": SMALL} for name in draw(several(some("ab"), 1))],
        "losses": losses,
        "linear": linear,
        "controls": draw(several(some(["popularity", "random"]))),
        "backbones": draw(several(some(backbone_names()), 1)),
        "seeds": draw(several(st.integers(0, 9), 1)),
        "protocol": draw(some(["published", "heldout"])),
        "debiasing": {"c": [], "tau": []},
        "claims": {"min_seeds": draw(st.integers(1, 3)), "min_users": draw(st.integers(2, 30))},
    }
    first = raw["backbones"][0]
    for number in range(draw(st.integers(0, 2))):
        model = draw(some([*loss_names(), "ials", "ease"]))
        over = draw(settings_of(model, first))
        entry = {"name": f"g{number}", "loss": model, "over": over}
        raw.setdefault("grids", []).append(entry)
    if draw(st.booleans()):
        steps = [{"name": f"{i} {loss}", "loss": loss} for i, loss in enumerate([*losses, "mine"])]
        raw["ablations"] = [{"name": "a", "steps": [*steps, {"name": "last", "loss": "bpr"}]}]
    if draw(st.booleans()):
        given = draw(settings_of("mine_plus", first, 1, 1))
        read_as = {f"r{i}": {k: v} for k, vs in given.items() for i, v in enumerate(vs)}
        raw["readings"] = [{"loss": "mine_plus", "read_as": read_as}]
    raw["inflation"] = {"losses": draw(several(some(loss_names())))}
    return raw


WHATEVER = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink one takes minutes
)


@pytest.mark.filterwarnings("error", "ignore:.*is unbounded")
@WHATEVER
@given(experiments_of())
def test_whatever_the_schema_lets_run_the_report_can_show(raw):
    with tempfile.TemporaryDirectory() as folder:
        try:
            html = rendered(raw, Path(folder))
        except ReclossError as error:
            assert str(error).startswith("configuration: ")  # refused before any job
            return
    check(html)


@pytest.mark.filterwarnings("error", "ignore:.*is unbounded")
@WHATEVER
@given(experiments_of(), st.randoms(use_true_random=False))
def test_whatever_has_finished_the_report_can_show(raw, chance):
    try:
        every = experiments(configuration.load(raw))
    except ReclossError:
        return
    share = chance.random()
    done = {path for path in every if chance.random() < share}
    with tempfile.TemporaryDirectory() as folder:
        html = rendered(raw, Path(folder), done)
    if html is not None:
        check(html)


@pytest.mark.filterwarnings("error")
def test_a_model_of_one_test_user_has_a_bar_without_an_interval():
    ends = {f"{m} {end}": [float("nan")] for m in METRICS for end in ("low", "high")}
    row = {"dataset": ["d"], "backbone": ["mf"], "loss": ["bpr"], "recall@20": [0.5]}
    figure = look.compose(figures.main_bars(pd.DataFrame(row | {"ndcg@20": [0.4]} | ends)))
    figure.draw_without_rendering()
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.5000"]
