"""The undisturbed runs, and the table of what was tried."""

import csv
import os
import shutil
from pathlib import Path

import pytest
from disturb import DEMO, SMALL, differing, end, finish, half_written
from test_workflow import clone

COLUMNS = ("fault", "tried", "moments", "bytes", "seen")


def undisturbed(factory, config):
    folder = clone(factory.mktemp("undisturbed") / "clone")
    finish(folder, "--configfile", config)
    return folder


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A clone in which the small experiment ran undisturbed."""
    return undisturbed(tmp_path_factory, SMALL)


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A clone in which the demo ran undisturbed."""
    return undisturbed(tmp_path_factory, DEMO)


@pytest.fixture
def folder(tmp_path):
    """A clone in which nothing ran."""
    return clone(tmp_path / "clone")


@pytest.fixture
def finished(small, tmp_path):
    """A clone in which the small experiment ran."""
    return shutil.copytree(small, tmp_path / "clone", symlinks=True)


@pytest.fixture
def started():
    """Processes of disturbed calls, ended with the test."""
    found = []
    yield found
    end(found)


@pytest.fixture
def judge(tmp_path):
    """Compare clones with the undisturbed one, and note the fault in the table of faults."""

    def judged(fault, tried, folders, undisturbed, moments=1, seen=""):
        folders = folders if isinstance(folders, list) else [folders]
        differ = sum(differing(folder, undisturbed) for folder in folders)
        note(fault, tried, moments, differ, seen.replace(f"{tmp_path}/", ""))
        assert differ == 0
        assert [half_written(folder) for folder in folders] == [[]] * len(folders)

    return judged


def note(*row):
    if table := os.environ.get("RECLOSS_FAULTS"):
        new = not Path(table).exists()
        with open(table, "a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([COLUMNS, row] if new else [row])


@pytest.fixture(name="note")
def noting():
    """Note a fault that no whole run was disturbed by: fault, tried, moments, bytes, seen."""
    return note
