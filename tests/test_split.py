"""Train, validation and test."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recloss.data import arrays, parse, prepare
from recloss.data.arrays import load_split
from recloss.data.interactions import Interactions
from recloss.data.simulate import simulate
from recloss.data.split import split, write
from recloss.experiment.schema import simulation_defaults
from recloss.files import ReclossError


def pairs_of(counts, n_items=100, first=0):
    """Return `counts[u]` items for each user u, from item `first` on."""
    users = np.repeat(np.arange(len(counts)), counts)
    items = np.concatenate([first + np.arange(count) for count in counts])
    return Interactions(users.astype(np.int32), items.astype(np.int32), len(counts), n_items)


TEST = pairs_of([1, 1, 1], first=99)


def test_published_trains_on_everything_and_validates_on_nothing():
    train = pairs_of([3, 0, 20])
    parts = split(train, TEST, "published")
    assert parts.train is train
    assert parts.test is TEST
    assert len(parts.valid) == 0
    assert parts.valid.n_items == 100


def test_heldout_moves_the_floor_of_the_share_and_at_least_one_of_five():
    train = pairs_of([0, 1, 4, 5, 19, 20, 29, 30])
    parts = split(train, TEST, "heldout", validation=0.1)
    assert parts.valid.counts().tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
    assert parts.test is TEST


def test_heldout_leaves_a_train_item_to_each_user_at_the_largest_share():
    parts = split(pairs_of([1, 2, 7, 0]), TEST, "heldout", validation=0.999999999999)
    assert parts.train.counts().tolist() == [1, 1, 1, 0]


def test_heldout_takes_a_share_exactly_despite_rounding():
    assert 0.29 * 100 < 29
    assert len(split(pairs_of([100]), TEST, "heldout", validation=0.29).valid) == 29


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=30),
    validation=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**31),
)
def test_heldout_partitions_the_train_items_of_each_user(counts, validation, seed):
    train = pairs_of([*counts, 10])
    parts = split(train, TEST, "heldout", validation, seed)
    both = np.concatenate([parts.train.keys(), parts.valid.keys()])
    assert np.array_equal(np.sort(both), train.keys())
    assert (np.diff(parts.train.keys()) > 0).all()
    assert (np.diff(parts.valid.keys()) > 0).all()
    n, held = train.counts(), parts.valid.counts()
    assert (parts.train.counts()[n > 0] >= 1).all()
    assert (held[n >= 5] >= 1).all()
    assert (np.abs(held - validation * n) <= 1).all()


def test_the_seed_alone_chooses_the_validation_items():
    train = pairs_of([50] * 20)
    first = split(train, TEST, "heldout", seed=3).valid.keys()
    np.random.default_rng(0).random(10)
    np.random.seed(1)
    other_test = pairs_of([5] * 20, first=90)
    assert np.array_equal(split(train, other_test, "heldout", seed=3).valid.keys(), first)
    assert not np.array_equal(split(train, TEST, "heldout", seed=4).valid.keys(), first)


def test_validation_items_are_drawn_uniformly_from_the_items_of_a_user():
    valid = split(pairs_of([10] * 20_000), TEST, "heldout", validation=0.2).valid
    share = np.bincount(valid.items, minlength=10)[:10] / 20_000
    assert share == pytest.approx(np.full(10, 0.2), abs=0.015)  # five standard errors


def test_the_order_of_items_in_the_file_does_not_matter(tmp_path):
    rows = [f"{user} {' '.join(map(str, range(user + 5)))}" for user in range(30)]
    backwards = [f"{user} {' '.join(map(str, range(user + 5)[::-1]))}" for user in range(30)[::-1]]
    valid = []
    for lines in (rows, backwards):
        (tmp_path / "train.txt").write_text("\n".join(lines))
        train, _ = parse.read(tmp_path / "train.txt")
        valid.append(split(train, TEST, "heldout").valid.keys())
    assert np.array_equal(*valid)


@pytest.mark.parametrize("validation", [0.0, 1.0, -0.1])
def test_heldout_refuses_a_share_that_is_none(validation):
    with pytest.raises(ReclossError, match=f"validation {validation} is not a share between 0"):
        split(pairs_of([9]), TEST, "heldout", validation)


def test_heldout_refuses_users_with_nothing_to_spare():
    with pytest.raises(ReclossError, match="no user has train items to spare for validation"):
        split(pairs_of([1, 4, 2]), TEST, "heldout")


def test_heldout_refuses_a_validation_set_that_came_out_empty():
    empty = pairs_of([0])
    with pytest.raises(ReclossError, match="no pair is left for validation; take a larger share"):
        split(pairs_of([9]), TEST, "heldout", valid=empty)
    assert not len(split(pairs_of([9]), TEST, "published", valid=empty).valid)


def test_an_unknown_protocol_is_refused_with_the_known_ones():
    with pytest.raises(ReclossError, match="unknown protocol 'loo'; take one of published, h"):
        split(pairs_of([9]), TEST, "loo")


def test_written_split_reads_back_and_is_described(tmp_path):
    parts = split(pairs_of([10, 4, 20]), TEST, "heldout", 0.1, seed=5)
    description = write(tmp_path, parts, "mine", "heldout", 0.1, 5)
    assert json.loads((tmp_path / "split.json").read_text()) == description
    assert len(description.pop("data_hash")) == 64
    assert description == {
        "dataset": "mine",
        "n_users": 3,
        "n_items": 100,
        "n_train": 31,
        "n_valid": 3,
        "n_test": 3,
        "density": pytest.approx(37 / 300),
        "users_without_test": int((TEST.counts() == 0).sum()),
        "items_without_train": 100 - len(set(parts.train.items.tolist())),
        "protocol": "heldout",
        "validation": 0.1,
        "seed": 5,
    }
    loaded = load_split(tmp_path / "split.npz")
    for part in ("train", "valid", "test"):
        found, expected = getattr(loaded, part), getattr(parts, part)
        assert np.array_equal(found.keys(), expected.keys())
        assert (found.n_users, found.n_items) == (3, 100)
        assert found.users.dtype == found.items.dtype == np.int32


def test_an_empty_validation_set_reads_back_empty(tmp_path):
    write(tmp_path, split(pairs_of([9, 9, 9]), TEST, "published"), "mine", "published", 0.1, 0)
    assert len(load_split(tmp_path / "split.npz").valid) == 0


def test_load_split_refuses_arrays_that_are_not_split(tmp_path):
    packed = arrays.pack(train=pairs_of([9]), test=TEST)
    arrays.write_arrays(tmp_path / "interactions.npz", packed)
    with pytest.raises(ReclossError, match="has no train and valid and test arrays; delete it"):
        load_split(tmp_path / "interactions.npz")


def run(folder, *flags):
    command = [sys.executable, "-m", "recloss", "split", "--data", folder / "interactions.npz"]
    command += ["--manifest", folder / "manifest.json", *flags]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


@pytest.fixture
def prepared(tmp_path):
    (tmp_path / "train.txt").write_text("0 1 2 3 4 5\n1 0 3\n")
    (tmp_path / "test.txt").write_text("0 0\n1 2\n")
    paths = {name: tmp_path / f"{name}.txt" for name in ("train", "test")}
    prepare.write("mine", prepare.from_indices(paths), paths, tmp_path)
    return tmp_path


def test_command_line_splits_what_prepare_wrote_the_same_way_twice(prepared):
    flags = ("--protocol", "heldout", "--validation", "0.1", "--seed", "7")
    for out in ("a", "b"):
        assert run(prepared, *flags, "--out", prepared / out).returncode == 0
    for name in ("split.npz", "split.json"):
        assert (prepared / "a" / name).read_bytes() == (prepared / "b" / name).read_bytes()
    description = json.loads((prepared / "a" / "split.json").read_text())
    assert (description["dataset"], description["n_valid"], description["seed"]) == ("mine", 1, 7)
    train, test = arrays.read_sets(prepared / "interactions.npz").values()
    expected = split(train, test, "heldout", 0.1, 7)
    found = load_split(prepared / "a" / "split.npz")
    assert np.array_equal(found.valid.keys(), expected.valid.keys())


def test_command_line_refuses_a_manifest_of_other_data(prepared):
    manifest = json.loads((prepared / "manifest.json").read_text())
    (prepared / "manifest.json").write_text(json.dumps(manifest | {"data_hash": "0"}))
    flags = ("--protocol", "published", "--validation", "0.1", "--seed", "0", "--out", prepared)
    result = run(prepared, *flags)
    assert result.returncode == 1
    assert result.stderr == (
        f"error: {prepared}/manifest.json: describes other data than {prepared}/interactions.npz; "
        "prepare both again\n"
    )
    (prepared / "manifest.json").unlink()
    assert run(prepared, *flags).stderr == (
        f"error: {prepared}/manifest.json: no JSON to read; run recloss prepare\n"
    )


def test_simulated_users_keep_a_train_item_and_get_a_validation_item():
    given = {"users": 200, "items": 300, "observed": 10.0}
    simulation = simulate(**simulation_defaults() | given)
    parts = split(simulation.train, simulation.test, "heldout")
    enough = simulation.train.counts() >= 5
    assert enough.sum() > 100
    assert (parts.valid.counts()[enough] >= 1).all()
    assert not np.intersect1d(parts.valid.keys(), parts.test.keys()).size
