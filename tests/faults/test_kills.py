"""Kills at random moments: nothing is lost but what ran, and no call is refused."""

import itertools
import random
import signal
import time
from collections import Counter

import psutil
import pytest
from disturb import DEMO, SMALL, begin, errors, printed, processes, send
from test_workflow import clone

pytest_plugins = ["undisturbed"]
KINDS = {
    "server": "SIGKILL of the fork server",
    "job": "SIGKILL of a training job",
    "snakemake": "SIGKILL of Snakemake",
    "all": "SIGKILL of all at once",
}

KILLS = 32  # of the demo


def disturbed(folder, config, chance, kinds, gap, started):
    """Run to the end, again and again through kills, `gap` seconds apart; return their kinds.

    kinds: what to kill in turn, taken as long as there is one.
    """
    done, wanted = [], next(kinds, None)
    while True:
        call = begin(folder, "--configfile", config)
        moment = time.monotonic() + chance.uniform(*gap)
        while call.poll() is None:
            time.sleep(0.02)
            if time.monotonic() < moment:
                continue
            found = processes(call)
            started += found["all"]
            some = found.get(wanted)
            if some:
                some = [chance.choice(some)] if wanted == "job" else some
                send(some, signal.SIGKILL)
                if wanted in ("snakemake", "all"):
                    call.wait(30)  # ours to wait for, before psutil does
                psutil.wait_procs(some, timeout=30)
                done.append(wanted)
                wanted = next(kinds, None)
                moment = time.monotonic() + chance.uniform(*gap)
        if call.returncode == 0:
            return done
        text = printed(folder)
        assert "cannot be locked" not in text and "IncompleteFiles" not in text, text


def test_a_kill_of_each_kind_loses_nothing(small, folder, judge, started):
    kinds = disturbed(folder, SMALL, random.Random(1), iter(KINDS), (4, 8), started)
    judge(
        "SIGKILL of each of these in turn",
        "in one run of a small experiment",
        folder,
        small,
        len(kinds),
    )


@pytest.mark.faults
def test_kills_at_random_moments_of_the_demo_lose_nothing(demo, tmp_path, judge, started):
    chance, folders, done = random.Random(16), [], []
    kinds = itertools.islice(itertools.cycle(KINDS), KILLS)
    while len(done) < KILLS:
        folders.append(clone(tmp_path / str(len(folders))))
        done += disturbed(folders[-1], DEMO, chance, kinds, (3, 20), started)
    tried = f"at random moments of the demo, 3 to 20 s apart (seed 16); runs: {len(folders)}"
    lines = (line for each in folders for line in errors(printed(each)))
    said = next((line for line in lines if "killed" in line), "")
    for kind, count in Counter(done).items():
        judge(KINDS[kind], tried, folders, demo, count, said if kind == "job" else "")
