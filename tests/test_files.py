"""Errors of the system in one line, files written whole, folders that one process writes to."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import failure

from recloss import __main__ as command
from recloss.files import atomic, claim, fault, settle


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "no space left on device; free some space"),
        (errno.EROFS, "read-only file system; make it writable"),
        (errno.EACCES, "permission denied; make it writable"),
    ],
)
def test_an_error_of_a_disk_is_one_line_with_place_and_remedy(tmp_path, number, remedy):
    with pytest.raises(OSError) as caught, atomic(tmp_path / "run" / "metrics.json"):
        raise OSError(number, os.strerror(number))  # as a write does, which names no file
    line = fault(caught.value)
    assert line.startswith(f"{tmp_path}/run/metrics.json: {remedy}") and "\n" not in line


def test_an_error_of_memory_says_how_much_was_asked_for():
    for allocate in (lambda: torch.empty(2**58), lambda: bytearray(2**62)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            allocate()
        assert fault(caught.value).startswith("out of memory")
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert " as 4503599.6 GB were asked for" in fault(caught.value)


def test_an_error_of_ours_keeps_its_traceback():
    assert fault(ValueError("no")) is None
    assert fault(RuntimeError("shapes do not fit")) is None
    assert fault(OSError(errno.EBADF, "bad file descriptor")) is None


def test_a_folder_where_a_file_must_go_is_one_line_of_a_command(tmp_path):
    (tmp_path / "at").write_text("a file where a folder must be made")
    few = "--users 20 --items 50 --dim 2 --prior 0.1 --observed 1 --skew 1 --test-fraction 0.2"
    few = [*few.split(), "--seed", "0"]
    with pytest.raises(SystemExit) as end:
        command.main(["simulate", "--out", str(tmp_path / "at" / "below"), *few])
    line = str(end.value)
    assert line.startswith(f"error: {tmp_path}/at") and "give a folder" in line
    assert "\n" not in line


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f".checkpoint.{ended.pid}.pt"
    mine, other = tmp_path / f".checkpoint.{os.getppid()}.pt", tmp_path / ".checkpoint.notes.pt"
    for path in (left, mine, other):
        path.touch()
    with atomic(tmp_path / "checkpoint.pt") as temporary:
        temporary.touch()
    assert not left.exists() and mine.exists() and other.exists()


def test_a_folder_is_one_processes_until_that_ends(tmp_path):
    lock = tmp_path / "logs" / ".lock"
    hold = "import sys, time; from recloss.files import claim; held = claim(sys.argv[1]); "
    hold += "print(flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", hold, str(lock)], stdout=subprocess.PIPE)
    other.stdout.readline()
    message = failure(claim, lock, tmp_path)
    assert f"process {other.pid} is at work in this folder already; wait" in message
    other.send_signal(signal.SIGKILL)
    other.wait()
    claim(lock, tmp_path).close()


def test_a_file_from_the_future_is_of_now_and_others_stay(tmp_path):
    future, past = tmp_path / "run" / "future", tmp_path / "past"
    future.parent.mkdir()
    for path, at in ((future, time.time() + 1e6), (past, 1e9)):
        path.touch()
        os.utime(path, (at, at))
    settle(tmp_path)
    assert future.stat().st_mtime <= time.time() and past.stat().st_mtime == 1e9
