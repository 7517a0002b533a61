#!/usr/bin/env python3
"""Submit a job script of Snakemake to LSF, SGE or PBS, whichever is here; print its number."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

# What your cluster wants besides, as in ["-q", "my_queue", "-P", "my_project"].
EXTRA: list[str] = []

script = Path(sys.argv[1]).resolve()
properties = json.loads(re.search(r"^# properties = (.*)$", script.read_text("utf-8"), re.M)[1])
resources, threads = properties["resources"], properties["threads"]
memory, minutes, gpus = resources["mem_mb"], resources["runtime"], resources["gpu"]
name = properties.get("rule") or properties["groupid"]
logs = Path("logs", "cluster").resolve()
logs.mkdir(parents=True, exist_ok=True)

if shutil.which("bsub"):
    command = ["bsub", "-J", name, "-o", f"{logs}/%J.log", "-n", threads, "-W", minutes]
    command += ["-M", f"{memory}MB", "-R", f"span[hosts=1] rusage[mem={memory}MB]"]
    command += ["-gpu", f"num={gpus}"] if gpus else []
elif shutil.which("qconf"):
    # Memory is asked for by the slot.
    command = ["qsub", "-terse", "-V", "-S", "/bin/sh", "-N", name, "-j", "y", "-o", logs]
    command += ["-pe", "smp", threads, "-l", f"h_rt={60 * minutes},h_vmem={-(-memory // threads)}M"]
    command += ["-l", f"gpu={gpus}"] if gpus else []
else:
    chunk = f"select=1:ncpus={threads}:mem={memory}mb" + f":ngpus={gpus}" * (gpus > 0)
    command = ["qsub", "-V", "-S", "/bin/sh", "-N", name, "-j", "oe", "-o", f"{logs}/"]
    command += ["-l", chunk, "-l", f"walltime={60 * minutes}"]

# The job notes how it ended, for status.py: a scheduler's memory of ended jobs may be short.
job = f"""\
#!/bin/sh
cd {shlex.quote(os.getcwd())}
sh {shlex.quote(str(script))}
code=$?
ended={shlex.quote(str(logs))}/${{PBS_JOBID:-${{LSB_JOBID:-$JOB_ID}}}}
echo $code > "$ended.part" && mv "$ended.part" "$ended.exit"
exit $code
"""
done = subprocess.run(
    [*map(str, command), *EXTRA], input=job, text=True, stdout=subprocess.PIPE, check=True
)
# LSF says: Job <123> is submitted to queue <normal>.
print(re.search(r"(?<=^Job <)\d+|^[^\s<>]+$", done.stdout.strip(), re.M)[0])
