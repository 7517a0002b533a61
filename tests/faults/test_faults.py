"""Faults of machines and people: one clear line, and the next call finishes to the same bytes."""

import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from conftest import wait_for
from disturb import (
    SMALL,
    at_work,
    begin,
    disk,
    errors,
    fill,
    finish,
    processes,
    read_only,
    send,
)
from test_data import server  # noqa: F401
from test_workflow import clone, environment
from torch.utils._python_dispatch import TorchDispatchMode

from recloss import __main__ as command
from recloss import checkpoint
from recloss.data.split import write

pytest_plugins = ["undisturbed"]
CALL = ["--configfile", SMALL]
RUN = Path("results/faults/train/small/mf/mine_plus/base/seed0")
LONG = ["--config", 'settings={"max_epochs": 400, "patience": 400}', "--", RUN / "metrics.json"]
full_run = pytest.mark.faults


def fails(folder, *arguments, **variables):
    """Call snakemake, which must fail; return its faults, a line each."""
    text = finish(folder, *arguments, ok=False, **variables)
    assert "Traceback" not in text, text
    return errors(text)


# What people do


@full_run
def test_control_c_ends_all_and_the_next_call_finishes(small, folder, judge, started):
    call, some = at_work(folder, started, *CALL)
    os.killpg(call.pid, signal.SIGINT)
    assert call.wait(60) != 0
    psutil.wait_procs(some["all"], timeout=20)
    assert not any(process.is_running() for process in some["job"])
    finish(folder, *CALL)
    judge("Ctrl-C", "SIGINT to all processes of a terminal", folder, small)


@full_run
def test_sigterm_to_snakemake_lets_its_jobs_end(small, folder, judge, started):
    call, _ = at_work(folder, started, *CALL)
    call.terminate()
    call.wait(120)
    finish(folder, *CALL)
    judge("SIGTERM to Snakemake", "while jobs ran", folder, small)


@full_run
def test_of_two_calls_in_a_folder_the_second_is_refused(small, folder, judge, started):
    first, _ = at_work(folder, started, *CALL)
    (line,) = fails(folder, *CALL)
    assert "is at work in this folder already" in line and str(first.pid) in line
    assert first.wait(600) == 0
    seen = line.replace(str(first.pid), "4711")
    judge("Two calls at once", "in one folder", folder, small, seen=seen)


# What machines do to a training job


@full_run
def test_sigterm_keeps_a_checkpoint_and_the_job_is_tried_again(small, folder, note, started):
    call = begin(folder, *CALL, "--retries", "1", *LONG)
    wait_for(lambda: (folder / RUN / "checkpoint.pt").exists(), seconds=120)
    jobs = processes(call)["job"]
    started += processes(call)["all"]
    send(jobs, signal.SIGTERM)
    assert call.wait(300) == 0
    said = (folder / "logs/faults/training.log").read_text()
    (line,) = [line for line in said.splitlines() if "told to stop" in line]
    assert "told to stop; the next call goes on after epoch" in line
    assert "resumed after epoch" in said
    broken = np.load(folder / RUN / "vectors.npz")["users"]
    finish(folder, *CALL, "--forcerun", "train", *LONG)
    whole = np.load(folder / RUN / "vectors.npz")["users"]
    differ = int((broken.view(np.uint8) != whole.view(np.uint8)).sum())
    seen = line.split("] ")[1]
    note("SIGTERM to a training job", "as of a scheduler, `--retries 1`", 1, differ, seen)
    assert differ == 0


@pytest.fixture
def training(small_split, tmp_path):
    """The command line of a run into a folder, by recloss alone."""
    write(tmp_path, small_split, "small", "published", 0.1, 0)
    split = ["--data", tmp_path / "split.npz", "--manifest", tmp_path / "split.json"]

    def line(out, *more):
        few = ["--dim", 4, "--negatives", 4, "--max-epochs", 3, "--device", "cpu", "--threads", 1]
        return [*map(str, ["train", *split, "--loss", "mine_plus", *few, "--out", out, *more])]

    return line


def recloss(words, **options):
    """Run a command in a process of its own."""
    done = [sys.executable, "-m", "recloss", *map(str, words)]
    return subprocess.run(done, capture_output=True, text=True, timeout=300, **options)


@pytest.fixture
def run(capsys):
    """Run a command here, to its end; return what it said."""

    def ran(words):
        command.main(words)
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return said

    return ran


def equal_runs(*folders):
    names = ("vectors.npz", "per_user.npz")
    first, second = ([(folder / name).read_bytes() for name in names] for folder in folders)
    return first == second


def test_a_disk_that_fills_while_a_checkpoint_is_written_ends_no_run(run, training, tmp_path, note):
    run(training(tmp_path / "whole"))
    with disk(tmp_path / "disk", megabytes=1) as small_disk:
        path = small_disk / "checkpoint.pt"
        path.write_bytes(b"an earlier one")
        filler = fill(small_disk)
        said = run(training(tmp_path / "full", "--checkpoint", path))
        (line,) = {line for line in said.splitlines() if "no space left" in line}
        assert "the run goes on" in line
        assert [p.name for p in small_disk.iterdir()] == [filler.name]  # the run has ended
    assert equal_runs(tmp_path / "whole", tmp_path / "full")
    seen = line.split("] ")[1].replace(f"{tmp_path}/", "")
    note("Disk full at a checkpoint", "a disk of 1 MB, filled", 1, 0, seen)


def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path):
    with disk(tmp_path / "disk", megabytes=1) as small_disk:
        path = small_disk / "checkpoint.pt"
        assert checkpoint.write(path, "run", {"epoch": 1}) is None
        before = path.read_bytes()
        fill(small_disk)
        told = checkpoint.write(path, "run", {"tables": torch.zeros(10_000)})
        assert told == f"{path}: no space left on device"
        assert path.read_bytes() == before
        assert {p.name for p in small_disk.iterdir()} == {path.name, "filler"}


def test_a_damaged_checkpoint_is_not_used(run, training, tmp_path, note):
    run(training(tmp_path / "whole"))
    foreign = tmp_path / "foreign.pt"
    torch.save([1, 2, 3], foreign)
    kinds = {"empty": b"", "cut short": foreign.read_bytes()[:300]}
    kinds |= {"foreign": foreign.read_bytes(), "no checkpoint": b"not a checkpoint\n" * 100}
    for kind, content in kinds.items():
        path = tmp_path / "checkpoint.pt"
        path.write_bytes(content)
        said = run(training(tmp_path / kind, "--checkpoint", path))
        (line,) = (line for line in said.splitlines() if "starting anew" in line)
        assert equal_runs(tmp_path / "whole", tmp_path / kind)
        assert not path.exists()
    seen = line.split("] ")[1].replace(f"{tmp_path}/", "")
    note("Checkpoint damaged", ", ".join(kinds), len(kinds), 0, seen)


def test_no_memory_on_the_host_is_said_with_what_was_needed(training, tmp_path, note):
    limit = 8 * 2**30

    def limited():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    big = ["--dim", 20_000_000]
    done = recloss(training(tmp_path / "big", *big), preexec_fn=limited)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: out of memory on cpu") and "needs about" in line
    assert "lower batch_size, negatives, dim" in line and "Traceback" not in done.stderr
    assert not (tmp_path / "big").exists()
    note("Out of memory on the host", "`ulimit -v` of 8 GiB", 1, "", line)


class FullGpu(TorchDispatchMode):
    """What PyTorch's allocator says where a tensor finds no room on the GPU; here, none does."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        if isinstance(made, torch.Tensor) and made.numel() > 200:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
                "79.10 GiB of which 1.21 GiB is free."
            )
        return made


def test_no_memory_on_a_gpu_is_said_with_what_was_needed(training, tmp_path, note):
    with FullGpu(), pytest.raises(SystemExit) as end:
        command.main(training(tmp_path / "big"))
    line = str(end.value)
    assert "2.00 GiB were asked for; this run needs about" in line and "\n" not in line
    assert not (tmp_path / "big").exists()
    tried = "PyTorch's error raised where it allocates; no GPU took part"
    note("Out of memory on a GPU", tried, 1, "", line)


# What disks do

RAW = "data/small/raw"
# From the last step back: as each fails, what it reads is there.
STEPS = {
    "report": ["report.html"],
    "results_notebook": ["tables/*.html", "tables/*.tex", "figures/*.svg"],
    "models, claims, summaries": ["tables/*.csv", "seconds/*.json"],
    "truth, bounds, aggregate": ["data/small/truth.csv", "data/small/bounds.csv", "*.csv"],
    "train, linear, control, certify, configuration": [
        *("train/small/mf/*/base/seed0/*", "train/small/linear/*/base/seed0/*"),
        *("train/small/control/*/base/seed0/*", "data/small/certificates.csv", "config.yaml"),
    ],
    "split": ["data/small/published/*"],
    "prepare": ["data/small/*.npz", "data/small/manifest.json", "data/small/*.parquet"],
    "simulate": ["data/small/raw/*"],
}


@full_run
def test_a_full_disk_is_one_line_in_every_rule_and_leaves_nothing(small, finished, judge):
    results = finished / "results/faults"
    seen = ""
    with disk(results):
        for rules, patterns in STEPS.items():
            made = [path for pattern in patterns for path in results.glob(pattern)]
            assert made, rules
            for path in made:
                path.unlink()
            filler = fill(results)
            targets = [path.relative_to(finished) for path in made]
            text = finish(finished, *CALL, "--", *targets, ok=False)
            filler.unlink()
            assert not any(path.exists() for path in made), rules
            if rules != "results_notebook":  # whose faults papermill shows, in its way
                assert "Traceback" not in text, text
                told = [line for line in errors(text) if "no space left" in line]
                assert len(told) >= len(rules.split(", ")), (rules, text)
                seen = told[0]
            assert "o space left on device" in text
        finish(finished, *CALL)
    rules = ", ".join(STEPS)
    judge("Disk full", f"in each rule that writes: {rules}", finished, small, len(STEPS), seen)


@full_run
def test_a_read_only_results_folder_is_refused_before_any_job(small, folder, judge):
    results = folder / "results"
    results.mkdir()
    with read_only(results):
        (line,) = fails(folder, *CALL)
    assert "read-only file system; make it writable" in line
    finish(folder, *CALL)
    judge("Results folder read-only", "a read-only mount", folder, small, seen=line)


@full_run
def test_a_read_only_working_folder_is_refused(small, folder, judge):
    with read_only(folder):
        (line,) = fails(folder, *CALL)
    assert "make it writable" in line
    finish(folder, *CALL)
    judge("Working folder read-only", "a read-only mount", folder, small, seen=line)


@full_run
def test_homes_and_temporary_folders_that_cannot_be_written_to_change_nothing(
    small, folder, tmp_path, judge
):
    home = tmp_path / "home"
    home.mkdir()
    with read_only(home):
        nowhere = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"), str(home))
        finish(folder, *CALL, **nowhere)
    judge("HOME and TMPDIR not writable", "a read-only mount", folder, small)


@full_run
def test_a_library_that_cannot_be_written_to_changes_nothing(small, folder, tmp_path, judge):
    for cache in (folder / "src").rglob("__pycache__"):
        shutil.rmtree(cache)
    with read_only(folder / "src"):
        finish(folder, *CALL, HOME=str(tmp_path))
    judge("The library's folder not writable", "kernels kept in HOME", folder, small)


@full_run
def test_kernels_that_can_be_kept_nowhere_are_compiled_anew(run, folder, training, tmp_path, note):
    run(training(tmp_path / "whole"))
    for cache in (folder / "src").rglob("__pycache__"):
        shutil.rmtree(cache)
    home = tmp_path / "home"
    home.mkdir()
    with read_only(folder / "src"), read_only(home):
        done = recloss(training(tmp_path / "anew"), env=environment(folder) | {"HOME": str(home)})
    assert done.returncode == 0 and "set NUMBA_CACHE_DIR" in done.stderr
    assert equal_runs(tmp_path / "whole", tmp_path / "anew")
    seen = next(line for line in done.stderr.splitlines() if "NUMBA_CACHE_DIR" in line)
    seen = seen.split("Warning: ")[1]
    note("Nowhere to keep compiled kernels", "library and HOME read-only", 1, 0, seen)


# What clocks, languages and names do


@full_run
def test_files_from_the_future_and_the_past_change_nothing(small, finished, judge):
    now = time.time()
    every = [path for path in (finished / "results").rglob("*") if path.is_file()]
    for path in every:
        moved = now + np.random.default_rng(len(path.name)).uniform(-1e7, 1e7)
        os.utime(path, (moved, moved))
    finish(finished, *CALL)
    judge("Time stamps wrong", "each file moved by up to 115 days", finished, small)


@full_run
def test_a_clock_that_jumps_while_jobs_run_changes_nothing(small, folder, judge, started):
    call = begin(folder, *CALL)
    moments = 0
    for shift in itertools.cycle([2e5, -3e5, 4e3, -4e3]):
        started += processes(call)["all"]
        time.sleep(2)
        if call.poll() is not None:
            break
        for path in (folder / "results").rglob("*.*"):  # as a clock that is off had written them
            with suppress(OSError):
                os.utime(path, (time.time() + shift,) * 2)
        moments += 1
    finish(folder, *CALL)
    tried = "time stamps moved by hours and days, both ways, while jobs ran"
    judge("A clock that jumps", tried, folder, small, moments)


@full_run
def test_a_locale_without_unicode_changes_nothing(small, folder, judge):
    plain = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    finish(folder, *CALL, **plain)
    judge("LANG=C", "and no UTF-8 mode", folder, small)


@full_run
def test_a_clone_and_data_with_blanks_and_unicode_change_nothing(small, tmp_path, judge):
    (line,) = fails(clone(tmp_path / "it's"), *CALL)
    assert "with a quote in its path; move the clone" in line
    folder = clone(tmp_path / "Prüf ordner ß é")
    finish(folder, *CALL)
    judge("Blanks and unicode in the path", "of the clone", folder, small)
    data = folder / "Meine Daten"
    shutil.copytree(small / "results/faults/data/small/raw", data)
    ratings = data / "Käufe 2026.txt"
    shutil.copy(data / "train.txt", ratings)
    own = folder / "eigene Wahl.yaml"
    entry = f"datasets: [{{name: own, path: '{ratings.relative_to(folder)}'}}]\nrun: own\n"
    own.write_text(entry, "utf-8")
    finish(folder, "--configfile", SMALL, own.relative_to(folder), "--", "data")
    assert (folder / "results/own/data/own/published/split.npz").exists()


# What networks do


@pytest.mark.mirror
@full_run
def test_a_download_that_fails_leaves_nothing_and_the_next_call_finishes(
    server,  # noqa: F811
    mirror,
    folder,
    note,
):
    file = Path("resources/gowalla/test.txt")
    call = ["--configfile", "config/gowalla.yaml", "--", file]
    none = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    none |= {"no_proxy": "127.0.0.1", "RECLOSS_MIRROR": server.url}
    answers = {
        "cut in the middle": "cut",
        "a web page": "<!DOCTYPE html><html>Sign in</html>",
        "another file": "0 1 2\n",
        "not there": 404,
    }
    lines = []
    for fault, answer in answers.items():
        server.pages["/gowalla/test.txt"] = [answer]
        (line,) = fails(folder, *call, **none)
        lines.append(line)
        assert not [path for path in (folder / "resources").rglob("*") if path.is_file()], fault
    for line, reason in zip(
        lines, ("broke off", "an HTML page", "wrong checksum", "HTTP 404"), strict=True
    ):
        assert reason in line and "no connection" in line  # of the mirror, of its public homes
    finish(folder, *call, **none | {"RECLOSS_MIRROR": str(mirror)})
    whole = (mirror / "gowalla/test.txt").read_bytes()
    differ = sum(a != b for a, b in zip((folder / file).read_bytes(), whole, strict=True))
    seen = lines[1].replace(server.url, "http://mirror")
    note("Download fails", f"no network; mirror: {', '.join(answers)}", len(lines), differ, seen)
    assert differ == 0
