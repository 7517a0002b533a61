"""The fork server: a command that it runs ends as one that runs by itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import wait_for

from recloss import forkserver
from recloss.data.split import write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is one on Linux only")
LONG = 10**6  # epochs


@pytest.fixture(scope="module")
def server():
    """A server, with no reason to refuse what this process starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(forkserver.SOCKET, "")  # to be put back
        started = forkserver.start({})
        yield started
        started.stdin.close()
        assert started.wait(30) == 0
        assert not Path(os.environ[forkserver.SOCKET]).parent.exists()


@pytest.fixture
def training(small_split, tmp_path):
    """The command line of a run of some epochs, into a folder."""
    write(tmp_path, small_split, "small", "published", 0.1, 0)
    split = ["--data", tmp_path / "split.npz", "--manifest", tmp_path / "split.json"]

    def command(out, epochs, *more):
        few = ["--dim", 4, "--negatives", 4, "--max-epochs", epochs, "--patience", LONG]
        words = ["train", *split, "--loss", "mine_plus", *few, "--device", "cpu", "--threads", 1]
        return [sys.executable, "-m", "recloss", *map(str, [*words, "--out", out, *more])]

    return command


def run(command, **variables):
    environment = os.environ | variables
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def begin(command, ignored=()):
    """Start a command and return it and the process that runs it, when it trains."""

    def disposed():  # whoever runs the tests may ignore signals, as nohup does
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    mine = {child.pid for child in psutil.Process().children(recursive=True)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    caller = subprocess.Popen(command, **pipes, preexec_fn=disposed)
    assert "first step done" in caller.stderr.readline()
    new = [c for c in psutil.Process().children(recursive=True) if c.pid not in mine]
    (worker,) = (child for child in new if child.pid != caller.pid)
    return caller, worker


def ended(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_run_is_the_same_to_the_bit_and_says_the_same(training, tmp_path, server):
    alone, with_it = tmp_path / "alone", tmp_path / "forked"
    by_itself = run(training(alone, 3), **{forkserver.SOCKET: ""})
    by_server = run(training(with_it, 3))
    assert by_itself.returncode == by_server.returncode == 0
    lines = [done.stderr.split("] ") for done in (by_itself, by_server)]
    assert lines[0][1] == lines[1][1] and len(lines[0]) == len(lines[1]) == 5
    for name in ("vectors.npz", "per_user.npz"):
        assert (alone / name).read_bytes() == (with_it / name).read_bytes()


@pytest.mark.parametrize("variable", [{}, {forkserver.SOCKET: ""}])
def test_a_fault_is_one_line_and_a_status(server, training, tmp_path, variable):
    missing = run(training(tmp_path, 1, "--data", tmp_path / "nothing.npz"), **variable)
    assert missing.returncode == 1 and missing.stdout == ""
    assert missing.stderr.startswith("error: ") and missing.stderr.count("\n") == 1
    wrong = run(training(tmp_path, 1, "--seed", "many"), **variable)
    assert wrong.returncode == 2 and "invalid int value: 'many'" in wrong.stderr
    helped = run([sys.executable, "-m", "recloss", "--help"], **variable)
    assert helped.returncode == 0 and "usage: recloss" in helped.stdout


@pytest.mark.parametrize("variable", [{"OMP_NUM_THREADS": "7"}, {"SLURM_JOB_ID": "1"}])
def test_it_forks_what_it_would_run_alike_and_nothing_else(training, tmp_path, server, variable):
    caller, worker = begin(training(tmp_path / "a", LONG))
    assert worker.ppid() == server.pid
    caller.terminate()
    other = subprocess.Popen(
        training(tmp_path / "b", LONG),
        env=os.environ | variable,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "first step done" in other.stderr.readline()
    wait_for(lambda: not psutil.Process(server.pid).children())
    other.kill()


def test_no_server_no_fork(training, tmp_path):
    done = run(training(tmp_path / "a", 1), **{forkserver.SOCKET: str(tmp_path / "socket")})
    assert done.returncode == 0 and (tmp_path / "a/metrics.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_command_ends_both_by_it(training, tmp_path, server, number):
    caller, worker = begin(training(tmp_path / "a", LONG))
    caller.send_signal(number)
    assert caller.wait(30) == -number
    wait_for(lambda: ended(worker))


def test_an_interrupt_ends_both(training, tmp_path, server):
    caller, worker = begin(training(tmp_path / "a", LONG))
    caller.send_signal(signal.SIGINT)
    assert caller.wait(30) == 128 + signal.SIGINT
    wait_for(lambda: ended(worker))


def test_a_signal_that_is_ignored_ends_neither(training, tmp_path, server):
    caller, worker = begin(training(tmp_path / "a", LONG), [signal.SIGHUP])
    for process in (caller, worker):
        process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert caller.poll() is None and not ended(worker)
    caller.terminate()
    wait_for(lambda: ended(worker))


def test_a_killed_command_leaves_no_process_behind(training, tmp_path, server):
    caller, worker = begin(training(tmp_path / "a", LONG))
    caller.kill()
    wait_for(lambda: ended(worker))


def test_a_killed_process_is_told_in_one_line(training, tmp_path, server):
    caller, worker = begin(training(tmp_path / "a", LONG))
    worker.kill()
    assert caller.wait(30) == 1
    assert caller.stderr.read().splitlines()[-1].startswith("error: the process was killed")


def test_a_killed_run_goes_on_from_its_checkpoint(training, tmp_path, server):
    kept = ["--checkpoint", str(tmp_path / "checkpoint.pt")]
    caller, worker = begin(training(tmp_path / "a", 400, *kept))
    wait_for((tmp_path / "checkpoint.pt").exists)
    caller.kill()
    wait_for(lambda: ended(worker))
    resumed = run(training(tmp_path / "a", 400, *kept))
    assert "resumed after epoch" in resumed.stderr
    assert run(training(tmp_path / "b", 400)).returncode == 0
    with np.load(tmp_path / "a/vectors.npz") as a, np.load(tmp_path / "b/vectors.npz") as b:
        assert all(np.array_equal(a[name], b[name]) for name in a)
