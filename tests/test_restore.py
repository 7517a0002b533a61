"""Published runs, taken up again."""

import json

import pytest

from recloss.analysis.vectors import read_vectors
from recloss.experiment.finished import FILES
from recloss.experiment.restore import published_rows, restore
from recloss.files import ReclossError

WANTED = {"settings": {"dim": 4, "prior": {"rule": "more", "k": 1}}, "data_hash": "d"}
WANTED |= {"code_hash": "c"}


@pytest.fixture
def published(tmp_path):
    """A published folder with the runs `a` and `b`."""
    for path in ("a", "b"):
        folder = tmp_path / "published" / "runs" / path
        folder.mkdir(parents=True)
        for name in FILES:
            (folder / name).write_text(f"{path} {name}")
        (folder / "metrics.json").write_text(json.dumps(WANTED))
    return tmp_path / "published"


def test_runs_of_the_same_settings_data_and_code_are_taken(published, tmp_path):
    results = tmp_path / "results"
    wanted = {"a": WANTED, "b": WANTED, "c": WANTED}
    assert restore(published, results, wanted) == (["a", "b"], [])
    assert (results / "a" / "per_user.npz").read_text() == "a per_user.npz"
    assert restore(published, results, wanted) == ([], [])  # they are there


def test_studies_are_taken_as_runs_are(published, tmp_path):
    folder = published / "runs" / "tune" / "a"
    folder.mkdir(parents=True)
    (folder / "trials.csv").write_text("trial")
    wanted = WANTED | {"over": {"temperature": [0.1, 0.2]}}
    (folder / "study.json").write_text(json.dumps(wanted | {"chosen": {"temperature": 0.1}}))
    results = tmp_path / "results"
    assert restore(published, results, {"tune/a": wanted | {"over": {}}}) == ([], ["tune/a"])
    assert restore(published, results, {"tune/a": wanted}) == (["tune/a"], [])
    assert (results / "tune/a/trials.csv").read_text() == "trial"


def test_certificates_are_taken_as_runs_are(published, tmp_path):
    folder, results = published / "data" / "a", tmp_path / "results"
    folder.mkdir(parents=True)
    (folder / "certificates.csv").write_text("rows")
    assert restore(published, results, {"data/a": WANTED}) == ([], [])  # of what is not known
    (folder / "certificates.json").write_text(json.dumps(WANTED))
    other = WANTED | {"code_hash": "another"}
    assert restore(published, results, {"data/a": other}) == ([], ["data/a"])
    assert restore(published, results, {"data/a": WANTED}) == (["data/a"], [])
    assert (results / "data/a/certificates.csv").read_text() == "rows"


@pytest.mark.parametrize("key", ["settings", "data_hash", "code_hash"])
def test_a_run_that_is_another_is_left(published, tmp_path, key):
    wanted = {"a": WANTED | {key: "another"}, "b": WANTED}
    assert restore(published, tmp_path / "results", wanted) == (["b"], ["a"])


@pytest.fixture
def taken(tmp_path):
    """A published experiment with the bounds of two models, and a run taken from it."""
    inner = "train/small/mf/mine/base/seed0"
    published, run = tmp_path / "published", tmp_path / "results" / inner
    which = {"dataset": "small", "backbone": "mf", "loss": "mine", "variant": "base", "seed": 0}
    for folder in (run, published / "runs" / inner):
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(which))
    (published / "data/small").mkdir(parents=True)
    rows = ["dataset,model,slack", "small,bpr,0.1", "small,mine,0.30", "small,mine,0.4"]
    (published / "data/small/bounds.csv").write_text("\n".join(rows))
    return published, run


def test_a_run_that_was_taken_has_the_published_rows_of_its_vectors(taken, tmp_path):
    published, run = taken
    rows = published_rows(run, [tmp_path / "none", published], "bounds.csv")
    assert rows == [{"dataset": "small", "model": "mine", "slack": s} for s in ("0.30", "0.4")]
    assert published_rows(run, [published], "truth.csv") == []
    assert published_rows(run, [], "bounds.csv") == []


def test_a_run_that_is_not_the_published_one_or_has_vectors_has_none(taken):
    published, run = taken
    (run / "vectors.npz").touch()
    assert published_rows(run, [published], "bounds.csv") == []
    (run / "vectors.npz").unlink()
    (run / "metrics.json").write_text((run / "metrics.json").read_text() + " ")
    assert published_rows(run, [published], "bounds.csv") == []


def test_a_run_without_vectors_says_how_to_get_them(tmp_path):
    with pytest.raises(ReclossError, match=r"has no vectors.npz.*delete its metrics.json to train"):
        read_vectors(tmp_path)
