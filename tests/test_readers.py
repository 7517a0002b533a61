"""Data of one's own: tables and lists of any ids, what counts as liked, how it is divided."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import failure
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from recloss.data import implicit, parse, prepare, recognise, tables, testset
from recloss.data.files import files_of
from recloss.data.ids import read_ids
from recloss.data.prepare import Division, Reading
from recloss.data.story import story
from recloss.files import ReclossError

ROWS = [("anna", "m1", 5.0, 30), ("björn", "m2", 2.0, 10), ("anna", "m2", 4.0, 20)]
FRAME = pd.DataFrame(ROWS, columns=["user_id", "movie", "stars", "when"])
COLUMNS = {"user": "user_id", "item": "movie", "rating": "stars", "timestamp": "when"}


def rows_of(path, columns=None, header=None):
    """Return the rows of a table as (user, item, rating, time), with all that its layout has."""
    layout = tables.layout_of(path, columns, header)
    having = [role in layout.columns for role in ("rating", "timestamp")]
    found = tables.read_table(path, layout, *having)
    users, items = found.user_ids.to_pylist(), found.item_ids.to_pylist()
    extra = [x.tolist() for x in (found.rating, found.timestamp) if x is not None]
    pairs = [[users[u] for u in found.users], [items[i] for i in found.items]]
    return list(zip(*pairs, *extra, strict=True))


def written(folder, name):
    """Write FRAME in the format of a file's name."""
    path = folder / name
    if name.endswith(".parquet"):
        FRAME.to_parquet(path)
    elif ".inter" in name:
        types = dict(zip(FRAME, ("token", "token", "float", "float"), strict=True))
        named = FRAME.rename(columns={c: f"{c}:{kind}" for c, kind in types.items()})
        named.to_csv(path, sep="\t", index=False)
    else:
        mark = {".tsv": "\t", "semi.csv": ";", "bar.csv": "|"}
        sep = next((mark[end] for end in mark if name.removesuffix(".gz").endswith(end)), ",")
        FRAME.to_csv(path, sep=sep, index=False)
    return path


FORMATS = ["a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz", "a.inter", "a.inter.gz", "a.parquet"]


@pytest.mark.parametrize("name", [*FORMATS, "semi.csv", "bar.csv", "a.data"])
def test_every_format_gives_the_same_ratings(tmp_path, name):
    assert rows_of(written(tmp_path, name), COLUMNS) == ROWS


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf"], ids=["plain", "mark"])
def test_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path, end, begin):
    path = tmp_path / "a.csv"
    path.write_bytes(begin + FRAME.to_csv(index=False).replace("\n", end).encode())
    assert rows_of(path, COLUMNS) == ROWS
    lists = tmp_path / "a.txt"
    lists.write_bytes(begin + f"anna m1 m2{end}björn\tm2 {end}".encode())
    users, items, u, i = parse.read_named(lists)
    assert [users.to_pylist(), items.to_pylist()] == [["anna", "björn"], ["m1", "m2"]]
    assert list(zip(u.tolist(), i.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 1)]


def test_spaces_around_an_id_are_no_part_of_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("user, item\n1, 3\n2,3\nanna , b 1\n")
    found = tables.read_table(path, tables.layout_of(path, {}, None), False, False)
    assert found.user_ids.to_pylist() == ["1", "2", "anna"]
    assert found.item_ids.to_pylist() == ["3", "b 1"]
    assert found.items.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("userId,movieId,rating,timestamp", (0, 1, 2, 3)),
        ("reviewerID;asin;overall;unixReviewTime", (0, 1, 2, 3)),
        ("User-ID;ISBN;Book-Rating", (0, 1, 2, None)),
        ("date\tbusiness_id\tuser_id\tstars", (2, 1, 3, 0)),
        ("user_id:token\titem_id:token", (0, 1, None, None)),
    ],
)
def test_columns_are_guessed_from_the_header(tmp_path, header, found):
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n" + "\t".join("1234")[: 2 * header.count("\t") + 1] + "\n")
    if "\t" not in header:
        mark = ";" if ";" in header else ","
        path.write_text(f"{header}\n{mark.join('1234'[: header.count(mark) + 1])}\n")
    columns = tables.layout_of(path).columns
    roles = ("user", "item", "rating", "timestamp")
    assert tuple(columns.get(role) for role in roles) == found


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("196\t242\t3\t881250949", {"user": 0, "item": 1, "rating": 2, "timestamp": 3}),
        ("0,72,2", {"user": 0, "item": 1, "rating": 2}),
        ("7 9 1300000000", {"user": 0, "item": 1, "timestamp": 2}),
        ("3,4", {"user": 0, "item": 1}),
    ],
)
def test_without_a_header_the_usual_order_holds(tmp_path, row, found):
    path = tmp_path / "u.data"
    path.write_text(f"{row}\n{row}\n")
    layout = tables.layout_of(path)
    assert (layout.header, layout.columns) == (False, found)


def test_columns_may_be_given_by_place_and_the_header_denied(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("b1,anna\nb2,björn\n")
    assert rows_of(path, {"user": 2, "item": 1}) == [("anna", "b1"), ("björn", "b2")]
    path.write_text("item,user\nb2,björn\n")
    assert rows_of(path) == [("björn", "b2")]
    assert rows_of(path, header=False, columns={"user": 2, "item": 1})[0] == ("user", "item")


def test_ids_keep_their_kind_and_come_in_order_of_first_appearance(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("user,item\n1000000,007\n-3,12\n1000000,12\n7,5\n")
    found = tables.read_table(path, tables.layout_of(path))
    assert found.user_ids.equals(pa.array([1000000, -3, 7]))
    assert found.item_ids.to_pylist() == ["007", "12", "5"]  # 007 is no 7
    assert found.users.tolist() == [0, 1, 0, 2]
    categories = pd.Categorical(["z", "a", "z"], categories=["q", "a", "z"])
    pd.DataFrame({"user": categories, "item": [2.0, 1.0, 1.0]}).to_parquet(tmp_path / "a.parquet")
    layout = tables.layout_of(tmp_path / "a.parquet")
    found = tables.read_table(tmp_path / "a.parquet", layout)
    assert found.user_ids.to_pylist() == ["z", "a"]
    assert found.item_ids.equals(pa.array([2, 1]))


@settings(deadline=None)
@given(
    ids=st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1)] * 2),
        min_size=1,
    )
)
def test_any_text_is_an_id(tmp_path_factory, ids):
    frame = pd.DataFrame(ids, columns=["user", "item"])
    folder = tmp_path_factory.mktemp("ids")
    frame.to_csv(folder / "a.csv", index=False)
    frame.to_parquet(folder / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        assert [(str(u), str(i)) for u, i in rows_of(folder / name)] == ids


@pytest.mark.parametrize("times", [["2024-01-31", "2024-02-01"], ["2024-01-31 10:00:00"] * 2])
def test_dates_are_times(tmp_path, times):
    frame = pd.DataFrame({"user": [1, 2], "item": [1, 1], "date": times})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.assign(date=pd.to_datetime(frame["date"])).to_parquet(tmp_path / "a.parquet")
    nanoseconds = pd.to_datetime(frame["date"]).astype("datetime64[ns]").astype(int).tolist()
    for name in ("a.csv", "a.parquet"):
        assert [row[2] for row in rows_of(tmp_path / name)] == nanoseconds


FAULTS = {
    "a missing cell": ("user,item,stars\n1,2,3\n1,2\n", "3: 2 columns, the first line has 3"),
    "a cell more": ("user,item\n1,2\n1,2,9\n", "3: 3 columns, the first line has 2"),
    "no user": ("user,item\n1,2\n,2\n", "3: an empty user (column user)"),
    "a blank item": ("user,item\n1,2\n4, \n", "3: an empty item (column item)"),
    "a word for a rating": (
        "user,item,stars\n1,2,3\n1,3,x\n",
        "3: rating 'x' (column stars) is no",
    ),
    "no rating": ("user,item,stars\n1,2,3\n1,3,\n", "3: an empty rating (column stars)"),
    "a rating without end": ("user,item,stars\n1,2,3\n1,3,1e999\n", "3: rating '1e999' (column"),
    "no time": (
        "user,item,date\n1,2,3\n1,3,soon\n",
        "3: timestamp 'soon' (column date) is neither",
    ),
    "one column": ("user\n1\n", "1: 'user' is one column; put commas or tabs between user and"),
    "colons": ("1::1193::5::978300760\n", "1: fields are separated by '::'; put commas there"),
    "a blank first line": ("\nuser,item\n1,2\n", "1: the first line is blank; delete it"),
    "a header alone": ("user,item\n", " no row but the header; fetch or write it again"),
    "unknown names": ("who,what\n1,2\n", " which column is the user? It has who, what; say so as"),
}


@pytest.mark.parametrize(("text", "what"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_line_with_its_place(tmp_path, text, what):
    path = tmp_path / "a.csv"
    path.write_text(text)
    assert failure(rows_of, path).startswith(f"{path}:{what}")


FOREIGN = {
    "gzip under another name": (gzip.compress(b"1,2\n"), "gzip-compressed; name it a.csv.gz"),
    "a zip": (b"PK\x03\x04....", "1: this is a zip archive; unzip it"),
    "UTF-16": ("user,item\n1,2\n".encode("utf-16"), "1: this is UTF-16 text; save it as UTF-8"),
    "UTF-16 without mark": ("a,b\n".encode("utf-16-le"), "1: this is no UTF-8 text; save it as"),
    "Latin-1": ("user,item\n1,2\nbjörn,2\n".encode("latin-1"), "3: this is no UTF-8 text; save"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "1: this is a Git LFS pointer"),
    "a page": (b"\n<!DOCTYPE html>", "1: this is an HTML page, not interactions; delete it"),
    "an error": (b"404: Not Found", "1: this is an error page; delete it and fetch again"),
    "JSON": (b'{"user": 1}\n', "1: this is JSON; write it as CSV or Parquet"),
    "Parquet": (b"PAR1....", "1: this is Parquet; name it .parquet"),
    "nothing": (b"\n \n", "1: the file is empty; delete it, and fetch or write it again"),
}


@pytest.mark.parametrize("suffix", [".csv", ".txt"])
@pytest.mark.parametrize(("content", "what"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_something_else_is_named(tmp_path, content, what, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    function = parse.read_named if suffix == ".txt" else rows_of
    message = failure(function, path).removeprefix(f"{path}:").lstrip()
    assert message.startswith(what.replace("a.csv", path.name))


def test_names_that_lie_are_named(tmp_path):
    for name, content, what in (
        ("a.csv.gz", b"1,2\n", "not gzip-compressed; leave .gz out of its name"),
        ("b.csv.gz", gzip.compress(b"1,2\n" * 999)[:-9], "broken gzip; fetch or compress it again"),
        ("a.parquet", b"PAR1....", "this is broken Parquet; fetch or write it again"),
        ("b.parquet", b"user,item\n1,2\n", "this is no Parquet; rename it"),
        ("c.parquet", b"<html>", "1: this is an HTML page, not interactions; delete it"),
    ):
        (tmp_path / name).write_bytes(content)
        message = failure(rows_of, tmp_path / name).removeprefix(f"{tmp_path / name}:").lstrip()
        assert message.startswith(what)


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        ({"user": [1.5], "item": [1]}, "a user that is no whole number"),
        ({"user": [None, 1], "item": [1, 1]}, "an empty user"),
        ({"user": [[1]], "item": [1]}, "a user of type list<"),
        ({"user": [1], "item": [1], "stars": ["good"]}, "a cell that is neither a number nor"),
    ],
)
def test_columns_of_parquet_that_are_no_ids_or_numbers_are_refused(tmp_path, frame, what):
    path = tmp_path / "a.parquet"
    pd.DataFrame(frame).to_parquet(path)
    message = failure(rows_of, path)
    assert message.startswith(f"{path}: {what}") and message.endswith("leave such rows out")


BYTES = st.one_of(
    st.binary(max_size=300),
    st.text(st.sampled_from("01 2a,;\t|:\n\r\"'-.eé\0"), max_size=120).map(str.encode),
    st.lists(st.lists(st.sampled_from(["1", "2", "x", "", '"', "5.0", " "]), max_size=4)).map(
        lambda rows: b"user,item,rating\n" + "\n".join(",".join(r) for r in rows).encode()
    ),
)


@settings(max_examples=400, deadline=None)
@given(
    content=BYTES,
    name=st.sampled_from([*FORMATS, "a.txt", "a.txt.gz", "a.dat"]),
    zipped=st.booleans(),
)
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory, content, name, zipped):
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(gzip.compress(content) if zipped else content)
    try:
        found = prepare.from_ratings(path, Reading(at_least=None), Division())
    except ReclossError as error:
        assert "\n" not in str(error) and str(path) in str(error) and "; " in str(error)
    else:
        assert len(found.sets["train"]) and len(found.sets["test"])


def ratings(rows, timed=False):
    """Return (user, item, rating[, time]) as `Ratings`; ids are whole numbers."""
    columns = np.array(rows, float).reshape(len(rows), -1).T
    sides = [pa.array(c.astype(int)).dictionary_encode() for c in columns[:2]]
    codes = [side.indices.to_numpy() for side in sides]
    ids = [side.dictionary for side in sides]
    return tables.Ratings(*codes, *ids, columns[2], columns[3] if timed else None)


def pairs_of(found):
    """Return the pairs by the ids that they had."""
    ids = found.user_ids.to_pylist(), found.item_ids.to_pylist()
    both = zip(found.pairs.users, found.pairs.items, strict=True)
    return [(ids[0][u], ids[1][i]) for u, i in both]


def test_a_pair_rated_again_keeps_its_first_or_last_rating_by_time():
    rows = [(1, 1, 5, 30), (1, 1, 2, 40), (2, 1, 5, 9), (1, 1, 3, 10), (1, 2, 4, 0)]
    timed = ratings(rows, timed=True)
    assert pairs_of(implicit.to_implicit("f", timed, 4, "last")) == [(1, 2), (2, 1)]
    assert pairs_of(implicit.to_implicit("f", timed, 3, "first")) == [(1, 1), (1, 2), (2, 1)]
    by_place = ratings([row[:3] for row in rows])
    assert pairs_of(implicit.to_implicit("f", by_place, 5, "first")) == [(1, 1), (2, 1)]
    assert pairs_of(implicit.to_implicit("f", by_place, 3, "last")) == [(1, 1), (1, 2), (2, 1)]
    counts = implicit.to_implicit("f", timed, 4).counts
    assert (counts["rows"], counts["duplicates"], counts["rated lower"]) == (5, 2, 1)


def test_a_threshold_that_nothing_reaches_says_what_is_highest():
    message = failure(implicit.to_implicit, "f.csv", ratings([(1, 1, 3.5)]), 4)
    assert message == "f.csv: no rating is at least 4; the highest is 3.5; lower at_least"


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), min_size=1, unique=True),
    st.integers(1, 4),
)
def test_the_core_is_the_largest_part_with_enough_of_everything(pairs, core):
    users, items = np.array(pairs).T
    kept = {p for p, k in zip(pairs, implicit.in_core(users, items, core), strict=True) if k}
    expected = set(pairs)
    while True:  # one at a time, in any order
        weak = [
            (side, x)
            for side in (0, 1)
            for x in {p[side] for p in expected}
            if sum(p[side] == x for p in expected) < core
        ]
        if not weak:
            break
        expected = {p for p in expected if p[weak[0][0]] != weak[0][1]}
    assert kept == expected


def test_what_the_core_leaves_out_is_counted():
    rows = [(u, i, 5) for u in range(3) for i in range(3)] + [(7, 0, 5), (8, 9, 5)]
    found = implicit.to_implicit("f", ratings(rows), core=3)
    assert (found.user_ids.to_pylist(), found.item_ids.to_pylist()) == ([0, 1, 2], [0, 1, 2])
    counts = {key: n for key, n in found.counts.items() if key.endswith("outside core")}
    assert list(counts.values()) == [2, 2, 1]
    assert "no 4-core" in failure(implicit.to_implicit, "f", ratings(rows), core=4)


def taste(n_users=300, n_items=60, timed=True, seed=0):
    """Return pairs with skewed popularity and, perhaps, times."""
    rng = np.random.default_rng(seed)
    chance = 0.6 / (1 + np.arange(n_items)) ** 0.6
    users, items = np.nonzero(rng.random((n_users, n_items)) < chance)
    columns = [users, items, np.full(len(users), 5)]
    rows = np.stack([*columns, rng.integers(0, 400, len(users))], axis=1)
    rng.shuffle(rows)
    return implicit.to_implicit("f", ratings(rows, timed))


@pytest.mark.parametrize("by", testset.WAYS)
def test_a_division_is_a_partition_that_its_seed_alone_decides(by):
    found = taste()
    for seed in (0, 1):
        parts = [testset.divide("f", found, by, 0.2, 0.1, seed)[:3] for _ in "ab"]
        for one, other in zip(*parts, strict=True):
            assert (one is None and other is None) or np.array_equal(one.keys(), other.keys())
        train, test, valid = parts[0]
        assert not np.isin(test.keys(), train.keys()).any()
        assert by == "time" or len(train) + len(test) == len(found.pairs)
        if valid is not None:
            assert np.isin(valid.keys(), train.keys()).all() and 0 < len(valid) < len(train) / 4
            rest = train.select(~np.isin(train.keys(), valid.keys()))
            assert (rest.counts()[train.counts() > 1] > 0).all() or by == "time"
        assert by == "time" or (train.counts()[found.pairs.counts() > 0] > 0).all()
    other = testset.divide("f", found, by, 0.2, 0.1, 1)[1]
    first = testset.divide("f", found, by, 0.2, 0.1, 0)[1]
    assert np.array_equal(first.keys(), other.keys()) == (by in ("leave_one_out", "time"))


def test_leave_one_out_takes_the_last_by_time_then_by_place():
    rows = [
        (1, 10, 5, 3),
        (1, 11, 5, 9),
        (1, 12, 5, 9),
        (2, 10, 5, 0),
        (3, 11, 5, 2),
        (3, 12, 5, 1),
    ]
    found = implicit.to_implicit("f", ratings(rows, timed=True))
    _, test, valid, _ = testset.divide("f", found, "leave_one_out")
    items = found.item_ids.to_pylist()
    assert [(u, items[i]) for u, i in zip(test.users, test.items, strict=True)] == [
        (0, 12),
        (2, 11),
    ]
    assert [(u, items[i]) for u, i in zip(valid.users, valid.items, strict=True)] == [(0, 11)]


def test_a_split_by_time_has_no_test_before_train_and_nobody_new():
    found = taste()
    train, test, valid, counts = testset.divide("f", found, "time", 0.2, 0.1)
    when = dict(zip(found.pairs.keys(), found.when, strict=True))
    times = [np.array([when[key] for key in part.keys().tolist()]) for part in (train, valid, test)]
    rest = np.setdiff1d(train.keys(), valid.keys())
    assert max(when[key] for key in rest) <= times[1].min()
    assert times[0].max() < times[2].min()
    fit = train.select(~np.isin(train.keys(), valid.keys()))  # of protocol heldout
    for held in (test, valid):
        assert (fit.counts()[held.users] > 0).all() and (fit.item_counts()[held.items] > 0).all()
    new = counts["test pairs new to train"]
    assert len(test) + new == pytest.approx(0.2 * len(found.pairs), rel=0.1)
    assert len(train) + len(test) + sum(counts.values()) == len(found.pairs)


def test_times_are_asked_for_where_they_are_needed():
    for by in ("time", "leave_one_out"):
        message = failure(testset.divide, "f", taste(timed=False), by)
        assert message.startswith(f"f: a split by {by} needs times: say which column has them")


def test_in_a_balanced_test_set_items_are_equally_often_and_popularity_does_not_win():
    found = taste(3000, 60)
    popularity = found.pairs.item_counts()
    train, test, _, _ = testset.divide("f", found, "balanced", 0.1)
    assert len(test) == pytest.approx(0.1 * len(found.pairs), rel=0.01)
    given = test.item_counts()
    level = given.max()
    assert (given[popularity > 2 * level] >= level - 1).all()
    assert (train.item_counts() > 0).all()

    def popular_hits(train, test):
        top = np.argsort(-train.item_counts())[:10]
        return np.isin(test.items, top).mean()

    by_share = testset.divide("f", found, "share", 0.1)[:2]
    assert popular_hits(*by_share) > 0.4
    assert popular_hits(train, test) == pytest.approx(10 / 60, abs=0.02)


def made(folder, **files):
    """Write files of a data set; return their folder."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def by_id(found, name):
    """Return a set's pairs by the user's own ids."""
    users, items = found.user_ids.to_pylist(), found.item_ids.to_pylist()
    part = found.sets[name]
    return {(users[u], items[i]) for u, i in zip(part.users, part.items, strict=True)}


def test_given_files_share_their_ids_whatever_their_formats(tmp_path):
    folder = made(tmp_path / "d", train_txt="7 a b\n900000 c\n", test_csv="user,item\n900000,a\n")
    found = prepare.from_sets(files_of(folder), Reading())
    assert found.user_ids.equals(pa.array([7, 900000]))  # no phantom users between them
    assert by_id(found, "train") == {(7, "a"), (7, "b"), (900000, "c")}
    assert by_id(found, "test") == {(900000, "a")}


def test_lists_may_be_divided_and_have_a_core(tmp_path):
    path = tmp_path / "lists.txt"
    path.write_text(
        "".join(f"u{u} {' '.join(f'i{i}' for i in range(8))}\n" for u in range(4)) + "x i0\n"
    )
    found = prepare.from_ratings(path, Reading(core=3), Division())
    assert found.user_ids.to_pylist() == ["u0", "u1", "u2", "u3"]
    assert (len(found.sets["train"]), len(found.sets["test"])) == (28, 4)
    assert found.source["counts"]["users outside core"] == 1


@pytest.mark.mirror
def test_a_published_table_cut_short_is_refused(mirror, tmp_path):
    files = {"train": mirror / "coat" / "user.txt", "shown": tmp_path / "random.txt"}
    lines = (mirror / "coat" / "random.txt").read_text().splitlines()
    files["shown"].write_text("\n".join(lines[:1000]))
    message = failure(prepare.from_sets, files, Reading(at_least=4), "coat")
    assert "rows with the other files, not 11600; one is truncated or another version" in message
    files["shown"] = mirror / "coat" / "random.txt"
    found = prepare.from_sets(files, Reading(at_least=4), "coat")
    assert {name: len(part) for name, part in found.sets.items()} == {
        "train": 1905,
        "test": 769,
        "shown": 4549,
    }


def test_a_given_validation_file_is_a_part_of_what_is_trained_on(tmp_path):
    files = {"train_txt": "u a b\nv c d\n", "test_txt": "u c\n", "valid_txt": "v a\n"}
    found = prepare.from_sets(files_of(made(tmp_path / "d", **files)), Reading())
    assert by_id(found, "valid") == {("v", "a")}
    assert by_id(found, "train") == {("u", "a"), ("u", "b"), ("v", "c"), ("v", "d"), ("v", "a")}


def test_a_published_validation_file_must_be_a_part_of_train(tmp_path):
    texts = {"train_txt": "0 0 1\n1 2\n", "test_txt": "0 2\n", "valid_txt": "0 1\n"}
    files = files_of(made(tmp_path / "d", **texts))
    found = prepare.from_indices(files)
    assert by_id(found, "valid") == {(0, 1)}
    assert by_id(found, "train") == {(0, 0), (0, 1), (1, 2)}
    files["valid"].write_text("0 1\n1 1\n")
    message = failure(prepare.from_indices, files)
    assert message == f"{files['valid']}:2: a pair that {files['train']} has not; fetch again"


def test_of_items_shown_at_random_the_liked_are_the_test_and_the_trained_go(tmp_path):
    files = {"train_csv": "1,1,5\n1,2,2\n2,3,4\n", "shown_csv": "1,1,5\n1,3,4\n2,1,2\n2,2,5\n"}
    found = prepare.from_sets(files_of(made(tmp_path / "d", **files)), Reading(at_least=4))
    assert by_id(found, "train") == {(1, 1), (2, 3)}
    assert by_id(found, "shown") == {(1, 3), (2, 1), (2, 2)}
    assert by_id(found, "test") == {(1, 3), (2, 2)}
    assert found.source["counts"]["shown but trained on"] == 1


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"train_txt": "1 2\n"}, "no test.* in this folder; its suffix is .txt, .csv"),
        ({"test_txt": "1 2\n"}, "no train.* in this folder"),
        ({"train_txt": "1 2\n", "train_csv": "1,2\n"}, "has train.csv and train.txt; keep one"),
        (
            {"train_txt": "1 2\n", "test_txt": "1 3\n", "shown_csv": "1,3,4\n"},
            "has test.txt and shown.csv; of what is shown",
        ),
        ({}, "no train.* in this folder"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused(tmp_path, files, what):
    folder = made(tmp_path / "d", **files)
    assert failure(files_of, folder).startswith(f"{folder}: {what}")
    assert "no such file or folder" in failure(files_of, tmp_path / "none")


def test_a_pair_in_train_and_test_is_refused_by_its_own_ids(tmp_path):
    folder = made(tmp_path / "d", train_txt="anna b1\n", test_txt="anna b1 b2\n")
    message = failure(prepare.from_sets, files_of(folder), Reading())
    where = f"{folder / 'test.txt'}: user anna has item b1 in {folder / 'train.txt'} too"
    assert message == f"{where}; delete it from one of them"


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"train_csv": "1.0,10\n", "test_csv": "1,10\n"}, "none of its users is in"),
        ({"train_csv": "1,10\n", "test_csv": "1,x10\n"}, "none of its items is in"),
        ({"train_csv": "1,2,5\n2,3,5\n", "shown_csv": "1,2,5\n1,3,1\n"}, "no pair is left to"),
    ],
)
def test_a_test_set_that_has_nothing_to_do_with_train_is_refused(tmp_path, files, what):
    folder = made(tmp_path / "d", **files)
    judged = folder / ("shown.csv" if "shown_csv" in files else "test.csv")
    rating = 4 if "shown_csv" in files else None
    message = failure(prepare.from_sets, files_of(folder), Reading(at_least=rating))
    assert message.startswith(f"{judged}: {what}")


def command(*arguments):
    done = [sys.executable, "-m", "recloss", "prepare", *map(str, arguments)]
    return subprocess.run(done, capture_output=True, text=True)


def test_the_command_writes_ids_beside_the_arrays_and_says_how_it_read(tmp_path):
    path = tmp_path / "r.csv"
    frame = pd.DataFrame({"who": np.repeat(["a", "b", "c"], 8), "what": [*range(100, 108)] * 3})
    frame.assign(stars=[5, 4, 3, 5, 4, 4, 5, 5] * 3).to_csv(path, index=False)
    columns = ["--columns", "user=who", "item=what", "rating=stars"]
    out = tmp_path / "out"
    done = command("mine", "--ratings", path, *columns, "--at-least", 4, "--core", 3, "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert read_ids(out / "users.parquet").to_pylist() == ["a", "b", "c"]
    assert read_ids(out / "items.parquet").to_pylist() == [100, 101, 103, 104, 105, 106, 107]
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["n_users"], manifest["n_items"], manifest["n_train"]) == (3, 7, 18)
    assert story(manifest["source"]) == (
        "24 rows (text with commas; user who, item what, rating stars); liked are ratings of 4 and "
        "more; 3 rated lower; test set by share of 0.2."
    )


def test_the_command_fails_in_one_line_and_writes_nothing(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("who,what\n1,2\n")
    for flags in ([], ["--columns", "user=who", "item=thing"], ["--columns", "who=user"]):
        done = command("mine", "--ratings", path, *flags, "--out", tmp_path / "out")
        assert done.returncode == 1 and done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_file_is_a_table_by_its_name(tmp_path):
    assert not tables.is_table("a.txt") and not tables.is_table("a.txt.gz")
    assert all(tables.is_table(name) for name in (*FORMATS, "u.data", "ratings"))
    assert recognise.suffix_of("A.CSV.gz") == ".csv"


def test_parquet_keeps_large_numbers(tmp_path):
    table = pa.table({"user": pa.array([2**63 + 5], pa.uint64()), "item": [2**62]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == [(str(2**63 + 5), 2**62)]
