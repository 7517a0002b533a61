"""The workflow on a cluster: profiles/slurm, unedited, on a real Slurm of one node."""

import subprocess
import sys
import time
from contextlib import suppress

import pandas as pd
import psutil
import pytest
from conftest import REPO, missing
from slurm import cluster, jobs, missing_programs

KEYS = ["dataset", "backbone", "loss", "variant", "seed"]
METRICS = ["best_epoch", "recall@20", "ndcg@20", "recall@50", "ndcg@50"]

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of a running cluster."""
    if absent := missing_programs():
        missing(f"{', '.join(absent)} not installed (apt-get install slurm-wlm munge)")
    with cluster(tmp_path_factory.mktemp("slurm")) as env:
        yield env


def snakemake(env, *arguments):
    # One thread for each job: local runs scale threads down to the cores, Slurm refuses the job.
    command = [sys.executable, "-m", "snakemake", "--max-threads", "1", *map(str, arguments)]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr


# Slurm's default is to ask for the first time after 40 s; a test has no time for that.
ON_SLURM = (
    *("--workflow-profile", REPO / "profiles" / "slurm"),
    *("--slurm-init-seconds-before-status-checks", 2),
)
LOCALLY = ("--workflow-profile", "none", "--cores", 1, "--show-failed-logs")


def test_slurm_profile_gives_the_metrics_of_a_local_run(slurm, tmp_path):
    def metrics(name, *where):
        snakemake(
            slurm,
            *("--snakefile", REPO / "Snakefile", "--directory", tmp_path / name),
            *("--configfile", REPO / "config.yaml", REPO / "tests" / "config" / "slurm.yaml"),
            *where,
            *("--", "results/slurm/metrics.csv"),
        )
        # Read as text: equal means equal to the last digit.
        table = pd.read_csv(tmp_path / name / "results" / "slurm" / "metrics.csv", dtype=str)
        return table.set_index(KEYS)[METRICS].sort_index()

    before = jobs(slurm)
    local = metrics("local", *LOCALLY)
    assert jobs(slurm) == before
    remote = metrics("slurm", *ON_SLURM)

    pd.testing.assert_frame_equal(remote, local)
    trained = [job for job in jobs(slurm) if job["comment"] == "rule_trainings_train"]
    assert {(job["state"], job["gpus"]) for job in trained} == {("COMPLETED", "gres:gpu:1")}
    assert len(local.drop("control", level="backbone", errors="ignore")) == 2
    assert len(trained) == 1  # both of them


def test_a_training_that_reaches_its_time_limit_is_submitted_again_and_resumes(slurm, tmp_path):
    (tmp_path / "long.yaml").write_text(
        "losses: [mine_plus]\nsettings: {max_epochs: 300, schedule: constant, patience: 300}\n"
    )
    target = "results/slurm/train/tiny/mf/mine_plus/base/seed0/metrics.json"
    files = ["config.yaml", "tests/config/slurm.yaml", tmp_path / "long.yaml"]
    command = [sys.executable, "-m", "snakemake", "--max-threads", "1", *ON_SLURM]
    command += ["--snakefile", REPO / "Snakefile", "--directory", tmp_path]
    command += ["--configfile", *(REPO / file for file in files), "--", target]
    checkpoint = tmp_path / target.replace("metrics.json", "checkpoint.pt")

    before = {job["id"] for job in jobs(slurm)}

    def made():
        found = (job for job in jobs(slurm) if job["id"] not in before)
        return sorted(found, key=lambda job: int(job["id"]))

    def trains(process):
        with suppress(psutil.Error):
            words = process.cmdline()
            return "--checkpoint" in words and "-c" not in words and process.cwd() == str(tmp_path)

    with subprocess.Popen([*map(str, command)], env=slurm) as running:
        try:
            while not checkpoint.exists():
                assert running.poll() is None
                time.sleep(0.2)
            (training,) = (p for p in psutil.process_iter() if trains(p))
            training.suspend()  # or it ends before its limit
            # The limit is moved to now; Slurm looks every half minute.
            job = f"JobId={made()[-1]['id']}"
            subprocess.run(["scontrol", "update", job, "EndTime=now"], env=slurm, check=True)
            assert running.wait(300) == 0
        finally:
            running.terminate()
    assert [job["state"] for job in made()] == ["TIMEOUT", "COMPLETED"]
    assert [job["limit"] for job in made()][1] == "22:00"  # twice the first
    assert "resumed after epoch" in (tmp_path / "logs/slurm/training.log").read_text()


def test_a_gpu_job_that_the_cluster_kills_is_submitted_once_more(slurm, tmp_path):
    (tmp_path / "Snakefile").write_text(
        """
rule half:
    output: "gpu.txt"
    resources: gpu=1, mem_mb=100, runtime=5
    shell:
        "if [ -e checkpoint ]; then echo $CUDA_VISIBLE_DEVICES > {output}; "
        "else touch checkpoint; scancel $SLURM_JOB_ID; sleep 60; fi"
"""
    )
    snakemake(
        slurm,
        *("--snakefile", tmp_path / "Snakefile", "--directory", tmp_path),
        *ON_SLURM,
        *("--", "gpu.txt"),
    )
    assert (tmp_path / "gpu.txt").read_text() == "0\n"
    states = [job["state"] for job in jobs(slurm) if job["comment"] == "rule_half"]
    assert sorted(states) == ["CANCELLED", "COMPLETED"]
