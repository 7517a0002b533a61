"""Statistics, tables and the plan."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import REPO
from scipy import stats as scipy_stats

from recloss.analysis import stats, summaries
from recloss.experiment import config, memory, plan, runtime
from recloss.experiment.runs import ablation_runs, every_run, settings_for, studies
from recloss.experiment.schema import default_settings
from recloss.report import board, debiasing, tables

SUMMARY = pd.DataFrame(
    {
        "dataset": "d",
        "backbone": ["mf", "mf", "control"],
        "loss": ["mine_plus", "debiased_ccl", "popularity"],
        "kind": ["plain", "debiased", "control"],
        "recall@20": [0.12345, 0.2, 0.5],
        "recall@20 sd": [0.001, np.nan, np.nan],
        "ndcg@20": [0.3, 0.1, 0.5],
        "ndcg@20 sd": [0.002, np.nan, np.nan],
        "recall@20 tied": [False, True, False],
        "ndcg@20 tied": [True, False, False],
    }
)


def test_the_interval_of_a_mean_is_scipys():
    values = np.random.default_rng(0).normal(size=50)
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert stats.mean_interval(values) == pytest.approx(tuple(expected))


def test_summary_averages_seeds_and_takes_the_interval_over_users(tmp_path):
    recall = {0: [0.0, 0.5, 1.0], 1: [0.2, 0.5, 0.8]}
    rows = []
    for seed, values in recall.items():
        folder = tmp_path / f"seed{seed}"
        folder.mkdir()
        np.savez(folder / "per_user.npz", **{"recall@20": values, "ndcg@20": values})
        row = {"dataset": "d", "loss": "mine", "backbone": "mf", "best_epoch": 4 + seed}
        row["seed"] = seed
        row |= {"recall@20": np.mean(values), "ndcg@20": 0.1 * seed, "path": f"seed{seed}"}
        rows.append(row)
    table = stats.summarise(pd.DataFrame(rows), tmp_path, ("recall@20", "ndcg@20"), 0.05).iloc[0]
    assert table["seeds"] == 2
    assert table["best epoch"] == 4.5
    assert table["ndcg@20"] == pytest.approx(0.05)
    assert table["ndcg@20 sd"] == pytest.approx(0.1 / np.sqrt(2))
    low, high = stats.mean_interval(np.array([0.1, 0.5, 0.9]))
    assert (table["recall@20 low"], table["recall@20 high"]) == pytest.approx((low, high))


def test_what_is_not_significantly_worse_than_the_best_is_tied(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, 200)
    values = {"best": 0.5 + noise, "near": 0.5 + rng.permutation(noise), "far": 0.4 + noise}
    values["popularity"] = values["best"] + 0.1
    rows = []
    for loss, recall in values.items():
        (tmp_path / loss).mkdir()
        np.savez(tmp_path / loss / "per_user.npz", **{"recall@20": recall, "ndcg@20": recall})
        row = {"dataset": "d", "loss": loss, "backbone": "mf", "best_epoch": 1, "seed": 0}
        rows.append(row | {"recall@20": recall.mean(), "ndcg@20": recall.mean(), "path": loss})
    rows[-1]["backbone"] = "control"
    table = stats.summarise(pd.DataFrame(rows), tmp_path, ("recall@20", "ndcg@20"), 0.05)
    assert table["recall@20 tied"].tolist() == [True, True, False, False]
    html = tables.main_display(table).to_html()
    assert "text-decoration: underline" in html


def test_the_best_trained_loss_is_bold_and_a_control_never(tmp_path):
    tables.write(tables.main_display(SUMMARY), tmp_path / "main")
    latex = (tmp_path / "main.tex").read_text()
    assert r"\bfseries 0.2000" in latex
    assert r"\bfseries 0.3000 $\pm$ 0.0020" in latex
    assert latex.count(r"\bfseries") == 2
    assert r"MINE+ & 0.1235 $\pm$ 0.0010" in latex
    assert "0.1235 ± 0.0010" in (tmp_path / "main.html").read_text()


def test_an_experiment_is_found_among_several_of_a_run():
    frame = pd.DataFrame({"experiments": ["main grid:lambda", "grid:lambda_eps", "control"]})
    assert summaries.part_of(frame, "grid:lambda").index.tolist() == [0]
    assert summaries.part_of(frame, "main", "control").index.tolist() == [0, 2]


def test_the_plan_counts_runs_that_are_there_and_measures_the_rest(tmp_path):
    raw = yaml.safe_load((REPO / "config.yaml").read_text())
    tiny = yaml.safe_load((REPO / "tests/config/tiny.yaml").read_text())
    full = config.load(raw | tiny)
    runs = every_run(full)
    for run in runs[:5]:
        (tmp_path / run.path).mkdir(parents=True)
        (tmp_path / run.path / "metrics.json").write_text("{}")
    text = plan.describe(full, tmp_path)
    assert f"tiny: {len(runs)} training runs, 5 done" in text
    assert f"{len(runs) - 5} runs to train on 1 CPU thread: at most" in text
    n = len(list(studies(full)))
    tuning = plan.describe(full, tmp_path, tune=True)
    assert f"tiny: {len(runs)} training runs after {n} studies to tune them, 5 done" in tuning
    assert f"{len(runs) - 5} runs and {n} studies to train" in tuning
    assert "GPU" not in text  # the configuration asks for the CPU
    for run in runs[5:]:
        (tmp_path / run.path).mkdir(parents=True)
        (tmp_path / run.path / "metrics.json").write_text("{}")
    assert "to train" not in plan.describe(full, tmp_path)


def test_the_time_of_a_job_is_more_than_was_measured_on_gowalla_and_not_ten_times_as_much():
    counts = {"n_users": 29858, "n_items": 40981, "n_train": 810128}

    def seconds(backbone="mf", **changes):
        settings = default_settings("mine_plus") | {"dim": 64, "layers": 3, "max_epochs": 10}
        return 6 * (runtime.minutes(counts, settings | changes, backbone) - runtime.LOADING)

    # An epoch in docs/speed.md, on two cores.
    assert 26 < seconds(batch_size=512, negatives=800) < 260
    assert 6.2 < seconds(batch_size=512, negatives=1) < 62
    assert 22 < seconds("lightgcn", batch_size=2048, negatives=1) < 220


def test_the_memory_of_the_plan_is_enough_and_not_three_times_too_much():
    raw = yaml.safe_load((REPO / "config.yaml").read_text())
    gowalla = config.load(raw | yaml.safe_load((REPO / "config/gowalla.yaml").read_text()))
    counts = plan.counts_of(gowalla["datasets"][0])
    for model, peak in (("mine_plus", 901), ("ials", 1081), ("ease", 7150)):  # of metrics.json
        needed = memory.memory_mb(counts, model, settings_for(gowalla, "gowalla", model))
        assert peak <= needed < 3 * peak
    for backbone, peak in (("lightgcn", 997), ("ngcf", 1658)):  # three steps, one evaluation
        settings = settings_for(gowalla, "gowalla", "bpr", backbone)
        assert peak <= memory.memory_mb(counts, "bpr", settings, backbone) < 2 * peak


def test_the_plan_counts_a_published_data_set_by_what_is_trained_on():
    for name, pairs in (("gowalla", 810128), ("coat", 6960)):
        assert plan.counts_of({"name": name})["n_train"] == pairs


def test_without_a_gpu_the_plan_names_smaller_experiments(tmp_path):
    import torch

    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("has a GPU")
    tiny = yaml.safe_load((REPO / "tests/config/tiny.yaml").read_text())
    text = plan.describe(config.load(tiny | {"device": "auto"}), tmp_path)
    assert "no GPU found; smaller experiments: --configfile config/gowalla.yaml" in text


def test_an_ablation_says_what_each_step_changes():
    raw = yaml.safe_load((REPO / "config.yaml").read_text())
    full = config.load(raw | yaml.safe_load((REPO / "tests/config/tiny.yaml").read_text()))
    (entry,) = full["ablations"]
    rows = [
        {"path": run.path, "recall@20": value, "ndcg@20": value / 2}
        for run, value in zip(ablation_runs(full), (0.2, 0.25), strict=True)
    ]
    table = summaries.ablations(pd.DataFrame(rows), full)
    assert list(table["step"]) == [step["name"] for step in entry["steps"]]
    assert table["change"][1] == pytest.approx(0.25)
    assert "+25.0%" in tables.ablations_display(table).to_html()


def test_what_is_recommended_averages_seeds_and_skips_runs_that_do_not_say():
    row = {"dataset": "d", "backbone": "mf", "experiments": "main", "recall@20": 0.1}
    row["gini@20"] = 0.5
    rows = [
        row | {"loss": loss, "coverage@20": coverage, "popularity@20": 1000.0}
        for loss, coverage in (("mine", 0.2), ("mine", 0.4), ("ccl", None))
    ]
    table = summaries.recommended_table(pd.DataFrame(rows))
    assert table[["loss", "seeds"]].values.tolist() == [["mine", 2]]
    assert table["coverage@20"][0] == pytest.approx(0.3)
    html = tables.readable(tables.recommended_display(table)).to_html()
    assert "30.0%" in html and "1,000" in html and "Gini@20" in html
    old = pd.DataFrame(rows).drop(columns="gini@20")
    assert summaries.recommended_table(old).empty


def certificates():
    """Two cases of a statement that fails as printed and holds corrected, and our second form."""
    rows = [
        ("printed", "Theorem 1, half-step: slope", 1.5, 1e-9, 1e-15, True),
        ("printed", "Theorem 2, Eq. 28: objective", 1.5, 1e-9, 0.1, False),
        ("corrected", "Theorem 2, Eq. 28: objective", 1.5, 1e-9, 1e-16, True),
        ("printed", "Theorem 2, Eq. 28: objective", 3.0, 1e-9, 0.25, False),
        ("corrected", "Theorem 2, Eq. 28: objective", 3.0, 1e-9, 2e-16, True),
        ("second form", "minimiser", 0.5, 1e-6, 1e-12, True),
        (None, "Theorem 2, condition", 3.0, None, -1.0, None),
        (None, "observed recall@20", None, None, 0.5, None),
    ]
    names = ("claimed", "certificate", "kappa", "tolerance", "value", "passed")
    frame = pd.DataFrame(rows, columns=names).assign(dataset="d", model="ease", tau=np.nan)
    return frame.assign(sentence="s", passed=frame["passed"].map({True: "True", False: "False"}))


def test_certificates_say_who_claims_them_and_what_fails_is_bold():
    table = summaries.certificates(certificates())
    assert table[["claimed", "cases", "worst", "verdict"]].values.tolist() == [
        ["printed", 1, 1e-15, "passes"],
        ["printed", 2, 0.25, "FAILS"],
        ["corrected", 2, 2e-16, "passes"],
        ["second form", 1, 1e-12, "passes"],
    ]
    html = tables.readable(tables.certificates_display(table)).to_html()
    assert html.count("as printed") == 2
    assert html.count(">holds<") == 3
    assert html.count(">fails<") == 1
    bold = html.split("<style")[1].split("</style>")[0]
    assert {row for row in range(4) if f"row{row}_col" in bold} == {1}


def test_a_case_without_a_minimum_is_a_measurement_and_none_of_the_truth():
    rows = certificates()
    assert summaries.moved(rows)["certificate"].tolist() == ["Theorem 2, condition"]
    assert list(summaries.truth(rows).columns) == ["dataset", "model", "observed recall@20"]


def test_what_fails_as_printed_is_no_failure_of_ours():
    rows = certificates()
    (found,) = debiasing.verdicts(rows)
    assert found["holds"] == ["Theorem 1, half-step"]
    assert found["fails"] == [
        {"name": "Theorem 2, Eq. 28", "residuals": {"objective": 0.25}, "right": "α = (c − 1) / c"}
    ]
    assert (found["certificates"], found["cases"], found["failed"]) == (2, 3, [])
    rows.loc[rows["claimed"] == "second form", "passed"] = "False"
    assert debiasing.verdicts(rows)[0]["failed"] == ["minimiser"]


def test_of_each_kind_of_departure_the_furthest_case_is_named():
    rows = []
    for name, tau, kappa, *values in [
        ("prior |I_u+| + 10", 0.1, None, 1.0, -0.1, -0.1),
        ("prior |I_u+| + 100", 0.2, None, 1.0, -0.2, -0.3),
        ("kappa by user", 0.01, None, 0.4, 0.0, 0.5),
        ("kappa by user", 0.1, None, 0.6, 0.0, 0.1),
        ("weights c+ = c- = 1", 0.1, 0.5, 0.8, 0.1, 0.1),
        ("weights c+ = c- = 1", 0.1, 2.0, 0.7, 0.2, 0.2),
    ]:
        for measure, value in zip(("rankings", "recall@20", "ndcg@20"), values, strict=True):
            row = {"certificate": f"{name}, {measure}", "tau": tau, "kappa": kappa, "value": value}
            rows.append(row | {"dataset": "d", "model": "ials", "passed": None, "sentence": "s"})
    found = debiasing.furthest(pd.DataFrame(rows))
    assert [(row["certificate"], row["tau"], row["ndcg@20"]) for row in found] == [
        ("prior |I_u+| + 100", 0.2, -0.3),
        ("kappa by user", 0.1, 0.1),
        ("weights c+ = c- = 1", 0.1, 0.1),
    ]


def test_twins_are_compared_by_the_truth():
    quality = {"ccl": 0.5, "debiased_ccl": 0.6, "debiased_mse": 0.4, "ease": 0.3}
    rows = [{"dataset": "d", "model": m, "true ndcg@20": v} for m, v in quality.items()]
    found = debiasing.twins(pd.DataFrame(rows))
    assert [row["twin"] for row in found] == ["ccl"]
    assert found[0]["gain"] == pytest.approx(0.2)


def claim_rows(*places, **parts):
    """Rows of claims.csv of one claim, a part each: (data set, backbone, verdict)."""
    row = {"claim": "C5", "part": "one over other", "metric": "recall@20", "sentence": "s"}
    row |= dict.fromkeys(("effect", "ci_low", "ci_high", "printed"), np.nan) | parts
    names = ("dataset", "backbone", "verdict")
    rows = [row | dict(zip(names, place, strict=True)) for place in places]
    return pd.DataFrame([row | {"part_verdict": row["verdict"]} for row in rows])


def test_data_sets_with_the_same_verdict_share_their_sentences():
    table = claim_rows(("a", "mf", "holds"), ("b", "mf", "does not hold"), ("c", "mf", "holds"))
    (claim,) = board.board(table)
    assert [(row["places"], row["verdict"]) for row in claim["sentences"]] == [
        ("a, c", "holds"),
        ("b", "does not hold"),
    ]
    assert [place["name"] for place in claim["places"]] == ["a", "b", "c"]
    assert claim["bars"] == []  # nothing is known of the effect


def test_an_effect_lies_on_the_axis_of_the_board():
    table = claim_rows(("a", "mf", "holds"), effect=0.1, ci_low=0.0, ci_high=0.2, printed=-0.05)
    (bar,) = board.board(table)[0]["bars"]
    # The axis goes from -5 % to 20 %.
    assert (bar["zero"], bar["low"], bar["effect"], bar["high"]) == (20, 20, 60, 100)
    assert (bar["printed"], bar["beyond"]) == (0, "")
    assert bar["words"] == "one over other, Recall@20 +10.0% (+0.0% to +20.0%), printed -5.0%"
    (bar,) = board.board(table.assign(effect=9.0, ci_high=9.5))[0]["bars"]
    assert (bar["effect"], bar["high"], bar["beyond"]) == (100, 100, "→")


def test_the_answer_counts_claims_by_what_became_of_them():
    rows = [
        claim_rows(("a", "mf", verdict)).assign(claim=name)
        for name, verdict in (("C1", "holds"), ("C2", "holds so far"), ("C3", "not enough runs"))
    ]
    (found,) = board.answer(pd.concat(rows))
    assert found["claims"] == 3
    assert [(c["words"], c["names"]) for c in found["counts"]] == [
        ("hold", ["C1", "C2"]),
        ("lacks runs", ["C3"]),
    ]


def test_a_loss_on_two_backbones_is_two_models():
    twice = pd.concat([SUMMARY, SUMMARY[:1].assign(**{"backbone": "lightgcn", "recall@20": 0.3})])
    html = tables.readable(tables.main_display(twice)).to_html()
    assert ">MINE+<" in html and ">MINE+ on LightGCN<" in html
    both = claim_rows(("gowalla", "mf", "holds"), ("gowalla", "lightgcn", "holds"))
    assert board.board(both)[0]["sentences"][0]["places"] == "Gowalla, Gowalla (LightGCN)"


def test_a_point_of_a_grid_is_beside_the_best_with_each_user_paired(tmp_path):
    rng = np.random.default_rng(0)
    users, noise, rows = rng.uniform(0.1, 0.3, 400), rng.normal(0, 0.002, 400), []
    noise -= noise.mean()
    for value, shift in ((1.0, noise), (1.1, 0.02), (1.2, 0.02 - 1e-5 + noise)):
        path = f"train/d/mf/mine_plus/lambda{value}/seed0"
        (tmp_path / path).mkdir(parents=True)
        mine = users + shift
        np.savez(tmp_path / path / "per_user.npz", **{"recall@20": mine, "ndcg@20": mine})
        row = {"dataset": "d", "backbone": "mf", "loss": "mine_plus", "seed": 0, "path": path}
        row |= {"variant": f"lambda{value}", "experiments": "grid:x", "settings.lambda": value}
        rows.append(row | dict.fromkeys(summaries.CUTOFFS, mine.mean()))
    grid = {"name": "x", "over": {"lambda": [1.0, 1.1, 1.2]}}
    table = summaries.grid_table(pd.DataFrame(rows), tmp_path, grid).set_index("lambda")
    best = table.loc[1.1, "recall@20"]
    assert table.loc[1.1, ["recall@20 low", "recall@20 high"]].tolist() == [best, best]
    assert table.loc[1.2, "recall@20 low"] < best < table.loc[1.2, "recall@20 high"]
    # Far narrower than the interval over users, which differ by ten times as much.
    assert table.loc[1.0, "recall@20 high"] < best - 0.015
    assert table["seeds"].tolist() == [1, 1, 1]


def test_a_loss_that_takes_its_prior_from_the_truth_is_measured_too():
    raw = yaml.safe_load((REPO / "config.yaml").read_text())
    demo = config.load(raw | yaml.safe_load((REPO / "config/demo.yaml").read_text()))
    run = next(run for run in every_run(demo) if run.loss == "debiased_ccl")
    assert run.settings["prior"] == {"rule": "truth"}
    counts = {"n_users": 40, "n_items": 30, "n_train": 100}
    assert min(plan.measure(counts, run, torch.device("cpu"))) > 0
    # Random pairs may give a user more of them than there are items.
    run.settings["prior"] = {"rule": "more", "k": 0}
    few = {"n_users": 2, "n_items": 3, "n_train": 4}
    assert min(plan.measure(few, run, torch.device("cpu"))) > 0
