"""Simulated runs, by which scale is measured, stand for trained ones."""

import subprocess
import sys

import pandas as pd
from conftest import REPO
from test_workflow import TINY, clone, environment, jobs, snakemake


def test_simulated_runs_are_aggregated_and_nothing_is_trained(tmp_path):
    folder = clone(tmp_path / "clone")
    script = [sys.executable, REPO / "tests" / "simulated_runs.py", "--configfile", TINY]
    subprocess.run(script, cwd=folder, env=environment(folder), check=True)
    call = ["--configfile", TINY, "--"]
    call += [f"results/tiny/{name}" for name in ("metrics.csv", "data/tiny/bounds.csv")]
    assert set(jobs(snakemake(folder, *call))) == {"aggregate", "bounds", "total"}
    metrics = pd.read_csv(folder / "results/tiny/metrics.csv")
    assert len(metrics) == 18 + 2
    assert metrics["recall@20"].between(0, 1).all() and metrics["recall@20"].nunique() > 10
