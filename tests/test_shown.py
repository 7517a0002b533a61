"""Judging by items shown at random: AUC and NDCG@5 of the shown items alone."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import pytrec_eval
import torch
import yaml
from conftest import REPO, interactions
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from test_workflow import clone, jobs, snakemake, untouched

from recloss.analysis import gains, shown
from recloss.data.arrays import pack, write_arrays
from recloss.data.interactions import Split
from recloss.data.split import write
from recloss.experiment import config
from recloss.experiment.record import write_run
from recloss.files import ReclossError
from recloss.models.ease import ease, gram
from recloss.report import debiasing, page

VALIDATION = ("validation recall@20", "validation ndcg@20")

# Items that a user was shown: whether liked, and a score of few values, so that many are equal.
ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=12)
USERS = st.lists(ROWS, min_size=1, max_size=5)


def judged(users):
    """Judge users given as lists of (liked, score), a user's items being 0, 1, ..."""
    pairs = [(user, item) for user, rows in enumerate(users) for item in range(len(rows))]
    liked, scores = np.array([cell for rows in users for cell in rows]).T
    found = interactions(pairs, len(users), 12)
    return shown.per_user(found, liked.astype(bool), scores.astype(np.float32)).set_index("user")


@given(USERS)
def test_auc_is_the_statistic_of_mann_and_whitney(users):
    found = judged(users)["auc"]
    for user, rows in enumerate(users):
        liked = [score for good, score in rows if good]
        other = [score for good, score in rows if not good]
        if liked and other:
            u = mannwhitneyu(liked, other, method="asymptotic").statistic
            assert found[user] == pytest.approx(u / (len(liked) * len(other)))
        else:
            assert np.isnan(found[user])


@given(USERS)
def test_ndcg_is_that_of_trec_eval_with_equal_scores_by_item(users):
    found, relevant, runs = judged(users)["ndcg@5"], {}, {}
    for user, rows in enumerate(users):
        order = sorted(range(len(rows)), key=lambda item: (-rows[item][1], item))
        runs[str(user)] = {str(item): float(-place) for place, item in enumerate(order)}
        relevant[str(user)] = {str(item): int(rows[item][0]) for item in range(len(rows))}
    values = pytrec_eval.RelevanceEvaluator(relevant, {"ndcg_cut.5"}).evaluate(runs)
    for user, rows in enumerate(users):
        if any(good for good, _ in rows):
            assert found[user] == pytest.approx(values[str(user)]["ndcg_cut_5"])
        else:
            assert np.isnan(found[user])


def test_a_user_without_shown_items_has_no_row():
    found = interactions([(2, 0), (2, 1)], 4, 5)
    rows = shown.per_user(found, np.array([True, False]), np.array([1.0, 2.0], np.float32))
    assert rows.to_dict("records") == [{"user": 2, "auc": 0.0, "ndcg@5": 1 / np.log2(3)}]


def test_a_test_pair_that_was_not_shown_is_refused():
    with pytest.raises(ReclossError, match="1 test pairs are not among the items shown"):
        shown.liked_of(interactions([(0, 1)], 2, 3), interactions([(0, 1), (1, 1)], 2, 3))


# Every second item is liked by users of its parity, and every item was shown but those trained on.
N = 12
LIKED = [(user, item) for user in range(N) for item in range(N) if (user + item) % 2 == 0]
TRAIN = [LIKED[place] for place in np.random.default_rng(0).permutation(len(LIKED))[:30]]
TEST = sorted(set(LIKED) - set(TRAIN))
SHOWN = [(user, item) for user in range(N) for item in range(N) if (user, item) not in TRAIN]


@pytest.fixture
def data(tmp_path):
    """Split and shown items, and the folder in which they are written as the workflow does."""
    train, none, test = (interactions(pairs, N, N) for pairs in (TRAIN, [], TEST))
    parts, items = Split(train, none, test), interactions(SHOWN, N, N)
    write(tmp_path, parts, "small", "published", 0.1, 0)
    write_arrays(tmp_path / "interactions.npz", pack(train=train, test=test, shown=items))
    return tmp_path, parts, items


def finished(folder, loss, settings=None, vectors=None, seed=0, backbone="mf"):
    """Write the folder of a run as training does."""
    metrics = {"dataset": "small", "backbone": backbone, "loss": loss, "variant": "base"}
    metrics |= {"seed": seed, "settings": settings or {}}
    values = {"recall@20": np.ones(1), "ndcg@20": np.ones(1)}
    write_run(folder, metrics, [{"epoch": 1}], np.zeros(1), values, vectors)
    return folder


def test_the_command_writes_a_row_per_run_and_user(data):
    folder, parts, items = data
    knows = np.array([[(u + i) % 2 == 0 for i in range(N)] for u in range(N)], np.float32)
    runs = [
        finished(folder / "good", "mine", {"score": "dot"}, (knows, np.eye(N, dtype=np.float32))),
        finished(folder / "bad", "bpr", {"score": "dot"}, (-knows, np.eye(N, dtype=np.float32)), 1),
        finished(folder / "popular", "popularity", backbone="control"),
    ]
    command = [sys.executable, "-m", "recloss", "shown", "--data", folder / "split.npz"]
    command += ["--shown", folder / "interactions.npz", "--runs", *runs]
    subprocess.run([*map(str, command), "--out", str(folder / "shown.csv")], check=True)
    frame = pd.read_csv(folder / "shown.csv")
    assert list(frame) == [*gains.RUN, "user", "auc", "ndcg@5"]
    means = frame.groupby("loss")[["auc", "ndcg@5"]].mean()
    assert means.loc["mine"].tolist() == [1, 1]
    assert means.loc["bpr", "auc"] == 0
    assert frame.groupby("loss").size().tolist() == [N] * 3
    assert set(frame.loc[frame["loss"] == "bpr", "seed"]) == {1}
    counts = parts.train.item_counts()[items.items].astype(np.float32)
    expected = shown.per_user(items, shown.liked_of(items, parts.test), counts)
    popular = frame[frame["loss"] == "popularity"].reset_index(drop=True)
    pd.testing.assert_frame_equal(popular[["user", "auc", "ndcg@5"]], expected, check_dtype=False)


@pytest.mark.parametrize(
    ("loss", "settings", "cosine"),
    [
        ("mine", {"score": "cosine"}, True),
        ("mine", {"score": "cosine", "rank_by": "inner_product"}, False),
        ("ials", {}, False),
    ],
)
def test_items_are_ranked_as_the_evaluation_ranks_them(data, loss, settings, cosine):
    folder, parts, items = data
    users, table = torch.randn(2, N, 4, generator=torch.Generator().manual_seed(0)).unbind()
    table *= torch.arange(1, N + 1)[:, None]  # so that the length of a vector matters
    run = finished(folder / "run", loss, settings, (users.numpy(), table.numpy()))
    inner = users @ table.T
    scores = torch.cosine_similarity(users[:, None], table[None], dim=2) if cosine else inner
    scores = scores.numpy()[items.users, items.items]
    expected = shown.per_user(items, shown.liked_of(items, parts.test), scores)
    pd.testing.assert_frame_equal(shown.judge(run, parts, items)[list(expected)], expected)


def test_ease_is_solved_again_and_random_drawn_again(data):
    folder, parts, items = data
    metrics = {"loss": "ease", "settings": {"reg": 2.0}}
    solved = ease(gram(parts.train), 2.0).scores(parts.train)(0, N).numpy()
    found = shown.scores_of_pairs(folder, metrics, parts, items)
    np.testing.assert_array_equal(found, solved[items.users, items.items])
    drawn = [
        shown.scores_of_pairs(folder, {"loss": "random", "settings": {}, "seed": s}, parts, items)
        for s in (0, 0, 1)
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).mean() > 0.9


def rows_of(loss, seeds, values):
    """Rows of shown.csv of a model: a value per user, the same for each seed."""
    run = {"dataset": "small", "backbone": "mf", "loss": loss, "variant": "base"}
    return pd.DataFrame(
        [
            run | {"seed": seed, "user": user, "auc": value, "ndcg@5": value}
            for seed in seeds
            for user, value in enumerate(values)
        ]
    )


def test_models_are_compared_at_common_seeds_by_users_that_count():
    one = rows_of("debiased_ccl", (0, 1), [0.6, 0.9, np.nan])
    other = rows_of("ccl", (1, 2), [0.5, 0.8, np.nan])
    found = gains.compare_models(one, other, "auc")
    assert found.effect == pytest.approx(0.75 / 0.65 - 1)
    assert (found.n_seeds, found.n_users) == (1, 2)
    assert found.low < found.effect < found.high
    assert gains.compare_models(one[one["seed"] == 0], other, "auc") is None


@pytest.fixture
def judged_models():
    """Rows of shown.csv in which debiasing gains 10 % for InfoNCE and loses a third for CCL."""
    values = np.linspace(0.4, 0.6, 40)
    models = {"infonce": values, "debiased_infonce": 1.1 * values, "debiased_ccl": values / 2}
    models |= {"ccl": 0.75 * values, "ease": 0.8 * values, "debiased_mse": values}
    return pd.concat(
        [rows_of(loss, (0,) if loss == "ease" else (0, 1), v) for loss, v in models.items()]
    )


def test_the_table_has_means_and_gains_over_twins(judged_models):
    likes_all = judged_models[judged_models["user"] == 0].assign(user=99, auc=np.nan)
    rows = pd.concat([judged_models, likes_all])
    validation = pd.DataFrame([{"dataset": "small", "backbone": "mf", "loss": "ccl"}])
    validation["validation recall@20"] = 0.25
    table = gains.shown_table(rows, validation).set_index("loss")
    assert table.loc["debiased_infonce", "auc gain"] == pytest.approx(0.1)
    assert table.loc["debiased_infonce", "auc low"] > 0.09
    assert table.loc["debiased_ccl", "ndcg@5 gain"] == pytest.approx(-1 / 3)
    assert table.loc["debiased_ccl", "ndcg@5 high"] < 0
    assert table["auc gain"].notna().sum() == 2  # of debiased MSE there is no twin
    assert table.loc["ease", ["seeds", "users", "auc"]].tolist() == pytest.approx([1, 40, 0.4])
    assert table.loc["infonce", "users"] == 40
    assert table.loc["ccl", "validation recall@20"] == 0.25


def test_validation_is_that_of_the_epoch_picked_under_heldout():
    run = {"dataset": "d", "backbone": "mf", "loss": "ccl", "variant": "base", "seed": 0}
    runs = [run | {"seed": seed, "best_epoch": 2 + seed} for seed in (0, 1)]
    metrics = pd.DataFrame(runs).assign(protocol="heldout", experiments="main")
    history = pd.DataFrame(
        [
            run | {"seed": seed, "epoch": epoch, "recall@20": epoch + 10 * seed, "ndcg@20": 0.5}
            for seed in (0, 1)
            for epoch in (1, 2, 3)
        ]
    )
    found = gains.validated(metrics, history)
    assert found["validation recall@20"].tolist() == [(2 + 13) / 2]
    assert gains.validated(metrics.assign(protocol="published"), history).empty


def report(tmp_path, judged_models=None, protocol="published"):
    """Render a published report, whose data set has shown items if there are rows of shown.csv."""
    results, published = tmp_path / "results", REPO / "results/published/gowalla"
    shutil.copytree(published, results, ignore=shutil.ignore_patterns("runs"))
    config = yaml.safe_load((results / "config.yaml").read_text())
    if judged_models is not None:
        entry = config["datasets"][0]
        config["protocol"], entry["path"] = protocol, str(tmp_path / "own")
        (tmp_path / "own").mkdir()
        (tmp_path / "own/shown.csv").touch()
        rows = judged_models.assign(dataset=entry["name"])
        keys = ["dataset", "backbone", "loss"]
        table = gains.shown_table(rows, pd.DataFrame(columns=[*keys, *VALIDATION]))
        table.to_csv(results / "tables/shown.csv", index=False)
        (results / "config.yaml").write_text(yaml.safe_dump(config))
    return " ".join(page.render(results, REPO / "report").split())


def test_the_report_says_what_debiasing_gains_on_the_shown_items(tmp_path, judged_models):
    html = report(tmp_path, judged_models)
    said = re.sub("<[^>]*>", "", html)
    assert "Gowalla, 40 users, 2 seeds: debiased InfoNCE over its biased twin +10.0 % AUC" in said
    assert re.search(r"over its biased twin -33\.3 % NDCG@5 \(-33\.3 to -33\.3 %\), worse\.", said)
    best = "debiased InfoNCE by AUC (0.5500) and debiased InfoNCE by NDCG@5 (0.5500)"
    assert f"Best are {best}." in said
    assert "Beside them: EASE 0.4000 and 0.4000." in said
    assert "+10.0% (+10.0% to +10.0%)" in said  # in the table
    assert 'id="shown"' in html and "over the biased twin, %, with its 95 % interval" in html


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        ("published", "The epoch was picked on the liked ones among them (protocol published)."),
        ("heldout", "They picked neither epoch nor settings."),
    ],
)
def test_the_report_says_whether_the_shown_items_picked_the_epoch(
    tmp_path, judged_models, protocol, said
):
    assert said in report(tmp_path, judged_models, protocol)


def test_the_report_has_no_such_section_where_nothing_was_shown_at_random(tmp_path):
    assert 'id="shown"' not in report(tmp_path)


@pytest.mark.parametrize(
    ("gain", "p", "word"),
    [(0.1, 0.01, "better"), (0.1, 0.06, "not told apart"), (-0.1, 0.04, "worse")],
)
def test_the_p_value_says_who_is_better(gain, p, word):
    assert debiasing.told(gain, p) == word


def test_of_several_comparisons_one_must_stand_the_correction_for_their_number():
    row = {"dataset": "d", "backbone": "mf", "seeds": 3, "users": 9, "auc": 0.6, "ndcg@5": 0.4}
    parts = {
        f"{metric} {part}": 0.1 for metric in gains.METRICS for part in ("gain", "low", "high")
    }
    rows = [row | {"loss": "debiased_ccl"} | parts | {"auc p": 0.02, "ndcg@5 p": 0.2}]
    rows.append(row | {"loss": "debiased_infonce"} | parts | {"auc p": 0.01, "ndcg@5 p": 0.3})
    (found,) = debiasing.shown_at_random(pd.DataFrame(rows))
    words = [gain["word"] for gain in found["gains"]]
    assert words == ["not told apart", "not told apart", "better", "not told apart"]


def test_data_sets_with_a_shown_file_are_judged_by_it(tmp_path):
    for name, file in (("with", "shown.csv"), ("without", "test.csv")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    datasets = [{"name": name, "path": str(tmp_path / name)} for name in ("with", "without")]
    datasets += [{"name": "coat", "rating": {"at_least": 4}}, {"name": "gowalla"}]
    datasets += [{"name": "simulated", "simulate": {}}]
    found = config.load({"run": "x", "datasets": datasets})
    assert config.shown_names(found) == ["with", "coat"]


def test_the_workflow_judges_an_own_data_set_by_its_shown_file(tmp_path):
    folder, own = clone(tmp_path / "clone"), tmp_path / "own"
    own.mkdir()
    rng = np.random.default_rng(0)
    pairs = pd.MultiIndex.from_product([range(60), range(60)], names=["user", "item"])
    ratings = pd.DataFrame({"rating": rng.integers(1, 6, len(pairs))}, index=pairs).reset_index()
    chosen = (ratings["rating"] >= 4) & (rng.random(len(ratings)) < 0.4)
    ratings[chosen].to_csv(own / "train.csv", index=False)
    ratings[~chosen].to_csv(own / "shown.csv", index=False)
    entry = {"name": "own", "path": str(own), "rating": {"at_least": 4}}
    entry = {"run": "own", "datasets": [entry], "losses": ["ccl", "debiased_ccl"]}
    entry |= {"linear": [], "seeds": [0, 1], "device": "cpu", "threads": 1, "grids": []}
    entry |= {"settings": {"max_epochs": 2, "negatives": 8, "dim": 8, "batch_size": 64}}
    entry |= {"ablations": [], "inflation": {}, "protocol": "heldout"}
    (folder / "own.yaml").write_text(yaml.safe_dump(entry))
    made = [f"results/own/tables/{name}.csv" for name in ("shown", "claims")]
    call = ["--cores", 1, "--configfile", "own.yaml", "--", *made]
    snakemake(folder, *call)
    rows = pd.read_csv(folder / "results/own/data/own/shown.csv")
    models = {"ccl": 2, "debiased_ccl": 2, "popularity": 1, "random": 1}
    assert rows.groupby("loss")["seed"].nunique().to_dict() == models
    liked = ratings[~chosen].assign(liked=lambda frame: frame["rating"] >= 4)
    of_user = liked.groupby("user")["liked"].mean()
    assert rows["auc"].notna().sum() == 6 * ((of_user > 0) & (of_user < 1)).sum()
    table = pd.read_csv(folder / "results/own/tables/shown.csv").set_index("loss")
    assert table["auc gain"].notna().sum() == 1
    assert table.loc["ccl", "validation recall@20"] > 0
    claims = pd.read_csv(folder / "results/own/tables/claims.csv")
    assert {"auc", "ndcg@5"} <= set(claims.loc[claims["claim"] == "C5", "metric"])
    assert untouched(snakemake(folder, *call))
    flags = ["-n", *call]
    (folder / "report/captions/shown.rst").write_text("Other words.\n")
    assert untouched(snakemake(folder, *flags))
    judge = folder / "src/recloss/analysis/shown.py"
    judge.write_text(judge.read_text() + "\n# changed\n")
    again = jobs(snakemake(folder, *flags))
    assert again["shown"] == again["summaries"] == 1 and "train" not in again
