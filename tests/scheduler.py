"""A stand-in for PBS, SGE or LSF: it runs jobs in the background, and can lose one.

install(folder, "lsf")    # now `folder`, first in PATH, is an LSF
(folder / "lose").touch()    # the next job will vanish without a trace
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

PROGRAMS = {"pbs": ["qsub", "qstat", "qdel"], "lsf": ["bsub", "bjobs", "bkill"]}
PROGRAMS["sge"] = [*PROGRAMS["pbs"], "qconf"]
VARIABLES = {"pbs": "PBS_JOBID", "sge": "JOB_ID", "lsf": "LSB_JOBID"}
UNKNOWN = {"pbs": "qstat: Unknown Job Id {}", "sge": "Following jobs do not exist:\n{}"}
UNKNOWN["lsf"] = "Job <{}> is not found"


def install(folder: Path, kind: str) -> None:
    """Put the programs of a scheduler of this kind into a new folder."""
    (folder / "jobs").mkdir(parents=True)
    (folder / "submitted").touch()
    for name in PROGRAMS[kind]:
        shutil.copy(__file__, folder / name)
        text = (folder / name).read_text()
        (folder / name).write_text(f"#!{sys.executable}\n{text}\nmain({kind!r})\n")
        (folder / name).chmod(0o755)


def main(kind: str) -> None:
    here, program = Path(sys.argv[0]).resolve().parent, Path(sys.argv[0]).name
    if program in ("qsub", "bsub"):
        number = len((here / "submitted").read_text().splitlines()) + 1
        with (here / "submitted").open("a") as file:
            print(*sys.argv[1:], file=file)
        job = here / "jobs" / str(number)
        script = job.with_suffix(".sh")
        script.write_text(sys.stdin.read())
        if (here / "lose").exists():
            (here / "lose").unlink()
        else:
            run = ["sh", "-c", 'sh "$0" > "$0.log" 2>&1; rm -f "$1"', script, job]
            env = os.environ | {VARIABLES[kind]: str(number)}
            quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
            process = subprocess.Popen(run, env=env, start_new_session=True, **quiet)
            job.write_text(str(process.pid))
        print(f"Job <{number}> is submitted to queue <normal>." if kind == "lsf" else number)
    elif program in ("qdel", "bkill"):
        for number in sys.argv[1:]:
            os.killpg(int((here / "jobs" / number).read_text()), signal.SIGTERM)
    else:
        number = sys.argv[-1]
        there = (here / "jobs" / number).exists()
        print("RUN" if there else UNKNOWN[kind].format(number))
        sys.exit(not there)
