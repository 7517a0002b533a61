"""The CUDA kernels where there is no GPU; what they compute is tested with what they stand for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import missing


def test_every_kernel_compiles_for_real_gpus(tmp_path):
    if sys.platform != "linux":
        pytest.skip("Triton is for Linux")
    try:
        import triton  # noqa: F401
    except ImportError:
        missing("no triton; pip install triton")
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    script = Path(__file__).with_name("triton_compile.py")
    command = [sys.executable, "-W", "ignore", str(script), "80", "90"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 8
