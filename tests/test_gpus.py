"""Several GPUs on one machine, tried without any: which each process takes, and until when."""

import contextlib
import os
import subprocess
import sys

import pytest
from conftest import REPO

TAKE = "import sys; from recloss.cli import gpus; print(gpus.take(sys.argv[1]), flush=True)"
# As a training does: it starts a process of its own, which must not keep the GPU.
HOLD = f"import os, subprocess; {TAKE}; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True)"
HOLD += "; subprocess.Popen(['sleep', '60'], close_fds=False); os.fork() or input(); input()"


@pytest.fixture
def hold(tmp_path):
    """Start a process that takes a GPU of those given and keeps it; return it and what it said."""
    with contextlib.ExitStack() as stack:

        def start(visible, device="auto"):
            process = subprocess.Popen(
                [sys.executable, "-c", HOLD, device],
                env=environment(tmp_path, visible),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            stack.callback(lambda: os.killpg(process.pid, 9))
            return process, process.stdout.readline().strip(), process.stdout.readline().strip()

        yield start


def environment(folder, visible):
    variables = {"TMPDIR": str(folder), "PYTHONPATH": str(REPO / "src")}
    return os.environ | variables | {"CUDA_VISIBLE_DEVICES": visible}


def test_each_process_has_a_gpu_of_its_own_and_sees_no_other(hold):
    visible = "2,GPU-8f1c,5"
    taken = [hold(visible)[1:] for _ in range(3)]
    assert taken == [("2", "2"), ("GPU-8f1c", "GPU-8f1c"), ("5", "5")]
    assert hold(visible)[1:] == ("None", visible)  # one more shares them


def test_a_killed_process_frees_its_gpu_though_what_it_started_lives_on(hold):
    first, taken, _ = hold("0,1")
    assert taken == "0"
    assert hold("0,1")[1] == "1"
    first.kill()
    first.wait()
    assert hold("0,1")[1] == "0"


@pytest.mark.parametrize(
    ("visible", "device"), [("3", "auto"), ("", "cuda"), ("0,1", "cpu"), ("0,1", "mps")]
)
def test_one_gpu_as_a_scheduler_gives_and_a_run_on_the_cpu_take_none(hold, visible, device):
    assert hold(visible, device)[1:] == ("None", visible)
