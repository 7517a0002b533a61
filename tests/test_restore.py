"""Published runs, taken up again."""

import json

import pytest

from recloss.analysis.vectors import read_vectors
from recloss.experiment.restore import FILES, restore
from recloss.files import ReclossError

WANTED = {"settings": {"dim": 4, "prior": {"rule": "more", "k": 1}}, "data_hash": "d"}
WANTED |= {"code_hash": "c"}


@pytest.fixture
def published(tmp_path):
    """A published folder with the runs `a` and `b`, and what is made from their vectors."""
    for path in ("a", "b"):
        folder = tmp_path / "published" / "runs" / path
        folder.mkdir(parents=True)
        for name in FILES:
            (folder / name).write_text(f"{path} {name}")
        (folder / "metrics.json").write_text(json.dumps(WANTED))
    (tmp_path / "published" / "bounds.csv").write_text("bounds")
    return tmp_path / "published"


def test_runs_of_the_same_settings_data_and_code_are_taken(published, tmp_path):
    results = tmp_path / "results"
    wanted = {"a": WANTED, "b": WANTED, "c": WANTED}
    judged = {"bounds.csv": ["a", "b"], "other.csv": ["a", "c"]}
    assert restore(published, results, wanted, judged) == (["a", "b"], [])
    assert (results / "a" / "per_user.npz").read_text() == "a per_user.npz"
    assert (results / "bounds.csv").exists()
    assert restore(published, results, wanted, judged) == ([], [])  # they are there


def test_studies_are_taken_as_runs_are(published, tmp_path):
    folder = published / "runs" / "tune" / "a"
    folder.mkdir(parents=True)
    (folder / "trials.csv").write_text("trial")
    wanted = WANTED | {"over": {"temperature": [0.1, 0.2]}}
    (folder / "study.json").write_text(json.dumps(wanted | {"chosen": {"temperature": 0.1}}))
    results = tmp_path / "results"
    assert restore(published, results, {"tune/a": wanted | {"over": {}}}, {}) == ([], ["tune/a"])
    assert restore(published, results, {"tune/a": wanted}, {}) == (["tune/a"], [])
    assert (results / "tune/a/trials.csv").read_text() == "trial"


@pytest.mark.parametrize("key", ["settings", "data_hash", "code_hash"])
def test_a_run_that_is_another_is_left(published, tmp_path, key):
    wanted = {"a": WANTED | {key: "another"}, "b": WANTED}
    copied, other = restore(published, tmp_path / "results", wanted, {"bounds.csv": ["a", "b"]})
    assert (copied, other) == (["b"], ["a"])
    assert not (tmp_path / "results" / "bounds.csv").exists()


def test_a_run_without_vectors_says_how_to_get_them(tmp_path):
    with pytest.raises(ReclossError, match=r"has no vectors.npz.*delete its metrics.json to train"):
        read_vectors(tmp_path)
