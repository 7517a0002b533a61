"""Start the workflow in a folder of its own, disturb it, call it again, compare what came out."""

import csv
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from itertools import zip_longest
from pathlib import Path

import psutil
from conftest import REPO, missing, wait_for
from test_workflow import environment, snakemake

SMALL = REPO / "tests" / "config" / "faults.yaml"
DEMO = REPO / "config" / "demo.yaml"
# What is measured with a clock or a gauge, and no result: columns anywhere, and whole tables.
MEASURED = {"train_seconds", "eval_seconds", "seconds", "peak_memory_mb"}
MEASURED_TABLES = {"cost"}


def begin(folder, *arguments, **variables):
    """Start snakemake in a clone, in a process group of its own; what it prints goes to a file."""
    with (folder / "printed.txt").open("a") as printed:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *map(str, arguments)],
            cwd=folder,
            env=environment(folder) | variables,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(folder, *arguments, **variables):
    """Call snakemake undisturbed, to its end; return what it printed."""
    # Wide: no line of an error is wrapped.
    return snakemake(folder, *arguments, **{"COLUMNS": "1000"} | variables)


def at_work(folder, started, *arguments):
    """Start snakemake in a clone; return the call and its `processes` once a job runs.

    started: a list of processes to end with the test, added to.
    """
    call = begin(folder, *arguments)

    def working():
        found = processes(call)
        return found["job"] and call.poll() is None and found

    found = wait_for(working, seconds=120)
    started += found["all"]
    return call, found


def printed(folder):
    return (folder / "printed.txt").read_text()


def processes(call):
    """The processes of a call: snakemake, its fork server, and the jobs' own."""
    try:
        root = psutil.Process(call.pid)
        every, near = root.children(recursive=True), root.children()
    except psutil.Error:
        return {"snakemake": [], "server": [], "job": [], "all": []}
    server = [process for process in near if "--forkserver" in _words(process)]
    numbers = {process.pid for process in server}
    forked = [each for each in every if _parent(each) in numbers]
    alone = [each for each in every if {"train", "linear", "control"} & set(_words(each)[2:4])]
    job = forked or alone
    return {"snakemake": [root], "server": server, "job": job, "all": [*every, root]}


def _words(process):
    with suppress(psutil.Error):  # killed, and not yet waited for
        return process.cmdline()
    return []


def _parent(process):
    with suppress(psutil.Error):
        return process.ppid()


def send(some, number):
    for process in some:
        with suppress(psutil.Error):
            process.send_signal(number)


def end(some):
    """End what a disturbed call left: only processes that it started."""
    send(some, signal.SIGKILL)
    psutil.wait_procs(some, timeout=30)


def errors(text):
    """The lines of what was printed that tell a fault."""
    return list(dict.fromkeys(re.findall(r"error: .*", text)))


# Comparison


def results_of(folder):
    """The files of a results folder that a run must repeat to the byte: name to bytes."""
    (results,) = (p.parent for p in (folder / "results").glob("*/metrics.csv"))
    tables = [p for p in results.glob("tables/*") if p.stem not in MEASURED_TABLES]
    paths = [results / "metrics.csv", results / "history.csv", *tables]
    paths += results.glob("figures/*.svg")
    return {str(path.relative_to(results)): _unmeasured(path) for path in sorted(paths)}


def _unmeasured(path):
    if path.suffix != ".csv":
        return path.read_bytes()
    rows = list(csv.reader(io.StringIO(path.read_text("utf-8"))))
    kept = [i for i, name in enumerate(rows[0]) if name not in MEASURED]
    return "\n".join(",".join(row[i] for i in kept) for row in rows).encode()


def differing(folder, undisturbed):
    """How many bytes of the results differ from those of an undisturbed run."""
    one, other = results_of(folder), results_of(undisturbed)
    names = one.keys() | other.keys()
    pairs = ((one.get(name, b""), other.get(name, b"")) for name in names)
    return sum(a != b for x, y in pairs if x != y for a, b in zip_longest(x, y))


def half_written(folder):
    """Temporary files that are left in the results."""
    return [p for p in (folder / "results").rglob(".*") if re.search(r"\.\d+\.\w+$", p.name)]


# File systems


@contextmanager
def disk(folder, megabytes=64):
    """Mount a small disk of its own over a folder, with what is in it."""
    kept = folder.with_name(f"{folder.name}-kept")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, kept, symlinks=True)
    _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder)
    try:
        shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(kept)
        yield folder
        shutil.copytree(folder, kept, symlinks=True)  # it stays when the disk goes
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        if kept.exists():
            shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(kept)


@contextmanager
def read_only(folder):
    """Make a folder read-only, for root too."""
    _mount("--bind", folder, folder)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _mount(*words):
    if os.geteuid() != 0:
        missing("a disk of its own needs root")
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        missing(f"no mount here: {done.stderr.strip()}")


def fill(folder):
    """Write to the disk of a folder until it is full; return what to remove to free it."""
    filler = Path(folder) / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"0" * 4096)
    return filler
