"""The workflow as a user calls it: to the report, again, after changes, after a kill."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from conftest import REPO, unfold
from filelock import FileLock

from recloss.experiment import config
from recloss.experiment.runs import every_run, reproduction_runs
from recloss.experiment.schema import backbone_of
from recloss.files import claim

PARTS = ["Snakefile", "config.yaml"]
PARTS += ["benchmarks", "config", "profiles", "workflow", "report", "envs", "src"]
TINY = REPO / "tests" / "config" / "tiny.yaml"
METRICS = ["recall@20", "ndcg@20", "recall@50", "ndcg@50"]
EXPERIMENTS = ("claims", "advice", "bounds", "inflation", "debiasing", "moved", "truth")


def environment(folder):
    """The environment of a user in the clone `folder`, whose own library is used."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(folder / "src")}


def snakemake(folder, *arguments, ok=True, **variables):
    """Call snakemake in a clone and return what it printed."""
    command = [sys.executable, "-m", "snakemake", *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(folder) | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert (done.returncode == 0) == ok, done.stdout
    return done.stdout


def clone(folder):
    """Copy what the workflow consists of to a new folder, with the kernels that are compiled."""
    for part in PARTS:
        source = REPO / part
        if source.is_dir():
            ignore = shutil.ignore_patterns("*.egg-info")
            shutil.copytree(source, folder / part, symlinks=True, ignore=ignore)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / part)
    return folder


def jobs(printed):
    """Return the job counts that a call or a dry-run printed, by rule."""
    counts = re.findall(r"^ ?(\w[\w-]*(?: \w+)*) +(\d+) *$", printed, re.M)
    return {rule.replace(" ", "_"): int(count) for rule, count in counts}


def untouched(printed):
    return "Nothing to be done" in printed


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, worker_id):
    """A clone in which the tiny experiment was run to its report, and what that printed.

    Of several workers the first one makes it; tests leave it as it is.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "tiny" / "clone"
    printed = folder.with_name("printed.txt")
    with FileLock(f"{folder.parent}.lock"):
        if not printed.exists():
            shutil.rmtree(folder, ignore_errors=True)
            printed.parent.mkdir(exist_ok=True)
            text = snakemake(clone(folder), "--configfile", TINY)
            printed.write_text(text)
    return folder, printed.read_text()


def test_tuning_writes_settings_that_the_next_call_uses(tiny, tmp_path):
    folder = shutil.copytree(tiny[0], tmp_path / "clone", symlinks=True)
    assert jobs(dry(folder, "--", "tune"))["study"] == 2
    snakemake(folder, "--configfile", TINY, "--", "tune")
    tuned = yaml.safe_load((folder / "results/tiny/tuned.yaml").read_text())["tuned"]
    found = tuned["datasets"]["tiny"]["infonce"]
    assert tuned["provenance"]["protocol"] == "heldout"
    assert found["trials"] == 2
    assert found["worst"] <= found["median"] <= found["best"] and "untuned" in found
    trials = pd.read_csv(folder / "results/tiny/trials.csv")
    assert trials.groupby("loss")["trial"].nunique().to_dict() == {"infonce": 2, "ease": 2}
    of_loss = trials[trials["loss"] == "infonce"]
    assert of_loss.groupby("trial")["recall@20"].max().max() == pytest.approx(
        found["best"], abs=1e-5
    )
    assert untouched(snakemake(folder, "--configfile", TINY, "--", "tune"))
    call = ["--configfile", TINY, "results/tiny/tuned.yaml"]
    report = snakemake(folder, *call)
    assert jobs(report)["summaries"] == 1
    html = (folder / "results/tiny/report.html").read_text()
    assert f"temperature {found['settings']['temperature']}" in html
    assert untouched(snakemake(folder, *call))
    snakemake(folder, *call, "--", "publish")
    shutil.rmtree(folder / "results/tiny/tune")
    snakemake(folder, "--configfile", TINY, "--", "restore")
    assert "study" not in jobs(dry(folder, "--", "tune"))


def test_the_plan_comes_before_any_job(tiny):
    printed = tiny[1]
    plan = printed.index("Plan of 'tiny'")
    assert plan < printed.index("The report: ")
    assert "tiny: 18 training runs, 0 done; 150 users, 120 items" in printed
    assert re.search(r"18 runs to train on 1 CPU thread\b.*: at most [\d.]+ (s|min)", printed)


def test_what_trains_nothing_is_not_refused_for_its_trainings(tiny, tmp_path):
    folder = shutil.copytree(tiny[0], tmp_path / "clone", symlinks=True)
    snakemake(folder, "--configfile", TINY, "--", "publish")
    shutil.rmtree(folder / "results/tiny")
    wide = "{name: wide, simulate: {users: 10, items: 1000000}}"
    small = "{name: tiny, simulate: {users: 150, items: 120, prior: 0.1, observed: 8}}"
    one = "results/tiny/train/tiny/control/popularity/base/seed0/metrics.json"
    call = ["--configfile", TINY, "--config", f"datasets=[{wide}, {small}]", "--", one]
    for of_all in ("all", "report", "results/tiny/report.html"):
        assert "ease on wide needs" in snakemake(folder, *call, of_all, ok=False)
    assert "wide" not in snakemake(folder, *call)
    call = ["--configfile", TINY, "--config", "settings={batch_size: 1000000000}", "--"]
    assert "tiny needs 641.2 GB of memory" in snakemake(folder, *call, "tiny", ok=False)
    snakemake(folder, *call, "data")
    snakemake(folder, *call, "results/published/tiny/report.html")
    assert (folder / "results/tiny/data/tiny/published/split.npz").exists()
    assert (folder / "results/published/tiny/report.html").exists()


def test_the_console_has_the_plan_the_jobs_and_what_was_found(tiny):
    folder, printed = tiny
    assert jobs(printed)["train"] == 15
    assert len(printed.splitlines()) < 60  # not a dozen a job
    table = pd.read_csv(folder / "results/tiny/tables/claims.csv")
    undecided = table.loc[table["verdict"] == "not enough runs", "claim"].nunique()
    assert re.search(rf"^The claims: tiny: \d+ holds?, .*\b{undecided} lacks? runs$", printed, re.M)
    advice = pd.read_csv(folder / "results/tiny/tables/advice.csv")["sentence"].item()
    assert f"The report: {folder}/results/tiny/report.html\n" in printed
    assert printed.index("The report: ") > printed.rindex("Plan of")
    assert f"\ntiny: {advice}\n" in printed
    assert f"<b>tiny</b>: {advice}" in (folder / "results/tiny/report.html").read_text()


def test_each_run_says_how_far_it_is_in_the_log_that_the_plan_names(tiny):
    folder, printed = tiny
    (name,) = re.findall(r"tail -F (\S+)", printed)
    log = (folder / name).read_text()
    done = re.findall(
        r"^\[tiny mf infonce base seed0\] epoch (\d)/3 .* at most .* left$", log, re.M
    )
    assert done == ["1", "2", "3"]
    assert "[tiny mf infonce" not in printed


def test_metrics_has_a_row_per_run(tiny):
    metrics = pd.read_csv(tiny[0] / "results/tiny/metrics.csv")
    main = metrics[metrics["experiments"].str.contains("main")]
    assert len(metrics) == 12 + 2 + 1 + 3 + 2  # with two temperatures, one heldout
    assert len(main) == 4 * 2 + 3  # iALS per seed, EASE once
    assert metrics["path"].is_unique
    assert metrics[METRICS].gt(0).all(axis=None)
    grid = metrics[metrics["experiments"].str.contains("grid:lambda_eps")]
    points = {tuple(point) for point in grid[["settings.lambda", "settings.eps"]].to_numpy()}
    assert points == {(1.0, 0.0), (1.0, 1.0), (1.1, 0.0), (1.1, 1.0)}
    shared = metrics.set_index("path").loc["train/tiny/mf/infonce_plus/base/seed0", "experiments"]
    assert shared == "main grid:lambda_eps"


def test_identities_of_the_losses_hold_through_the_workflow(tiny):
    metrics = pd.read_csv(tiny[0] / "results/tiny/metrics.csv").set_index("path")
    recall = metrics["recall@20"]
    # infonce_plus(1, 1) is infonce; mine_plus and infonce_plus at eps 0 have the same gradients.
    one = "train/tiny/mf/infonce_plus/eps1_lambda1/seed0"
    assert recall[one] == pytest.approx(recall["train/tiny/mf/infonce/base/seed0"], abs=0.01)
    plus = [f"train/tiny/mf/{loss}/base/seed0" for loss in ("infonce_plus", "mine_plus")]
    assert recall[plus[0]] == pytest.approx(recall[plus[1]], abs=0.01)


def test_tables_and_figures_exist_in_every_format(tiny):
    results = tiny[0] / "results/tiny"
    for table in (
        *("data", "main", "recommended", "cost", "grid_lambda", "grid_lambda_eps"),
        *EXPERIMENTS,
    ):
        assert len(pd.read_csv(results / f"tables/{table}.csv")) > 0
        assert "<table" in (results / f"tables/{table}.html").read_text()
        assert r"\toprule" in (results / f"tables/{table}.tex").read_text()
    drawn = ("claims", "main", "learning_curves", "bounds", "truth", "grid_lambda")
    for figure in (*drawn, "grid_lambda_eps", "ablations"):
        assert (results / f"figures/{figure}.svg").read_text().count("<path") > 5


def test_the_executed_notebook_is_kept_and_shows_all(tiny):
    text = (tiny[0] / "logs/tiny/notebooks/results.ipynb").read_text()
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    shown = [output for cell in code for output in cell["outputs"] if "data" in output]
    kinds = [kind for output in shown for kind in output["data"]]
    assert kinds.count("image/svg+xml") == 9
    assert kinds.count("text/html") == 15 + 1  # the tables, and the runs at the end


def test_the_report_is_one_file_with_the_numbers_of_the_tables(tiny):
    folder = tiny[0] / "results/tiny"
    html = (folder / "report.html").read_text()
    assert not re.search(r"(src|href)=[\"']?(https?:|//|file:)", html)
    summary = pd.read_csv(folder / "tables/main.csv")
    assert set(summary["loss"]) == {
        *("infonce", "infonce_plus", "mine_plus", "debiased_ccl", "ials", "ease"),
        *("popularity", "random"),
    }
    for value in summary["recall@20"]:
        assert f"{value:.4f}" in html
    for text in ("protocol <b>published</b>", "learning_rate: 0.02", "torch", "Hardware"):
        assert text in html
    assert "20 of 20 runs" in html
    assert "<code>batch_size</code> 128 (theirs 512)" in html


def test_snakemakes_own_report_has_captions_categories_and_labels(tiny, tmp_path):
    folder = shutil.copytree(tiny[0], tmp_path / "clone", symlinks=True)
    snakemake(folder, "--configfile", TINY, "--report", "results/tiny/snakemake-report.html")
    html = (folder / "results/tiny/snakemake-report.html").read_text()
    for text in (
        "1 Data",
        "2 Main results",
        "3 Grids",
        "4 Debiasing",
        "5 Training",
        "losses compared",
    ):
        assert text in html
    assert "at the" in html and "best epoch, protocol published" in html


def test_a_second_call_has_nothing_to_do(tiny, tmp_path):
    folder = shutil.copytree(tiny[0], tmp_path / "clone", symlinks=True)
    assert untouched(snakemake(folder, "--configfile", TINY))


def dry(folder, *arguments):
    return snakemake(folder, "-n", "--configfile", TINY, *arguments)


def test_touching_sources_and_moving_the_clone_run_nothing(tiny, tmp_path):
    moved = shutil.copytree(tiny[0], tmp_path / "elsewhere", symlinks=True)
    assert untouched(dry(moved))
    for source in [
        *(moved / "src/recloss").rglob("*.py"),
        moved / "Snakefile",
        moved / "config.yaml",
    ]:
        source.touch()
    assert untouched(dry(moved))


def test_a_caption_or_a_colour_retrains_nothing(tiny, tmp_path):
    folder = shutil.copytree(tiny[0], tmp_path / "clone", symlinks=True)
    caption = folder / "report/captions/main.rst"
    caption.write_text(caption.read_text() + "\nAnother sentence.\n")
    assert "train" not in jobs(dry(folder))
    style = folder / "report/style.css"
    style.write_text(style.read_text().replace("#2f5d94", "#943f2f"))
    figures = folder / "src/recloss/report/figures.py"
    figures.write_text(figures.read_text().replace("#3b6ea8", "#3ba86e"))
    again = jobs(dry(folder))
    assert "train" not in again
    assert again["report"] == 1


def test_only_what_changed_is_trained_again(tiny, tmp_path):
    folder = shutil.copytree(tiny[0], tmp_path / "clone", symlinks=True)
    one_loss = tmp_path / "one.yaml"
    one_loss.write_text(yaml.safe_dump({"loss_settings": {"debiased_ccl": {"margin": 0.3}}}))
    printed = snakemake(folder, "-n", "--configfile", TINY, one_loss)
    assert jobs(printed)["train"] == 2
    assert "mf/debiased_ccl/base/seed0/metrics.json" in printed
    printed = dry(folder, "--config", "seeds=[0, 1, 2]")
    assert jobs(printed)["train"] == 4
    losses = folder / "src/recloss/losses.py"
    text = losses.read_text()
    losses.write_text(text.replace("Debiased CCL, Eq. 19, est", "Debiased CCL (Eq. 19), est"))
    printed = dry(folder)
    assert jobs(printed)["train"] == 2 and "mf/debiased_ccl/base/seed1/metrics.json" in printed
    trainer = folder / "src/recloss/train.py"
    trainer.write_text(trainer.read_text() + "\n")
    assert jobs(dry(folder))["train"] == 12 + 2 + 1


def test_partial_targets(tmp_path):
    folder = clone(tmp_path / "clone")
    assert jobs(dry(folder, "--", "data"))["split"] == 1
    assert jobs(dry(folder, "--", "tables"))["summaries"] == 1
    assert jobs(dry(folder, "--", "figures"))["results_notebook"] == 1
    assert "train" not in jobs(dry(folder, "--", "results/tiny/config.yaml"))
    whole = jobs(dry(folder, "--", "tiny"))
    assert (whole["train"], whole["linear"]) == (12 + 2 + 1, 3)
    one = "results/tiny/train/tiny/mf/mine_plus/base/seed1/metrics.json"
    assert jobs(dry(folder, "--", one))["train"] == 1


def test_the_papers_jobs_are_counted_exactly():
    counts = jobs(snakemake(REPO, "-n", "--configfile", "config.yaml", "--forceall"))
    paper = config.load(yaml.safe_load((REPO / "config.yaml").read_text()))
    datasets, losses, seeds = (len(paper[key]) for key in ("datasets", "losses", "seeds"))
    main = datasets * losses * seeds
    grid = {"mf": 0, "linear": 0}
    for g in paper["grids"]:
        points = int(np.prod([len(values) for values in g["over"].values()]))
        for loss in g["loss"]:
            grid[backbone_of(loss)] += len(g["datasets"]) * points * len(g["seeds"])
    runs = every_run(paper)
    inflation = len(paper["inflation"]["losses"])
    reproduced = len(list(reproduction_runs(paper)))
    trained = sum(run.backbone == "mf" for run in runs)
    linear = sum(run.backbone == "linear" for run in runs)
    assert (main, inflation, reproduced) == (180, 10, 5)
    # A point that several experiments ask for is one run: fewer than the sum.
    assert main + grid["mf"] * 0.8 < trained - inflation - reproduced < main + grid["mf"]
    assert datasets * (seeds + 1) < linear < datasets * (seeds + 1) + grid["linear"]
    once = {"configuration", "aggregate", "models", "claims", "summaries"}
    once |= {"results_notebook", "report", "all"}
    expected = dict.fromkeys(once, 1)
    expected |= dict.fromkeys(["prepare", "certify", "certified", "bounds"], datasets)
    expected["fetch"] = 2 * datasets  # a job per file
    expected |= {"split": datasets + 1, "control": 2 * datasets}
    expected |= {"train": trained, "linear": linear}
    expected["total"] = sum(expected.values())
    assert counts == expected


def test_claims_are_the_first_thing_in_the_report(tiny):
    html = (tiny[0] / "results/tiny/report.html").read_text()
    assert html.index("Do the papers' claims hold?") < html.index("Losses compared</h2>")
    claims = pd.read_csv(tiny[0] / "results/tiny/tables/claims.csv")
    verdicts = claims.groupby("claim", sort=False)["verdict"].agg("unique").str.join("")
    # Two seeds of 150 users decide nothing; what is proved by computation holds.
    undecided = dict.fromkeys((f"C{n}" for n in range(1, 12)), "not enough runs")
    assert verdicts.to_dict() == undecided | {"C8": "holds", "C9": "holds"}
    for sentence in claims["sentence"]:
        assert sentence in html


def test_a_heldout_run_stands_beside_published_ones(tiny):
    results = tiny[0] / "results/tiny"
    run = results / "heldout/tiny/mf/infonce/watch_testTrue/seed0"
    assert json.loads((run / "metrics.json").read_text())["protocol"] == "heldout"
    history = pd.read_csv(run / "history.csv")
    table = pd.read_csv(results / "tables/inflation.csv").iloc[0]
    assert table["recall@20 by test"] == pytest.approx(history["test recall@20"].max())
    picked = history.loc[history["recall@20"].idxmax(), "test recall@20"]
    assert table["recall@20 by validation"] == pytest.approx(picked)
    assert table["inflation"] == pytest.approx(table["recall@20 by test"] / picked - 1)


def test_a_published_run_is_rendered_without_training(tiny, tmp_path):
    folder = shutil.copytree(tiny[0], tmp_path / "clone", symlinks=True)
    printed = snakemake(folder, "--configfile", TINY, "--", "publish")
    assert "tiny: 18 training runs, 18 done" in printed and "runs to train" not in printed
    other = clone(tmp_path / "other")
    shutil.copytree(folder / "results/published", other / "results/published")
    target = "published_report"
    printed = snakemake(other, target)
    assert "Plan of" not in printed
    assert jobs(printed)["total"] == 2  # a page a run, and the target
    reports = [folder / "results/tiny/report.html", other / "results/published/tiny/report.html"]
    pages = [report.read_text().replace("/published/", "/") for report in reports]
    said = [re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", page) for page in pages]
    assert said[0] == said[1]
    elsewhere = tmp_path / "elsewhere"
    snakemake(other, "--directory", elsewhere, "--configfile", other / "config.yaml", "--", target)
    assert (elsewhere / reports[1].relative_to(other)).read_text().count(">MINE+<")


def test_no_name_is_run_by_a_shell_or_missed_for_its_letters(tmp_path):
    """Called by its path, in a folder and on data whose names a shell would take apart."""
    name = "-a 'b\" $(touch pwned) `touch pwned`;\ntouch pwned & ü"
    data = tmp_path / name / "ratings.csv"
    data.parent.mkdir()
    rows = [f"u{user},i{(user * 7 + at) % 60}" for user in range(20) for at in range(30)]
    data.write_text("\n".join(["user_id,item_id", *rows]))
    mine = {"name": "own", "path": str(data), "columns": {"user": "user_id"}}
    text = {"run": "own", "datasets": [mine], "losses": ["bpr"], "data": {"mirror": name}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(text | {"device": "cpu"}))
    call = ["--configfile", REPO / "config.yaml", tmp_path / "own.yaml", "--cores", "1"]
    script = Path(sys.executable).with_name("snakemake")
    done = subprocess.run(
        [script, "--snakefile", REPO / "Snakefile", *call, "--", "data"],
        cwd=data.parent,
        env=os.environ | {"PATH": os.defpath},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((data.parent / "results/own/data/own/manifest.json").read_text())
    assert manifest["n_items"] == 60
    assert not list(tmp_path.rglob("pwned"))


def test_braces_in_paths_and_other_encodings_are_refused(tmp_path):
    folder = clone(tmp_path / "clone")
    (folder / "{a}").mkdir()
    for file in ("train.txt", "test.txt"):
        (folder / "{a}" / file).write_text("0 1\n")
    (folder / "own.yaml").write_bytes("a: 1\nrun: café\n".encode("latin-1"))
    printed = snakemake(folder, "-n", "--configfile", TINY, "own.yaml", ok=False)
    assert printed.endswith("error: own.yaml:2: not UTF-8; save the file as UTF-8\n")
    entry = "datasets: [{name: own, path: '{a}'}]\ninflation: {datasets: []}"
    (folder / "own.yaml").write_text(entry)
    printed = snakemake(folder, "-n", "--configfile", TINY, "own.yaml", ok=False)
    assert "takes braces for wildcards; rename it, or link to it" in printed.splitlines()[-1]


def test_published_runs_are_taken_up_where_they_are_the_same(tiny, tmp_path):
    folder = shutil.copytree(tiny[0], tmp_path / "clone", symlinks=True)
    snakemake(folder, "--configfile", TINY, "--", "publish")
    other = clone(tmp_path / "other")
    shutil.copytree(folder / "results/published", other / "results/published")
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump({"loss_settings": {"debiased_ccl": {"margin": 0.3}}}))
    call = ["--configfile", TINY, changed]
    printed = snakemake(other, *call, "--", "restore")
    said = "18 of 20 runs, 0 of 2 studies, 1 of 1 certificates taken from results/published/tiny"
    assert f"{said}; 2 of other settings" in printed, printed
    assert "Plan of" not in printed  # which measures this machine for a minute
    left = jobs(snakemake(other, "-n", *call))
    assert left["train"] == 2
    assert not {"linear", "control", "certify"} & set(left)
    snakemake(other, *call, "--", "results/tiny/data/tiny/bounds.csv")
    bounds, before = (
        pd.read_csv(place / "results/tiny/data/tiny/bounds.csv").set_index("model")
        for place in (other, folder)
    )
    assert not bounds.loc["debiased_ccl"].equals(before.loc["debiased_ccl"])
    same = [model for model in before.index.unique() if model != "debiased_ccl"]
    pd.testing.assert_frame_equal(bounds.loc[same], before.loc[same])


def test_what_has_finished_is_reported_while_the_rest_is_trained(tiny, tmp_path):
    folder = shutil.copytree(tiny[0], tmp_path / "clone", symlinks=True)
    results, call = folder / "results/tiny", ["--configfile", TINY, "--config", "finished=true"]
    every = len(pd.read_csv(results / "metrics.csv"))
    losses = results / "train/tiny/mf"
    left = ["mine_plus/lambda1.2/seed0", "debiased_ccl/base/seed0", "debiased_ccl/base/seed1"]
    for path in (*(losses / run for run in left), results / "train/tiny/linear/ease/base/seed0"):
        shutil.rmtree(path)
    (results / "data/tiny/certificates.csv").unlink()
    other = losses / "infonce/base/seed1/metrics.json"
    other.write_text(re.sub('("code_hash": ")[^"]*', r"\1another", other.read_text()))
    lock = claim(folder / "logs/tiny/.lock")  # as a call does that trains
    printed = snakemake(folder, *call)
    assert f"What has finished of 'tiny': {every - 5} of {every} runs" in printed
    assert not {"train", "linear", "control", "certify"} & set(jobs(printed))
    lock.close()
    html = (results / "report.html").read_text()
    assert f"{every - 5} of {every} runs" in html
    assert 'id="T_grid_lambda_eps"' in html and 'id="T_grid_lambda"' not in html
    main = pd.read_csv(results / "tables/main.csv").set_index("loss")
    assert main["seeds"].get(["infonce", "infonce_plus"]).to_list() == [1, 2]
    assert not {"debiased_ccl", "ease"} & set(main.index)
    assert untouched(snakemake(folder, *call))
    snakemake(folder, *call, "--", "publish")
    published = folder / "results/published/tiny"
    assert not (published / "tables/grid_lambda.csv").exists()
    assert len([*published.glob("runs/**/metrics.json")]) == every - 5
    snakemake(folder, "--", "published_report")
    assert f"{every - 5} of {every} runs" in (published / "report.html").read_text()
    rest = jobs(dry(folder))
    assert (rest["train"], rest["linear"], rest["certify"], rest["aggregate"]) == (3, 1, 1, 1)
    (losses / "infonce/base/seed0/vectors.npz").unlink()  # as where it was trained elsewhere
    shutil.rmtree(published / "runs")
    snakemake(folder, *call, "--", bounds := "results/tiny/data/tiny/bounds.csv")
    assert set(pd.read_csv(folder / bounds)["model"]) == {"infonce_plus", "mine_plus"}
    shutil.rmtree(results)
    printed = snakemake(folder, *call, ok=False)
    assert printed.endswith("error: results/tiny: nothing has finished; call again later\n")


def test_certificates_pass_and_a_failed_one_is_said(tiny, tmp_path):
    folder = shutil.copytree(tiny[0], tmp_path / "clone", symlinks=True)
    table = folder / "results/tiny/tables/debiasing.csv"
    rows = pd.read_csv(table)
    certified = rows[rows["passed"].notna()]
    # By c: Theorem 1 as printed and corrected, Theorem 2, whose Eq. 29 as printed ends at c 2.
    claimed = {"printed": 2 * 6 + 2 + 1, "corrected": 2 * 3 + 2 * 3, "second form": 2 * 2 * 6}
    assert certified["claimed"].value_counts().to_dict() == claimed
    assert certified.loc[certified["claimed"] != "printed", "passed"].all()
    assert set(rows["dataset"]) == {"tiny"}
    html = (folder / "results/tiny/report.html").read_text()
    assert "iALS:\nas printed, Theorem 1, half-step holds; " in html
    assert "as printed, Theorem 1, joint problem <b>fails</b>" in html
    assert "all 8 certificates hold in 26 cases." in html
    source = folder / "results/tiny/data/tiny/certificates.csv"
    text = source.read_text()
    first = text.index(",second form,")
    source.write_text(text[:first] + text[first:].replace("True", "False", 1))
    snakemake(folder, "--configfile", TINY, "--rerun-triggers", "mtime", "--", "report")
    html = (folder / "results/tiny/report.html").read_text()
    assert "corrected and in the second form\n<b>fail</b>: half-step." in html


def test_without_linear_models_nothing_is_certified():
    counts = jobs(dry(REPO, "--forceall", "--config", "linear=[]"))
    assert not {"linear", "certify"} & set(counts)
    assert counts["truth"] == 1
    paper = jobs(snakemake(REPO, "-n", "--forceall", "--config", "linear=[]", "grids=[]"))
    assert not {"linear", "certify", "debiasing", "truth"} & set(paper)


def test_a_wrong_configuration_stops_before_any_job(tmp_path):
    folder = clone(tmp_path / "clone")
    printed = snakemake(folder, "-n", "--config", "sedes=[1]", ok=False)
    fault = printed.strip().splitlines()[-1]
    assert fault.startswith("error: configuration: sedes: unknown key; allowed: run, datasets")
    assert len(printed.strip().splitlines()) == 3  # with the profile and the configuration taken
    printed = snakemake(folder, "-n", "--config", "finished=yes, please", ok=False)
    assert "error: configuration: finished: 'yes, please' is neither true nor false;" in printed
    printed = snakemake(folder, "-n", "--config", "datasets=[{name: all, simulate: {}}]", ok=False)
    assert printed.endswith("error: data set 'all' has the name of a rule; name it otherwise\n")
    printed = snakemake(folder, "-n", "--config", "datasets=[{name: mine, path: x}]", ok=False)
    assert "x: no such file or folder; give ratings, or a folder of .txt, .csv" in printed
    assert "Traceback" not in printed


def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    one = Path("results/tiny/train/tiny/mf/mine_plus/base/seed0")
    (tmp_path / "long.yaml").write_text("settings: {max_epochs: 60, patience: 60}\n")
    call = ["--configfile", TINY, tmp_path / "long.yaml", "--", one / "metrics.json"]
    whole, broken = clone(tmp_path / "whole"), clone(tmp_path / "broken")
    snakemake(whole, *call)
    first = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *map(str, call)],
        cwd=broken,
        env=environment(broken),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 600
    while not (broken / one / "checkpoint.pt").exists():
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.005)
    for child in psutil.Process(first.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # of those that have ended meanwhile
            if "recloss train" in " ".join(child.cmdline()):
                child.send_signal(signal.SIGKILL)
    assert first.wait(60) != 0
    assert not (broken / one / "metrics.json").exists()
    snakemake(broken, *call)
    assert "resumed after epoch" in (broken / "logs/tiny/training.log").read_text()
    assert not (broken / one / "checkpoint.pt").exists()
    records = [
        json.loads((folder / one / "metrics.json").read_text()) for folder in (whole, broken)
    ]
    for key in [*METRICS, "best_epoch", "epochs", "data_hash", "settings"]:
        assert records[0][key] == records[1][key]
    arrays = [
        np.load(folder / one / "per_user.npz", allow_pickle=False) for folder in (whole, broken)
    ]
    for key in arrays[0].files:
        assert np.array_equal(arrays[0][key], arrays[1][key])


def test_gpu_jobs_run_one_at_a_time_under_the_default_profile(tmp_path):
    """Without a GPU too: what counts is that the jobs ask and the profile limits."""
    folder = clone(tmp_path / "clone")
    printed = snakemake(folder, "--configfile", TINY, "--config", "device=auto", "-n", "--", "tiny")
    assert printed.count("gpu=1") == 12 + 2 + 1 + 3
    (folder / "Snakefile").write_text(
        "rule all:\n    input: expand('{n}', n=range(3)),\n"
        "rule job:\n    output: '{n}',\n    resources: gpu=1,\n"
        "    shell: 'test ! -e running; touch running; sleep 1; rm running; touch {output}'\n"
    )
    snakemake(folder)


def test_every_trained_loss_beats_popularity_which_beats_chance(tmp_path):
    folder = clone(tmp_path / "clone")
    quick = ["--config", "seeds=[0]", "grids=[]", "ablations=[]"]
    target = "results/demo/metrics.csv"
    snakemake(folder, "--configfile", "config/demo.yaml", *quick, "--", target)
    metrics = pd.read_csv(folder / target).set_index("loss")["recall@20"]
    assert metrics["popularity"] > 2 * metrics["random"]
    trained = metrics.drop(["popularity", "random"])
    assert len(trained) == 12 + 2
    assert (trained > 3 * metrics["popularity"]).all(), trained


@pytest.mark.mirror
def test_real_gowalla_from_the_mirror(mirror, tmp_path):
    folder = clone(tmp_path / "clone")
    small = {"losses": ["mine_plus", "infonce"], "grids": [], "device": "cpu", "linear": []}
    small |= {"inflation": {"losses": []}, "reproduce": {"names": []}, "ablations": []}
    small |= {"seeds": [0]}
    fast = {"batch_size": 4096, "negatives": 64, "learning_rate": 5.0e-2, "init_std": 0.1}
    small |= {"settings": fast | {"max_epochs": 2}, "threads": 1}
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    printed = snakemake(
        folder, "--configfile", "config/gowalla.yaml", "small.yaml", RECLOSS_MIRROR=str(mirror)
    )
    assert "810,128 pairs" in printed
    data = pd.read_csv(folder / "results/gowalla/tables/data.csv").iloc[0]
    assert (data["users"], data["items"]) == (29858, 40981)
    assert (data["train"], data["test"]) == (810128, 217242)
    metrics = pd.read_csv(folder / "results/gowalla/metrics.csv").set_index("loss")
    assert metrics.loc["popularity", "recall@20"] == pytest.approx(0.04163, abs=1e-5)
    for loss in ("mine_plus", "infonce"):
        assert metrics.loc[loss, "recall@20"] > 2 * metrics.loc["popularity", "recall@20"]
    assert (folder / "results/gowalla/report.html").exists()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_the_report(tiny, browse, width):
    page = browse(tiny[0] / "results/tiny/report.html", width)
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # A bar or dot of each model, a claim of each row: drawn, not blank.
    assert page.locator("#main svg path:visible").count() > 20
    assert page.locator("#debiasing svg").first.is_visible()
    assert page.locator(".claim").count() == 11
