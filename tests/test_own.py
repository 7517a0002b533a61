"""Data of one's own: what is guessed, said, written and kept, and the run that `make own` makes."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import REPO
from test_workflow import clone, environment

from recloss.__main__ import main
from recloss.experiment import config, own
from recloss.experiment.runs import every_run, studies
from recloss.report.items import items

PAPER = yaml.safe_load((REPO / "config.yaml").read_text())
OWN = yaml.safe_load((REPO / "config" / "own.yaml").read_text())


@pytest.mark.parametrize(
    ("values", "threshold"),
    [
        ([1, 2, 3, 4, 5], 4),
        ([0.5, 3, 4.5, 5], 4),
        ([0, 3, 5], 4),
        ([1, 7, 10], 8),
        ([0, 1], 1),
        ([-1, 1], 1),
        ([1, 1], None),  # implicit feedback: nothing to tell apart
        ([1, 2, 17, 300], None),  # counts
        ([1.2, 3.7, 5], None),  # of no scale of whole or half stars
        ([10, 55, 100], None),
    ],
)
def test_liked_is_the_upper_part_of_a_known_scale(values, threshold):
    assert own.liked_from(np.array(values, float)) == threshold


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/ml-100k.inter", "ml-100k"),
        ("/data/Sales 2024.csv.gz", "Sales-2024"),
        ("/shop/ratings.csv", "shop-ratings"),  # `ratings` might be the name of a rule
        ("/my shop/train.csv", "my-shop-train"),
        ("/data.csv", "my-data"),
        ("/data/amazon-book.csv", "my-amazon-book"),  # a published data set has that name
    ],
)
def test_a_name_is_neither_that_of_a_rule_nor_of_published_data(path, name):
    assert own.name_for(Path(path)) == name


def table(folder, columns="user_id,item_id,rating,timestamp", top=5):
    """Write 40 users who rate 25 of 60 items each 1 to `top` in turn, one pair of them twice."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", item, 1 + at % top, 1000 + at)
        for user in range(40)
        for at, item in enumerate(rng.permutation(60)[:25])
    ]
    frame = pd.DataFrame([*rows, rows[-1]], columns=columns.split(","))
    frame.to_csv(folder / "sales-24.csv", index=False)
    return folder / "sales-24.csv"


def recloss_own(*arguments):
    main(["own", *map(str, arguments)])


def test_what_is_understood_is_said_and_written(tmp_path, capsys):
    data = table(tmp_path)
    recloss_own(data, "--out", tmp_path / "own")
    printed = capsys.readouterr()
    file = tmp_path / "own" / "sales-24.yaml"
    assert printed.out == f"{file}\n"
    # Ratings 1 to 5 in turn over 25 items: 4 and 5 five times each, a fifth of them to test.
    pairs, held = 40 * 10, 40 * 2
    assert f"{pairs} pairs, density {pairs / 40 / 60:.2%}" in printed.err
    assert f"{pairs - held} pairs to train on, 10% of them for validation; {held} to" in printed.err
    assert "1,001 rows (text with commas; user user_id, item item_id" in printed.err
    written = yaml.safe_load(file.read_text())
    full = config.load(PAPER | written)
    assert full["run"] == "sales-24"
    entry = full["datasets"][0]
    columns = {"user": "user_id", "item": "item_id", "rating": "rating", "timestamp": "timestamp"}
    assert entry["columns"] == columns
    assert entry["rating"] == {"at_least": 4}
    assert entry["split"] == {"by": "share", "test_share": 0.2, "seed": 0}
    assert "split {by: time}" in file.read_text()


def test_counts_are_no_scale_and_every_row_is_liked(tmp_path, capsys):
    data = table(tmp_path, "customer_id,sku,stars,when", top=12)
    recloss_own(data, "--out", tmp_path)
    assert "every row counts as liked: stars from 1 to 12 is no scale" in capsys.readouterr().err
    entry = yaml.safe_load((tmp_path / "sales-24.yaml").read_text())["datasets"][0]
    assert "rating" not in entry
    assert entry["columns"] == {"user": "customer_id", "item": "sku", "rating": "stars"}


def test_what_was_changed_in_a_configuration_stays(tmp_path, capsys):
    data = table(tmp_path)
    recloss_own(data, "--out", tmp_path)
    file = tmp_path / "sales-24.yaml"
    changed = file.read_text().replace("at_least: 4", "at_least: 5")
    file.write_text(changed)
    capsys.readouterr()
    recloss_own(data, "--out", tmp_path)
    assert file.read_text() == changed
    said = capsys.readouterr().err
    assert "200 pairs" in said and f"as {file} says; delete it to guess anew" in said


def test_a_configuration_of_other_data_is_not_taken_for_this(tmp_path):
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    out = ["--out", tmp_path / "own"]
    recloss_own(table(tmp_path / "one"), *out)
    other = table(tmp_path / "other")
    with pytest.raises(SystemExit, match=r"is of .*one/sales-24.csv; delete it, or give --name"):
        recloss_own(other, *out)
    recloss_own(other, *out, "--name", "sales-other")
    assert (tmp_path / "own" / "sales-other.yaml").exists()


def test_a_configuration_says_what_is_not_to_be_guessed(tmp_path, capsys):
    data = table(tmp_path, "who,what,how,when")
    with pytest.raises(SystemExit, match="which column is the user\\?"):
        recloss_own(data, "--out", tmp_path)
    assert not (tmp_path / "sales-24.yaml").exists()
    given = {"columns": {"user": "who", "item": "what", "rating": "how"}, "core": 2}
    given |= {"name": "named", "split": {"by": "balanced"}}
    more = {"datasets": [given], "device": "auto", "linear": ["ease"]}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(more))
    recloss_own(data, "--out", tmp_path, "--config", tmp_path / "more.yaml")
    written = yaml.safe_load((tmp_path / "named.yaml").read_text())
    assert set(written) == {"run", "datasets"}  # the rest stands in more.yaml
    expected = given | {"path": str(data), "rating": {"at_least": 4}}
    assert written == {"run": "named", "datasets": [expected]}


def test_ease_is_left_out_where_memory_would_not_do(tmp_path, monkeypatch, capsys):
    data = table(tmp_path)
    monkeypatch.setattr(own, "available_memory", lambda device: 8_000)  # bytes; 30 x 30 need 4,680
    recloss_own(data, "--out", tmp_path)
    assert "without EASE, which takes" in capsys.readouterr().err
    assert yaml.safe_load((tmp_path / "sales-24.yaml").read_text())["linear"] == ["ials"]


def test_every_model_has_the_same_budget():
    full = config.load(PAPER | OWN | {"run": "x", "datasets": [{"name": "x", "path": "x.csv"}]})
    found = list(studies(full))
    models = full["losses"] + full["linear"]
    assert [study.model for study in found] == models
    assert {(s.epochs, s.batch_size) for s in found if s.backbone == "mf"} == {(48, 512)}
    assert {run.loss for run in every_run(full)} == set(models)
    assert full["protocol"] == "heldout"
    assert "debiasing" not in items(full)  # certificates are no part of it
    fewer = config.load(
        PAPER | OWN | {"losses": ["bpr"], "linear": [], "datasets": full["datasets"]}
    )
    assert [study.model for study in studies(fewer)] == ["bpr"]


def make(folder, *arguments):
    """Call make in a clone, with this environment as the one that is installed."""
    command = ["make", f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.installed", "own", *arguments]
    variables = environment(folder)
    for name in ("MAKELEVEL", "MAKEFLAGS"):  # of `make test`: a make within says where it is
        variables.pop(name, None)
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def test_make_own_goes_from_a_table_to_one_sentence(tmp_path):
    folder = clone(tmp_path / "clone")
    (folder / "Makefile").write_text((REPO / "Makefile").read_text())
    data = table(tmp_path)
    quick = {
        "losses": ["bpr", "mine_plus"],
        "linear": ["ease"],
        "seeds": [0],
        "tune": {"trials": 2},
    }
    quick["settings"] = {"max_epochs": 1, "negatives": 5}
    (folder / "quick.yaml").write_text(yaml.safe_dump(quick))
    done = make(folder, f"DATA={data}", "CONFIG=quick.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 users, 60 items, 400 pairs" in done.stderr
    assert "sales-24: 3 training runs after 3 studies to tune them, 0 done" in done.stdout
    results = folder / "results" / "sales-24"
    tuned = yaml.safe_load((results / "tuned.yaml").read_text())["tuned"]["datasets"]["sales-24"]
    trials = {model: entry["trials"] for model, entry in tuned.items()}
    assert trials == {"bpr": 2, "mine_plus": 2, "ease": 2}  # at most two each, of one epoch
    sentence = pd.read_csv(results / "tables" / "advice.csv")["sentence"].item()
    *_, where, claims, last, _ = done.stdout.split("\n")
    assert where == f"The report: {results}/report.html"
    assert claims.startswith("The claims: ") and last == f"sales-24: {sentence}"
    html = (results / "report.html").read_text()
    assert html.index(sentence) < html.index("Do the papers' claims hold?")
    settings = pd.read_csv(results / "metrics.csv").set_index("loss")
    for model, entry in tuned.items():
        for key, value in entry["settings"].items():
            assert settings.loc[model, f"settings.{key}"] == value


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [([], "no data; say whose, as in make own DATA="), (["DATA=no.csv"], "no.csv: no such file")],
)
def test_make_own_without_data_says_so_in_a_line(tmp_path, arguments, fault):
    (tmp_path / "Makefile").write_text((REPO / "Makefile").read_text())
    done = make(tmp_path, *arguments)
    assert done.returncode != 0
    assert re.match(f"error: {re.escape(fault)}", done.stderr)
