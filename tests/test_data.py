"""Fetching, parsing and preparing of interaction data."""

import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import pytest
from conftest import failure
from hypothesis import given
from hypothesis import strategies as st

from recloss.data import arrays, fetch, parse, prepare, sources

TRAIN, TEST = "0 1 2\n1 0 3\n", "0 3\n1 2\n"


@pytest.fixture(autouse=True)
def no_machine_settings(monkeypatch):
    monkeypatch.delenv("RECLOSS_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server():
    """A local server: `pages[path]` is a list of answers, the last of which is repeated.

    An answer is a text, a status, "cut" (half of the announced body) or "hang". `hits` lists the
    paths asked for.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.hits.append(self.path)
            answers = self.server.pages.get(self.path, [404])
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if answer == "hang":
                time.sleep(1)
            elif isinstance(answer, int):
                self.send_error(answer)
            else:
                body = b"0 1 2\n" if answer == "cut" else answer.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body) * (2 if answer == "cut" else 1)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.pages, server.hits = {}, []
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield server
        server.shutdown()


def source(server, file, text):
    """Return a row of data set `small` at home on `server`, whose right content is `text`."""
    md5, sha256 = (hashlib.new(a, text.encode()).hexdigest() for a in ("md5", "sha256"))
    count = sum(len(line.split()) - 1 for line in text.splitlines())
    homes = f"{server.url}/primary/{file}", f"{server.url}/archive/{file}"
    return sources.Source("small", "v1", file, "lists", md5, sha256, 2, 4, count, *homes)


@pytest.fixture
def rows(server):
    return [source(server, "train.txt", TRAIN), source(server, "test.txt", TEST)]


@pytest.fixture
def home(server, rows):
    """Return the server with both files at their primary home."""
    server.pages |= {"/primary/train.txt": [TRAIN], "/primary/test.txt": [TEST]}
    return server


def mirror_folder(folder, train=TRAIN, test=TEST):
    (folder / "small").mkdir(parents=True)
    (folder / "small" / "train.txt").write_text(train)
    (folder / "small" / "test.txt").write_text(test)
    return folder


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def cli(*arguments):
    command = [sys.executable, "-m", "recloss", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_table_holds_complete_data_sets():
    table = sources.table()
    assert {row.dataset: [r.file for r in sources.rows_of(row.dataset)] for row in table} == {
        "amazon-book": ["train.txt", "test.txt"],
        "yelp2018": ["train.txt", "test.txt"],
        "gowalla": ["train.txt", "test.txt"],
        "amazon-cds": ["train.txt", "test.txt"],
        "ml-1m": ["train.txt", "test.txt"],
        "amazon-electronics": ["train.txt", "test.txt"],
        "coat": ["user.txt", "random.txt"],
    }
    for row in table:
        assert re.fullmatch("[0-9a-f]{32}", row.md5)
        assert re.fullmatch("[0-9a-f]{64}", row.sha256) or row.dataset == "amazon-book"
        assert row.version
        assert row.holds == ("ratings" if row.dataset == "coat" else "lists")
        assert min(row.users, row.items, row.interactions) > 0
        for url in filter(None, (row.primary, row.archive)):
            assert url.startswith("https://")
            assert url.endswith(f"/{row.file}")
        assert row.primary and row.primary != row.archive
        first = sources.rows_of(row.dataset)[0]
        assert (row.users, row.items) == (first.users, first.items)
    for column in ("md5", "primary"):
        assert len({getattr(row, column) for row in table}) == len(table)


def test_a_published_validation_set_is_a_part_of_train_that_must_be_asked_for():
    train, valid = sources.rows_of("gowalla", only=["train.txt", "valid.txt"])
    assert 0 < valid.interactions < train.interactions
    assert failure(sources.rows_of, "yelp2018", only=["valid.txt"]) == (
        "yelp2018 has no published valid.txt; it has train.txt, test.txt"
    )


def test_fetch_takes_both_files_from_the_primary_home(home, rows, tmp_path):
    paths = fetch.fetch("small", tmp_path, rows=rows)
    assert paths == [tmp_path / "train.txt", tmp_path / "test.txt"]
    assert [path.read_text() for path in paths] == [TRAIN, TEST]
    assert listing(tmp_path) == ["test.txt", "train.txt"]


def test_fetch_prefers_a_mirror_folder_over_every_url(home, rows, tmp_path):
    fetch.fetch("small", tmp_path / "out", mirror_folder(tmp_path / "mirror"), rows=rows)
    assert (tmp_path / "out" / "train.txt").read_text() == TRAIN
    assert home.hits == []


def test_fetch_takes_the_mirror_from_the_environment(home, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("RECLOSS_MIRROR", str(mirror_folder(tmp_path / "mirror")))
    fetch.fetch("small", tmp_path / "out", mirror="", rows=rows)
    assert (tmp_path / "out" / "test.txt").read_text() == TEST
    assert home.hits == []


def test_fetch_prefers_its_argument_over_the_environment(home, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("RECLOSS_MIRROR", f"{home.url}/environment")
    fetch.fetch("small", tmp_path / "out", mirror_folder(tmp_path / "mirror"), rows=rows)
    assert home.hits == []


def test_fetch_accepts_a_url_as_mirror(server, rows, tmp_path):
    server.pages = {"/m/small/train.txt": [TRAIN], "/m/small/test.txt": [TEST]}
    fetch.fetch("small", tmp_path, f"{server.url}/m/", rows=rows)
    assert server.hits == ["/m/small/train.txt", "/m/small/test.txt"]


def test_fetch_turns_to_the_archive_when_the_primary_home_fails(server, rows, tmp_path):
    server.pages = {"/archive/train.txt": [TRAIN], "/archive/test.txt": [TEST]}
    fetch.fetch("small", tmp_path, rows=rows)
    assert server.hits[:2] == ["/primary/train.txt", "/archive/train.txt"]
    assert (tmp_path / "train.txt").read_text() == TRAIN


def test_fetch_does_without_an_archive(server, rows, tmp_path):
    lone = [rows[0]._replace(archive="")]
    message = failure(fetch.fetch, "small", tmp_path, rows=lone)
    assert message == (
        f"small/train.txt could not be fetched: {server.url}/primary/train.txt: HTTP 404; "
        "set data.mirror or RECLOSS_MIRROR to a folder holding small/train.txt"
    )
    assert server.hits == ["/primary/train.txt"]
    server.pages = {"/primary/train.txt": [TRAIN]}
    fetch.fetch("small", tmp_path, rows=lone)
    assert (tmp_path / "train.txt").read_text() == TRAIN


@pytest.mark.parametrize("in_mirror", [True, False], ids=["mirror", "home"])
def test_fetch_turns_crlf_line_ends_into_lf(server, rows, tmp_path, in_mirror):
    crlf = [text.replace("\n", "\r\n") for text in (TRAIN, TEST)]
    mirror = None
    if in_mirror:
        mirror = tmp_path / "mirror"
        (mirror / "small").mkdir(parents=True)
        for row, text in zip(rows, crlf, strict=True):
            (mirror / "small" / row.file).write_bytes(text.encode())
    else:
        server.pages = {"/primary/train.txt": [crlf[0]], "/primary/test.txt": [crlf[1]]}
    paths = fetch.fetch("small", tmp_path / "out", mirror, rows=rows)
    assert [path.read_bytes() for path in paths] == [TRAIN.encode(), TEST.encode()]
    assert len(server.hits) == (0 if in_mirror else 2)


def test_fetch_brings_a_validation_set_only_when_asked(home, rows, tmp_path):
    home.pages["/mirror/small/valid.txt"] = ["1 3\n"]
    rows = [*rows, source(home, "valid.txt", "1 3\n")]
    fetch.fetch("small", tmp_path, rows=rows)
    assert listing(tmp_path) == ["test.txt", "train.txt"]
    paths = fetch.fetch("small", tmp_path, f"{home.url}/mirror", rows=rows, only=["valid.txt"])
    assert paths[-1] == tmp_path / "valid.txt"
    assert paths[-1].read_text() == "1 3\n"
    assert home.hits[-1] == "/mirror/small/valid.txt"


def test_fetch_names_every_home_with_its_reason_and_leaves_nothing(server, rows, tmp_path):
    server.pages = {"/archive/train.txt": ["0 1 3\n"]}
    message = failure(fetch.fetch, "small", tmp_path / "out", tmp_path / "nowhere", rows=rows)
    found = hashlib.md5(b"0 1 3\n").hexdigest()
    assert message == (
        "small/train.txt could not be fetched: "
        f"{tmp_path}/nowhere/small/train.txt: No such file or directory; "
        f"{server.url}/primary/train.txt: HTTP 404; "
        f"{server.url}/archive/train.txt: wrong checksum (md5 {found}, expected {rows[0].md5}); "
        "set data.mirror or RECLOSS_MIRROR to a folder holding small/train.txt"
    )
    assert listing(tmp_path / "out") == []


def test_fetch_does_not_retry_a_missing_page_or_a_wrong_file(server, rows, tmp_path):
    server.pages = {"/archive/train.txt": ["0 1 3\n"]}
    failure(fetch.fetch, "small", tmp_path, retries=3, rows=rows)
    assert server.hits == ["/primary/train.txt", "/archive/train.txt"]


def test_fetch_retries_a_server_that_is_busy(home, rows, tmp_path):
    home.pages["/primary/train.txt"] = [503, TRAIN]
    fetch.fetch("small", tmp_path, retries=2, rows=rows)
    assert home.hits == ["/primary/train.txt"] * 2 + ["/primary/test.txt"]


def test_fetch_retries_and_reports_a_connection_that_breaks_off(server, rows, tmp_path):
    server.pages = {"/primary/train.txt": ["cut"]}
    message = failure(fetch.fetch, "small", tmp_path, retries=2, rows=rows)
    assert "/primary/train.txt: broke off before its end (attempts: 2);" in message
    assert server.hits.count("/primary/train.txt") == 2
    assert listing(tmp_path) == []


def test_fetch_gives_up_on_a_server_that_hangs(server, rows, tmp_path):
    server.pages = {"/primary/train.txt": ["hang"]}
    message = failure(fetch.fetch, "small", tmp_path, retries=1, timeout=(0.2, 0.2), rows=rows)
    assert "/primary/train.txt: timed out (attempts: 1);" in message


def test_fetch_reports_a_host_that_nobody_listens_on(server, rows, tmp_path):
    unheard = [rows[0]._replace(primary="http://127.0.0.1:9/train.txt")]
    message = failure(fetch.fetch, "small", tmp_path, retries=1, rows=unheard)
    assert "http://127.0.0.1:9/train.txt: no connection (attempts: 1);" in message


def test_fetch_recognises_a_web_page(server, rows, tmp_path):
    server.pages = {"/primary/train.txt": ["\n<!DOCTYPE html><html>Sign in</html>"]}
    message = failure(fetch.fetch, "small", tmp_path, rows=rows)
    assert "/primary/train.txt: an HTML page, not the data;" in message
    assert listing(tmp_path) == []


def test_fetch_verifies_the_sha256_too(home, rows, tmp_path):
    wrong = [rows[0]._replace(sha256="0" * 64)]
    message = failure(fetch.fetch, "small", tmp_path, rows=wrong)
    assert f"wrong checksum (sha256 {rows[0].sha256}, expected {'0' * 64})" in message


def test_fetch_needs_no_sha256_where_none_is_recorded(home, rows, tmp_path):
    fetch.fetch("small", tmp_path, rows=[row._replace(sha256="") for row in rows])
    assert (tmp_path / "test.txt").read_text() == TEST


def test_fetch_keeps_the_whole_train_file_when_test_fails(home, rows, tmp_path):
    home.pages["/primary/test.txt"] = [404]
    assert "small/test.txt could not be fetched" in failure(
        fetch.fetch, "small", tmp_path, rows=rows
    )
    assert listing(tmp_path) == ["train.txt"]


def test_fetch_asks_nobody_for_files_that_are_already_there(home, rows, tmp_path):
    fetch.fetch("small", tmp_path, rows=rows)
    home.hits.clear()
    fetch.fetch("small", tmp_path, rows=rows)
    assert home.hits == []


def test_fetch_replaces_a_file_that_is_not_the_published_one(home, rows, tmp_path):
    (tmp_path / "train.txt").write_text("0 1\n")
    os.link(tmp_path / "train.txt", tmp_path / "before")
    fetch.fetch("small", tmp_path, rows=rows)
    assert (tmp_path / "train.txt").read_text() == TRAIN
    assert (tmp_path / "before").read_text() == "0 1\n"  # replaced whole, never written into


def test_fetch_of_an_unknown_name_lists_the_known_ones_and_the_way_to_own_data(tmp_path):
    message = failure(fetch.fetch, "movies", tmp_path)
    known = "amazon-book, amazon-cds, amazon-electronics, coat, gowalla, ml-1m, yelp2018"
    assert message == (
        f"unknown data set 'movies': known are {known}; "
        "for your own data give `path:` (docs/own-data.md)"
    )


def test_read_sorts_by_user_and_item_and_tells_the_lines(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("2 7 1\n0 3\n1\n")
    found, lines = parse.read(path)
    assert found.users.tolist() == [0, 2, 2]
    assert found.items.tolist() == [3, 1, 7]
    assert lines.tolist() == [2, 1, 1]
    assert (found.n_users, found.n_items) == (3, 8)
    assert found.users.dtype == found.items.dtype == np.int32


@pytest.mark.parametrize(
    "text",
    ["0 1 2\n1 0", "0 1 2\n1 0\n\n \n", "0 1 2\r\n1 0\r\n", " 0\t1  2 \n1 0 \n", "1 0\n0 2 1"],
    ids=["no final newline", "blank end", "carriage returns", "tabs and spaces", "any order"],
)
def test_read_accepts(tmp_path, text):
    path = tmp_path / "train.txt"
    path.write_bytes(text.encode())
    found, _ = parse.read(path)
    assert list(zip(found.users, found.items, strict=True)) == [(0, 1), (0, 2), (1, 0)]


@given(st.dictionaries(st.integers(0, 40), st.sets(st.integers(0, 60), max_size=8), min_size=1))
def test_read_agrees_with_a_plain_parser(tmp_path_factory, rows):
    rows[41] = {61}
    path = tmp_path_factory.mktemp("read") / "train.txt"
    path.write_text("".join(f"{u} {' '.join(map(str, items))}\n" for u, items in rows.items()))
    found, lines = parse.read(path)
    expected = sorted(
        (user, item, line) for line, user in enumerate(rows, 1) for item in rows[user]
    )
    assert list(zip(found.users, found.items, lines, strict=True)) == expected
    assert (found.n_users, found.n_items) == (42, 62)


FAULTS = {
    "a word": ("0 1\n1 x2 3\n", 2, "not an integer: 'x2'; write `user item item ...`"),
    "a fraction": ("0 1\n\n1 2.5\n", 3, "not an integer: '2.5'; write"),
    "commas": ("0,1,2\n", 1, "fields are separated by ','; name it .csv, or use blanks"),
    "colons": ("0 1\n1::2::5\n", 2, "fields are separated by '::'; put commas between fields and"),
    "a control character": ("0 1\n1 \x0b2\n", 2, "control character '\\x0b'; write `user item"),
    "negative": (
        "0 1\n1 4 -3\n",
        2,
        "negative id '-3'; write `user item item ...` with ids from 0",
    ),
    "beyond int32": ("0 1\n1 2147483647\n", 2, "item 2147483647 is out of range; renumber: item"),
    "beyond int64": ("0 99999999999999999999\n", 1, "item 99999999999999999999 is out of range;"),
    "user beyond int32": ("3000000000 1\n", 1, "user 3000000000 is out of range; renumber: user"),
    "an item twice": ("0 1\n1 7 2 7\n", 2, "user 1 has item 7 twice; delete one of them"),
    "a user on two lines": (
        "5 1\n4 1 3\n5 2\n",
        3,
        "user 5 has a second line; join it with line 1",
    ),
    "ratings": (
        "1\t7\t5\n2\t7\t3\n1\t8\t4\n",
        3,
        "user 1 has a second line and every line three columns: ratings, not lists of items; name",
    ),
    "a blank line": ("0 1\n\n1 2\n", 2, "blank line; delete it, or give the user's id"),
    "nothing": ("", 1, "the file is empty; delete it, and fetch or write it again"),
    "blanks": ("\n \n", 1, "the file is empty; delete it"),
    "users only": ("0\n1\n", 1, "no user has an item; write `user item item ...`"),
    "a page": (" <html>", 1, "this is an HTML page, not interactions; delete it and fetch again"),
}


@pytest.mark.parametrize(("text", "line", "what"), FAULTS.values(), ids=FAULTS)
def test_read_refuses(tmp_path, text, line, what):
    path = tmp_path / "train.txt"
    path.write_text(text)
    assert failure(parse.read, path).startswith(f"{path}:{line}: {what}")


def test_read_refuses_ids_beyond_the_declared_counts(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("0 1\n1 4 0\n")
    parse.read(path, n_users=2, n_items=5)
    assert failure(parse.read, path, n_users=2, n_items=4) == (
        f"{path}:2: item 4 is out of range; renumber: item ids run from 0 to 3"
    )
    assert failure(parse.read, path, n_users=1, n_items=5) == (
        f"{path}:2: user 1 is out of range; renumber: user ids run from 0 to 0"
    )


def test_read_names_a_file_that_is_not_there(tmp_path):
    message = failure(parse.read, tmp_path / "none.txt")
    assert message == f"{tmp_path}/none.txt: No such file or directory; give a readable file"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "train.txt").write_text(TRAIN)
    (tmp_path / "test.txt").write_text(TEST)
    return tmp_path / "train.txt", tmp_path / "test.txt"


def test_load_counts_users_and_items_over_both_files(files):
    files[1].write_text("0 9\n4 2\n")
    train, test = parse.load(*files)
    assert (train.n_users, train.n_items) == (test.n_users, test.n_items) == (5, 10)
    assert train.indptr().tolist() == [0, 2, 4, 4, 4, 4]
    assert train.counts().tolist() == [2, 2, 0, 0, 0]
    assert train.density == 4 / 50


def test_load_counts_users_without_items(files):
    files[1].write_text("0 3\n1 2\n2\n")
    assert parse.load(*files)[0].n_users == 3


def test_load_refuses_a_pair_in_train_and_test(files):
    files[1].write_text("1 2 0\n0 3\n")
    assert failure(parse.load, *files) == (
        f"{files[1]}:1: user 1 has item 0 in {files[0]} too; delete it from one of them"
    )


def test_load_accepts_what_is_declared(files, rows):
    train, test = parse.load(*files, declared=rows)
    assert (len(train), len(test), train.n_users, train.n_items) == (4, 2, 2, 4)


@pytest.mark.parametrize(
    ("train", "test", "at", "counts"),
    [
        ("0 1 2\n1 3\n", TEST, 0, "expected 4 interactions, found 3"),
        (TRAIN, "0 3\n", 1, "expected 2 interactions, found 1"),
        ("0 0 1 2 3\n", "0 3 2\n", 0, "expected 2 users, found 1"),
        ("0 0 1\n1 0 1\n", "0 2\n1 2\n", 0, "expected 4 items, found 3"),
    ],
)
def test_load_refuses_other_counts_than_declared(files, rows, train, test, at, counts):
    files[0].write_text(train)
    files[1].write_text(test)
    assert failure(parse.load, *files, declared=rows) == (
        f"{files[at]}: wrong counts: {counts}; the file is truncated or another version: "
        "delete it and fetch again"
    )


def prepared(name, train, test, out, published=False):
    """Prepare two lists of indices; return the manifest."""
    paths = {"train": train, "test": test}
    return prepare.write(name, prepare.from_indices(paths, name if published else None), paths, out)


def test_prepare_writes_arrays_and_a_manifest(files, tmp_path):
    files[0].write_text("0 1 2\n1 0 5\n2 1\n")
    files[1].write_text("0 3\n1 2\n2\n")
    manifest = prepared("mine", *files, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == manifest
    assert re.fullmatch("[0-9a-f]{64}", manifest.pop("data_hash"))
    assert manifest == {
        "dataset": "mine",
        "n_users": 3,
        "n_items": 6,
        "n_train": 5,
        "n_test": 2,
        "density": pytest.approx(7 / 18),
        "users_without_test": 1,
        "items_without_train": 2,  # items 3 and 4
        "sha256": {
            part: hashlib.sha256(path.read_bytes()).hexdigest()
            for part, path in zip(("train", "test"), files, strict=True)
        },
    }
    with np.load(tmp_path / "out" / "interactions.npz") as kept:
        sets = {"train_users", "train_items", "test_users", "test_items"}
        assert set(kept) == sets | {"n_users", "n_items"}
    train, test = arrays.read_sets(tmp_path / "out" / "interactions.npz").values()
    assert train.users.tolist() == [0, 0, 1, 1, 2]
    assert train.items.tolist() == [1, 2, 0, 5, 1]
    assert test.users.tolist() == [0, 1]
    assert test.items.tolist() == [3, 2]
    assert (test.n_users, test.n_items) == (3, 6)
    assert train.users.dtype == test.items.dtype == np.int32


def test_prepare_is_deterministic_to_the_byte(files, tmp_path):
    for out in ("a", "b"):
        prepared("mine", *files, tmp_path / out)
    for name in ("interactions.npz", "manifest.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with zipfile.ZipFile(tmp_path / "a" / "interactions.npz") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_data_hash_follows_the_pairs_and_not_the_text(files, tmp_path):
    before = prepared("mine", *files, tmp_path)
    files[0].write_text("1 3 0\n0 2 1\n\n")
    assert prepared("other", *files, tmp_path)["data_hash"] == before["data_hash"]
    files[0].write_text("0 1 2\n1 0 3 1\n")
    assert prepared("mine", *files, tmp_path)["data_hash"] != before["data_hash"]


def test_prepare_checks_published_counts_only_when_asked(files, tmp_path):
    prepared("gowalla", *files, tmp_path / "out")
    message = failure(prepared, "gowalla", *files, tmp_path / "out2", published=True)
    assert f"{files[0]}: wrong counts: expected 810128 interactions, found 4;" in message
    assert not (tmp_path / "out2").exists()


def test_read_sets_names_a_missing_file(tmp_path):
    message = failure(arrays.read_sets, tmp_path / "interactions.npz")
    assert message == (f"{tmp_path}/interactions.npz: no such file; make it with recloss prepare")


@pytest.mark.parametrize("content", ["text", "half", "other arrays", "pickled"])
def test_read_sets_refuses_what_prepare_did_not_write(files, tmp_path, content):
    path = tmp_path / "interactions.npz"
    prepared("mine", *files, tmp_path)
    if content == "text":
        path.write_text("0 1\n")
    elif content == "half":
        path.write_bytes(path.read_bytes()[:200])
    elif content == "other arrays":
        np.savez(path, n_users=2, n_items=4)
    else:
        packed = arrays.pack(**arrays.read_sets(path))
        np.savez(path, **packed | {"test_items": np.array([{}], object)})
    assert failure(arrays.read_sets, path) == (
        f"{path}: has no train and test arrays; delete it and make it again"
    )


def test_command_line_prepares_and_reports_errors_in_one_line(files, tmp_path):
    arguments = (
        "prepare",
        "mine",
        "--train",
        files[0],
        "--test",
        files[1],
        "--out",
        tmp_path / "o",
        "--indices",
    )
    assert cli(*arguments).returncode == 0
    written = ["interactions.npz", "items.parquet", "manifest.json", "users.parquet"]
    assert listing(tmp_path / "o") == written
    files[0].write_text("0 x\n")
    result = cli(*arguments)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {files[0]}:1: not an integer: 'x';")
    assert result.stderr.count("\n") == 1
    result = cli(*arguments[:-1], "--published")
    assert result.stderr.startswith("error: unknown data set 'mine'")


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("name", "counts"),
    [("gowalla", (29858, 40981, 810128, 217242)), ("yelp2018", (31668, 38048, 1237259, 324147))],
)
def test_published_data_arrives_whole_through_the_command_line(mirror, tmp_path, name, counts):
    result = cli("fetch", name, "--out", tmp_path, "--mirror", mirror)
    assert (result.returncode, result.stderr) == (0, "")
    for row in sources.rows_of(name):
        content = (tmp_path / row.file).read_bytes()
        assert hashlib.md5(content).hexdigest() == row.md5
        assert hashlib.sha256(content).hexdigest() == row.sha256
    files = ("--train", tmp_path / "train.txt", "--test", tmp_path / "test.txt")
    assert cli("prepare", name, *files, "--out", tmp_path, "--published").returncode == 0
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert tuple(manifest[n] for n in ("n_users", "n_items", "n_train", "n_test")) == counts
    assert (manifest["users_without_test"], manifest["items_without_train"]) == (0, 0)


@pytest.mark.mirror
@pytest.mark.parametrize("name", ["amazon-cds", "ml-1m", "amazon-electronics", "coat"])
def test_published_files_hold_what_the_table_says(mirror, tmp_path, name):
    paths = fetch.fetch(name, tmp_path, mirror=mirror)
    for path, row in zip(paths, sources.rows_of(name), strict=True):
        lines = [re.findall(r"\d+", line) for line in path.read_text().splitlines()]
        if row.holds == "ratings":
            assert {rating for _, _, rating in lines} == set("12345")
            lines = [line[:2] for line in lines]
        pairs = {(int(user), int(item)) for user, *items in lines for item in items}
        assert len(pairs) == row.interactions
        assert max(user for user, _ in pairs) < row.users
        assert max(item for _, item in pairs) < row.items


@pytest.mark.mirror
def test_a_published_file_cut_short_is_refused(mirror, tmp_path):
    train, test = mirror / "gowalla" / "train.txt", mirror / "gowalla" / "test.txt"
    cut = tmp_path / "train.txt"
    cut.write_bytes(train.read_bytes()[:3_000_000])
    message = failure(prepared, "gowalla", cut, test, tmp_path / "out", published=True)
    assert f"{cut}: wrong counts: expected 810128 interactions, found 5" in message
