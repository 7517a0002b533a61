"""Lists and vectors of finished runs: those of evaluation, under the user's own ids."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import REPO, interactions
from pyarrow import parquet

from recloss.__main__ import main
from recloss.data.arrays import load_split, write_arrays
from recloss.data.ids import write_ids
from recloss.data.split import split, write
from recloss.engine import ranking
from recloss.experiment.record import identity
from recloss.files import write_json

RUNS = {
    "mine_plus": ["train", "--loss", "mine_plus"],
    "dot": ["train", "--loss", "infonce", "--rank-by", "inner_product"],
    "bpr": ["train", "--loss", "bpr"],
    "ials": ["linear", "ials", "--dim", 4],
    "ease": ["linear", "ease", "--reg", 5],
    "popularity": ["control", "popularity"],
    "random": ["control", "random"],
}
DEMO = "results/demo/train/demo/mf/mine_plus/base/seed0"
FAST = [
    "--dim",
    8,
    "--batch-size",
    64,
    "--negatives",
    16,
    "--max-epochs",
    3,
    "--learning-rate",
    0.05,
    "--init-std",
    0.1,
]


def recloss(*arguments):
    main(list(map(str, arguments)))


def write_text(path, pairs):
    lines = {}
    for user, item in zip(pairs.users.tolist(), pairs.items.tolist(), strict=True):
        lines.setdefault(user, [str(user)]).append(str(item))
    path.write_text("".join(" ".join(line) + "\n" for line in lines.values()))


@pytest.fixture(scope="module")
def results(small_split, tmp_path_factory):
    """A results folder as the workflow makes it: users with numbers, items with text as ids."""
    folder = tmp_path_factory.mktemp("results") / "shop"
    data = folder / "data" / "small"
    data.mkdir(parents=True)
    for name in ("train", "test"):
        write_text(data / f"{name}.txt", getattr(small_split, name))
    texts = [word for name in ("train", "test") for word in (f"--{name}", data / f"{name}.txt")]
    recloss("prepare", "small", *texts, "--out", data)
    write_ids(data / "users.parquet", pa.array(1000 - np.arange(60)))
    write_ids(data / "items.parquet", pa.array([f"item, {i}" for i in range(40)]))
    kept = data / "heldout"
    how = ["--protocol", "heldout", "--validation", 0.1, "--seed", 0]
    files = ["--data", data / "interactions.npz", "--manifest", data / "manifest.json"]
    recloss("split", *files, *how, "--out", kept)
    files = ["--data", kept / "split.npz", "--manifest", kept / "split.json", "--threads", 1]
    for name, (command, *model) in RUNS.items():
        backbone = {"train": "mf"}.get(command, command)
        out = folder / "train" / "small" / backbone / name / "base" / "seed0"
        few = FAST if command == "train" else []
        recloss(command, *model, *files, *few, "--out", out)
    return folder


def run_of(results, name):
    return next((results / "train" / "small").glob(f"*/{name}/base/seed0"))


def lists_of(results, name, out, *arguments):
    recloss("recommend", "--run", run_of(results, name), "--out", out, *arguments, "--threads", 1)
    return pd.read_parquet(out) if out.suffix == ".parquet" else pd.read_csv(out)


def indices(lists):
    """Return the users and items of lists as their indices."""
    return 1000 - lists["user"].to_numpy(), lists["item"].str[6:].astype(int).to_numpy()


def keys(users, items):
    return users.astype(np.int64) * 40 + items


def scores_of(run):
    """The scores of a run by definition, (U, I)."""
    with np.load(run / "vectors.npz") as vectors:
        users, items = vectors["users"].astype(float), vectors["items"].astype(float)
    settings = json.loads((run / "metrics.json").read_text())["settings"]
    if ranking.ranks_by_cosine(settings):
        users, items = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (users, items))
    return users @ items.T


# The lists


@pytest.mark.parametrize("name", [name for name in RUNS if name != "random"])
def test_the_lists_have_the_recall_that_evaluation_found(results, tmp_path, name):
    lists = lists_of(results, name, tmp_path / "recs.parquet")
    test = load_split(results / "data/small/heldout/split.npz").test
    users, items = indices(lists)
    hit = np.isin(keys(users, items), test.keys())
    recall = np.bincount(users[hit], minlength=60) / test.counts()
    metrics = json.loads((run_of(results, name) / "metrics.json").read_text())
    assert recall.mean() == pytest.approx(metrics["recall@20"], abs=1e-7)


@pytest.mark.parametrize("name", ["mine_plus", "dot", "bpr", "ials"])
def test_scores_are_cosines_or_inner_products_and_fall_with_the_rank(results, tmp_path, name):
    lists = lists_of(results, name, tmp_path / "recs.parquet", "--k", 7)
    scores = scores_of(run_of(results, name))[indices(lists)]
    np.testing.assert_allclose(lists["score"], scores, rtol=1e-4, atol=1e-6)
    assert name != "mine_plus" or lists["score"].between(-1, 1).all()
    assert lists["rank"].tolist() == [1, 2, 3, 4, 5, 6, 7] * 60
    by_user = lists["score"].to_numpy().reshape(60, 7)
    assert (np.diff(by_user) <= 0).all()


def test_a_list_has_what_is_left_and_nothing_that_the_model_knew(results, tmp_path):
    parts = load_split(results / "data/small/heldout/split.npz")
    every = set(range(60 * 40))
    known = set(parts.train.keys()) | set(parts.valid.keys())
    lists = lists_of(results, "ials", tmp_path / "recs.parquet", "--k", 100)
    assert sorted(keys(*indices(lists))) == sorted(every - known)
    lists = lists_of(results, "ials", tmp_path / "recs.parquet", "--k", 100, "--leave-out-test")
    assert sorted(keys(*indices(lists))) == sorted(every - known - set(parts.test.keys()))


def test_equal_scores_are_ordered_as_the_items_are(results, tmp_path):
    lists = lists_of(results, "popularity", tmp_path / "recs.parquet", "--k", 40)
    lists["item"] = indices(lists)[1]
    ordered = lists.sort_values(["user", "score", "item"], ascending=[False, False, True])
    assert lists["score"].duplicated().any()
    pd.testing.assert_frame_equal(lists, ordered)


def test_columns_have_the_types_of_the_ids_in_every_format(results, tmp_path):
    lists = lists_of(results, "mine_plus", tmp_path / "recs.parquet")
    types = parquet.read_schema(tmp_path / "recs.parquet")
    assert types.names == ["user", "item", "rank", "score"]
    assert types.types == [pa.int64(), pa.string(), pa.int32(), pa.float32()]
    for name in ("recs.csv", "recs.csv.gz"):
        other = lists_of(results, "mine_plus", tmp_path / name)
        pd.testing.assert_frame_equal(other.astype(lists.dtypes), lists)
    assert (tmp_path / "recs.csv.gz").read_bytes()[:2] == b"\x1f\x8b"


def test_blocks_make_no_difference(results, tmp_path, monkeypatch):
    whole = lists_of(results, "mine_plus", tmp_path / "recs.parquet")
    monkeypatch.setattr(ranking, "BLOCK_VALUES", (7 * 40, 7 * 40))
    monkeypatch.setattr("recloss.recommend.lists.ROWS", 300)
    blocked = lists_of(results, "mine_plus", tmp_path / "recs.parquet")
    assert parquet.ParquetFile(tmp_path / "recs.parquet").num_row_groups > 1
    pd.testing.assert_frame_equal(blocked, whole, rtol=1e-5)


def test_the_lines_of_the_page_work(results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "users.txt").write_text("951\n")
    page = (REPO / "docs" / "recommend.md").read_text()
    for line in re.findall(r"^recloss (.*)$", page, re.M):
        words = line.replace(DEMO, str(run_of(results, "mine_plus"))).split()
        assert words != line.split()
        recloss(*words)
    exec(re.search(r"```python\n(.*?)```", page, re.S)[1], names := {})
    assert len(names["recs"]) == 60 * 20
    first = pd.read_csv("recs.csv").loc[0]
    assert (first["user"], first["rank"]) == (951, 1)
    assert names["top"].index.tolist() == list(range(1000, 940, -1))
    assert len(pd.read_parquet("vectors/items.parquet")) == 40


# The users


@pytest.mark.parametrize("name", ["mine_plus", "ease", "popularity"])
def test_chosen_users_get_their_lists_in_the_order_of_the_file(results, tmp_path, name):
    whole = lists_of(results, name, tmp_path / "all.parquet").set_index("user")
    (tmp_path / "users.txt").write_text("0970\r\n1000\n\n 941\n970\n")
    lists = lists_of(results, name, tmp_path / "recs.csv", "--users", tmp_path / "users.txt")
    expected = whole.loc[[970, 1000, 941]].reset_index()
    pd.testing.assert_frame_equal(lists.astype(expected.dtypes), expected, rtol=1e-5)


def test_text_ids_are_matched_as_text(results, tmp_path):
    data = shutil.copytree(results / "data" / "small", tmp_path / "data")
    write_ids(data / "users.parquet", pa.array([f"0{i} ü" for i in range(60)]))
    (tmp_path / "users.txt").write_text("03 ü\n00 ü\n", encoding="utf-8")
    chosen = ["--data", data, "--users", tmp_path / "users.txt", "--k", 1]
    lists = lists_of(results, "mine_plus", tmp_path / "recs.parquet", *chosen)
    assert lists["user"].tolist() == ["03 ü", "00 ü"]
    (tmp_path / "users.txt").write_text("03 ü\n3 ü\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="no user '3 ü'; 1 of its 2 ids are unknown"):
        lists_of(results, "mine_plus", tmp_path / "recs.parquet", *chosen)


# Memory


def made(folder, n_users, n_items):
    """Write a run of random vectors; return how its lists are called for."""
    rng = np.random.default_rng(0)
    pairs = [(user, user % n_items) for user in range(n_users)]
    both = (interactions(some, n_users, n_items) for some in (pairs, []))
    manifest = write(folder, split(*both, "published"), "made", "published", 0.1, 0)
    tables = {}
    for name, count in (("users", n_users), ("items", n_items)):
        write_ids(folder / f"{name}.parquet", pa.array(np.arange(count)))
        tables[name] = rng.normal(size=(count, 8)).astype(np.float32)
    write_arrays(folder / "vectors.npz", tables)
    settings = {"score": "cosine"}
    write_json(folder / "metrics.json", identity(manifest, "mf", "mine", "base", 0, settings, ""))
    return ["recommend", "--run", folder, "--data", folder, "--out", folder / "recs.parquet"]


PEAKS = """
import resource, sys
from recloss.__main__ import main
for call in (sys.argv[1:9], sys.argv[9:]):
    main(call)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def test_memory_does_not_grow_with_users_times_items(tmp_path):
    """A block is 4194 users of 4000 items."""
    calls = [[*made(tmp_path / str(n), n, 4000), "--k=5"] for n in (5000, 25_000)]
    command = [sys.executable, "-c", PEAKS, *map(str, calls[0] + calls[1])]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    few, many = map(int, done.stdout.split())
    assert many - few < 4 * 4000 * 20_000 / 5  # of what all scores take


# The vectors


@pytest.mark.parametrize("name", ["mine_plus", "dot", "bpr", "ials"])
def test_inner_products_of_exported_vectors_rank_as_the_lists_do(results, tmp_path, name):
    recloss("export", "--run", run_of(results, name), "--out", tmp_path)
    users, items = (parquet.read_table(tmp_path / f"{n}.parquet") for n in ("users", "items"))
    width = 4 if name == "ials" else 8
    assert users.schema.names == items.schema.names == ["id", "vector"]
    assert users.schema.field("vector").type == pa.list_(pa.float32(), width)
    assert users["id"].to_pylist() == list(range(1000, 940, -1))
    assert items["id"].to_pylist() == [f"item, {i}" for i in range(40)]
    tables = [np.stack(table["vector"].to_numpy()) for table in (users, items)]
    if name == "mine_plus":
        for table in tables:
            np.testing.assert_allclose(np.linalg.norm(table, axis=1), 1, rtol=1e-6)
    scores = tables[0] @ tables[1].T
    lists = lists_of(results, name, tmp_path / "recs.parquet", "--k", 40)
    rows, columns = indices(lists)
    np.testing.assert_allclose(scores[rows, columns], lists["score"], rtol=1e-4, atol=1e-6)
    known = np.ones((60, 40), bool)
    known[rows, columns] = False
    order = np.argsort(-np.where(known, -np.inf, scores), axis=1, kind="stable")
    left = (~known).sum(1)
    ranked = np.concatenate([row[:n] for row, n in zip(order, left, strict=True)])
    # Rounding may swap neighbours whose scores are all but equal, no others.
    swapped = ranked != columns
    np.testing.assert_allclose(
        scores[rows, ranked][swapped], lists["score"][swapped], rtol=1e-4, atol=1e-6
    )
    assert swapped.mean() < 0.01


# The faults


def one_line(call, said):
    """Refuse a call as the command line does, by one line that says `said`."""
    with pytest.raises(SystemExit) as stopped:
        recloss(*call)
    line = str(stopped.value)
    assert line.startswith("error: ") and "\n" not in line
    assert said in line


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("mine_plus", ["--k", 0], "--k 0: a list has at least one item; take --k 20"),
        ("mine_plus", ["--out", "recs.txt"], "recs.txt: unknown suffix; take one of .parquet"),
        ("mine_plus", ["--out", "file/recs.csv"], "file/recs.csv: cannot be written: "),
        ("mine_plus", ["--users", "none.txt"], "none.txt: No such file"),
        ("mine_plus", ["--users", "blank.txt"], "blank.txt: names no user"),
        ("mine_plus", ["--users", "wrong.txt"], "no user '1_0'; 4 of its 5 ids are unknown"),
        ("mine_plus", ["--users", "latin.txt"], "latin.txt: not UTF-8"),
        ("mine_plus", ["--data", "none"], "give the run's data with --data"),
        ("random", [], "a random order recommends nothing"),
    ],
)
def test_what_cannot_be_recommended_is_one_line(
    results, tmp_path, monkeypatch, name, arguments, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "wrong.txt").write_text("1000\n1_0\n9" + "9" * 18 + "\n" + "9" * 5000 + "\nx\n")
    (tmp_path / "latin.txt").write_bytes(b"\xfc\n")
    before = sorted(tmp_path.iterdir())
    call = ["recommend", "--run", run_of(results, name), "--out", "recs.parquet", *arguments]
    one_line(call, said)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["ease", "popularity", "random"])
def test_models_without_vectors_export_none(results, tmp_path, name):
    one_line(
        ["export", "--run", run_of(results, name), "--out", tmp_path], f"{name} has no vectors"
    )


def test_ids_are_not_overwritten_by_vectors(results):
    run, data = run_of(results, "mine_plus"), results / "data" / "small"
    one_line(["export", "--run", run, "--out", data], "the ids of the data lie there")
    assert parquet.read_schema(data / "users.parquet").names == ["id"]


@pytest.mark.parametrize("command", ["recommend", "export"])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("no metrics", "metrics.json: No such file or directory; give the folder of a finished"),
        ("metrics no JSON", "metrics.json: holds no JSON"),
        ("no vectors", "has no vectors.npz"),
        ("another place", "name its data with --data"),
        ("foreign split", "not the split of"),
        ("no split", "split.json: No such file or directory; give the run's data with --data"),
        ("no ids", "users.parquet: no such file; make it with recloss prepare"),
        ("few ids", "items.parquet: 3 ids for 40 items"),
    ],
)
def test_a_run_that_is_not_whole_is_one_line(results, tmp_path, command, spoil, said):
    copy = shutil.copytree(results, tmp_path / "shop")
    run, data = run_of(copy, "mine_plus"), copy / "data" / "small"
    if spoil == "no metrics":
        (run / "metrics.json").unlink()
    elif spoil == "metrics no JSON":
        (run / "metrics.json").write_text("{")
    elif spoil == "no vectors":
        (run / "vectors.npz").unlink()
    elif spoil == "another place":
        run = run.rename(tmp_path / "run")
    elif spoil == "foreign split":
        files = ["--data", data / "interactions.npz", "--manifest", data / "manifest.json"]
        how = ["--protocol", "heldout", "--validation", 0.1, "--seed", 1]
        recloss("split", *files, *how, "--out", data / "heldout")
    elif spoil == "no split":
        shutil.rmtree(data / "heldout")
    elif spoil == "no ids":
        (data / "users.parquet").unlink()
    else:
        write_ids(data / "items.parquet", pa.array(["a", "b", "c"]))
    one_line([command, "--run", run, "--out", tmp_path / "recs.parquet"], said)
    assert not (tmp_path / "recs.parquet").exists()


def test_a_split_beside_its_ids_will_do(results, tmp_path):
    data = shutil.copytree(results / "data" / "small", tmp_path / "data")
    for name in ("split.npz", "split.json"):
        (data / "heldout" / name).rename(data / name)
    expected = lists_of(results, "ials", tmp_path / "one.parquet")
    found = lists_of(results, "ials", tmp_path / "other.parquet", "--data", data)
    pd.testing.assert_frame_equal(found, expected)
