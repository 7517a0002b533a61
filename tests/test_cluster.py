"""The workflow on PBS, SGE, LSF and Kubernetes and with results in S3, tried with stand-ins."""

import importlib.util
import io
import os
import shutil
import subprocess
import sys
import time

import pandas as pd
import pytest
import scheduler
from conftest import REPO, missing
from test_workflow import METRICS, TINY, environment, jobs, tiny  # noqa: F401

KEYS = ["dataset", "backbone", "loss", "variant", "seed"]
# Of the tiny experiment two losses, one seed, and what is made without training.
FEW = ["seeds=[0]", "losses=[infonce, mine_plus]", "linear=[ials]", "grids=[]", "ablations=[]"]
FEW += ["inflation={losses: []}"]


def needs(*modules):
    if absent := [name for name in modules if not importlib.util.find_spec(name)]:
        missing(f"{', '.join(absent)} not installed (pip install '.[cluster,test]')")


def snakemake(folder, *arguments, **variables):
    """Call snakemake with `folder` to work in; return what it printed."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPO / "Snakefile"]
    command += ["--directory", folder, "--max-threads", 1, *arguments]
    done = subprocess.run(
        [*map(str, command)],
        env=environment(REPO) | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def few(target, *where):
    files = [REPO / "config.yaml", TINY]
    return ["--configfile", *files, "--config", *FEW, *where, "--", target]


def assert_metrics_are_those_of(local, file):
    """Compare as text: equal means equal to the last digit."""
    found, whole = (
        pd.read_csv(f, dtype=str).set_index(KEYS)[["best_epoch", *METRICS]]
        for f in (file, local / "results/tiny/metrics.csv")
    )
    assert len(found) >= 4
    pd.testing.assert_frame_equal(found.sort_index(), whole.loc[found.sort_index().index])


@pytest.mark.cluster
def test_a_scheduler_that_loses_a_job_is_asked_again_and_metrics_are_equal(tiny, tmp_path):  # noqa: F811
    needs("snakemake_executor_plugin_cluster_generic")
    scheduler.install(tmp_path / "pbs", "pbs")
    (tmp_path / "pbs" / "lose").touch()
    profile = ["--workflow-profile", REPO / "profiles" / "cluster-generic"]
    path = f"{tmp_path / 'pbs'}{os.pathsep}{environment(REPO)['PATH']}"
    snakemake(tmp_path, *few("results/tiny/metrics.csv", *profile), PATH=path)
    assert_metrics_are_those_of(tiny[0], tmp_path / "results/tiny/metrics.csv")
    submitted = (tmp_path / "pbs" / "submitted").read_text()
    # Both trainings in one job; the lost job is submitted again, for longer and with more memory.
    assert submitted.count("\n") == 2 + 1
    assert submitted.count("trainings") + submitted.count("linear") == 3
    assert len(set(submitted.splitlines())) == 3


@pytest.mark.parametrize("kind", ["pbs", "sge", "lsf"])
def test_submit_and_status_speak_the_language_of(kind, tmp_path):
    scheduler.install(tmp_path / "bin", kind)
    env = os.environ | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    properties = '{"rule": "train", "threads": 2, "resources": '
    properties += '{"mem_mb": 3001, "runtime": 90, "gpu": 1}}'

    def call(name, *arguments):
        command = [sys.executable, REPO / "profiles" / "cluster-generic" / name, *arguments]
        return subprocess.run(
            [*map(str, command)], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    def submit(script):
        file = tmp_path / "job script.sh"
        file.write_text(f"#!/bin/sh\n# properties = {properties}\n{script}\n")
        return call("submit.py", file)

    def status(job):
        while (said := call("status.py", job)) == "running":
            time.sleep(0.1)
        return said

    waiting = submit("while [ ! -e go ]; do sleep 0.1; done")
    assert call("status.py", waiting) == "running"
    (tmp_path / "go").touch()
    assert status(waiting) == "success"
    assert status(submit("exit 3")) == "failed"
    (tmp_path / "bin" / "lose").touch()
    assert status(submit("exit 0")) == "failed"
    asked = (tmp_path / "bin" / "submitted").read_text().splitlines()[0]
    said = {
        "pbs": ["select=1:ncpus=2:mem=3001mb:ngpus=1", "walltime=5400"],
        "sge": ["-pe smp 2", "h_rt=5400,h_vmem=1501M", "gpu=1"],
        "lsf": ["-n 2", "-W 90", "-M 3001MB", "rusage[mem=3001MB]", "-gpu num=1"],
    }
    assert all(words in asked for words in said[kind])


def test_the_container_recipe_has_no_fault_that_a_linter_finds():
    path = environment(REPO)["PATH"]
    if not (linter := shutil.which("hadolint", path=path)):
        missing("hadolint not installed (pip install '.[test]')")
    recipe = REPO / "envs" / "Containerfile"
    done = subprocess.run([linter, recipe], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def bucket(monkeypatch):
    """An S3 server on this machine: its address and a client of it."""
    needs("snakemake_storage_plugin_s3", "moto", "flask")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
    yield url, boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
    server.stop()


@pytest.mark.cluster
def test_results_in_s3_are_those_of_a_local_run_and_are_found_from_elsewhere(
    tiny,  # noqa: F811
    bucket,
    tmp_path,
):
    url, client = bucket
    names = ("ENDPOINT_URL", "ACCESS_KEY", "SECRET_KEY")
    variables = zip(names, (url, "any", "any"), strict=True)
    variables = {f"SNAKEMAKE_STORAGE_S3_{name}": value for name, value in variables}
    where = ["--workflow-profile", "none", "--cores", 2, "--show-failed-logs"]
    where += ["--default-storage-provider", "s3", "--default-storage-prefix", "s3://bucket/mine"]
    call = few("report", *where)
    snakemake(tmp_path / "here", *call, **variables)

    def read(name):
        return client.get_object(Bucket="bucket", Key=f"mine/results/tiny/{name}")["Body"].read()

    assert_metrics_are_those_of(tiny[0], io.BytesIO(read("metrics.csv")))
    assert b"Do the papers" in read("report.html")
    assert not (tmp_path / "here" / "results").exists()
    assert "Nothing to be done" in snakemake(tmp_path / "elsewhere", "-n", *call, **variables)

    needs("snakemake_executor_plugin_kubernetes")
    pods = ["--workflow-profile", REPO / "profiles" / "kubernetes", "--dry-run"]
    pods += ["--default-storage-prefix", "s3://bucket/pods"]
    printed = snakemake(tmp_path / "pods", *few("report", *pods), **variables)
    assert jobs(printed)["train"] == 2
    assert "gpu_manufacturer=nvidia" in printed
    assert "s3://bucket/pods/results/tiny/report.html (send to storage)" in printed
