"""A one-node Slurm with one pretend GPU: its daemons live as long as the `with` block.

    with cluster(directory) as env:
        subprocess.run(["sbatch", "--gpus=1", "--wrap=nvidia-smi"], env=env)

Everything (configuration, key, sockets, logs) stays in `directory`, and the ports are free ones, so
that neither a Slurm nor a munge of the machine is disturbed, and clusters can run side by side.
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue")

# munged refuses a socket with 108 characters or more (the kernel's limit), so its name is short.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld_port}
SlurmdPort={slurmd_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge
CredType=cred/munge
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmdSpoolDir={directory}/spool
StateSaveLocation={directory}/state
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
# The process tracking and binding that need no cgroups: these work in containers too.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
KillWait=1
# Ended jobs stay listed for a day: `jobs` can tell what ran.
MinJobAge=86400
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:1
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE
"""


def missing_programs() -> list[str]:
    """Names of the needed programs that this machine lacks."""
    path = _environment()["PATH"]
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


@contextmanager
def cluster(directory: Path) -> Iterator[dict[str, str]]:
    """Run a one-node cluster in the empty `directory`; give the environment that its users need.

    Any user can start it. Raises RuntimeError, with the daemons' last words, if it does not start.
    """
    directory = directory.resolve()
    env = _environment()
    env["SLURM_CONF"] = str(directory / "slurm.conf")
    _configure(directory, env)
    _write_srun(directory, env)
    munge = [
        *("munged", "--foreground", "--force"),  # --force: directories of pytest are private
        *(f"--{name}-file={directory / name}" for name in ("key", "pid", "seed")),
        f"--socket={directory}/munge",
    ]
    with ExitStack() as stack:
        daemons = {}
        for command, ready in (
            (munge, (directory / "munge").exists),
            (["slurmctld", "-D"], lambda: "UP" in _output(["scontrol", "ping"], env)),
            (["slurmd", "-D"], lambda: _output(["sinfo", "-h", "-o", "%T"], env) == "idle"),
        ):
            daemons[command[0]] = stack.enter_context(_daemon(command, directory, env))
            _wait_until(ready, daemons, directory)
        stack.callback(_end_jobs, env)
        yield env


def jobs(env: dict[str, str]) -> list[dict[str, str]]:
    """Every job that the cluster was given: `id`, `state`, `comment`, `gpus`, `limit` of time.

    Snakemake's comment names rule and wildcards; `gpus` is gres:gpu:1 for a job that asked for one.
    """
    fields = {"id": "JobID", "state": "State", "comment": "Comment", "gpus": "tres-per-job"}
    fields["limit"] = "TimeLimit"
    columns = ",".join(f"{column}:|" for column in fields.values())
    lines = _output(["squeue", "--states=all", "--noheader", "--Format", columns], env).splitlines()
    return [dict(zip(fields, line.split("|"), strict=False)) for line in lines]


def _environment() -> dict[str, str]:
    """This process's environment, less the settings of another cluster; Python's programs first."""
    foreign = ("SLURM", "SBATCH", "SRUN", "SQUEUE", "SINFO", "SNAKEMAKE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    path = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin"]
    return {**kept, "PATH": os.pathsep.join(path)}


def _configure(directory: Path, env: dict[str, str]) -> None:
    # What slurmd itself finds: it drains a node that has less than its configuration says.
    found = subprocess.run(["slurmd", "-C"], env=env, capture_output=True, text=True, check=True)
    hardware = dict(word.split("=", 1) for word in found.stdout.split() if "=" in word)
    host = socket.gethostname().split(".")[0]
    slurmctld_port, slurmd_port = _free_ports(2)
    configuration = CONFIGURATION.format(
        directory=directory,
        host=host,
        user=pwd.getpwuid(os.geteuid()).pw_name,
        slurmctld_port=slurmctld_port,
        slurmd_port=slurmd_port,
        cpus=hardware["CPUs"],
        memory=hardware["RealMemory"],
    )
    (directory / "slurm.conf").write_text(configuration)
    (directory / "gres.conf").write_text(f"NodeName={host} Name=gpu File=/dev/null\n")
    # slurmd loads a cgroup plugin though nothing uses it; this one asks nothing of the machine.
    (directory / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    (directory / "state").mkdir()
    key = directory / "key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))


def _write_srun(directory: Path, env: dict[str, str]) -> None:
    """Put an srun that knows the cluster first in PATH: Snakemake calls it without SLURM_CONF."""
    srun = directory / "bin" / "srun"
    srun.parent.mkdir()
    real = shutil.which("srun", path=env["PATH"])
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={env["SLURM_CONF"]} exec {real} "$@"\n')
    srun.chmod(0o755)
    env["PATH"] = os.pathsep.join([str(srun.parent), env["PATH"]])


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def _daemon(command: list[str], directory: Path, env: dict[str, str]) -> Iterator[subprocess.Popen]:
    with (directory / f"{command[0]}.log").open("w") as log:
        # A session of its own: Ctrl-C ends pytest, which then ends the daemons in order.
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until(ready, daemons: dict[str, subprocess.Popen], directory: Path, seconds=60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        ended = [name for name, process in daemons.items() if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            logs = [directory / f"{name}.log" for name in daemons]
            tails = [f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in logs]
            what = f"{ended[0]} ended" if ended else f"not ready after {seconds} s"
            raise RuntimeError("\n".join([f"Slurm did not start: {what}", *tails]))
        time.sleep(0.2)


def _end_jobs(env: dict[str, str]) -> None:
    """Cancel what still runs: the daemons' end alone would leave the jobs' processes behind."""
    if not _output(["squeue", "-h"], env):
        return
    _output(["scancel", f"--user={os.geteuid()}"], env)
    deadline = time.monotonic() + 30
    while _output(["squeue", "-h"], env) and time.monotonic() < deadline:
        time.sleep(0.2)


def _output(command: list[str], env: dict[str, str]) -> str:
    """What `command` prints; nothing if it cannot reach the controller."""
    with suppress(subprocess.TimeoutExpired):
        result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)
        return result.stdout.strip()
    return ""
