#!/usr/bin/env python3
"""Say of a job of submit.py: running, success or failed. One that is lost has failed."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

LATE = 5  # seconds that a network file system may need to show what a job has noted

job = sys.argv[1]
ended = Path("logs", "cluster", f"{job}.exit")
if shutil.which("bsub"):
    question = ["bjobs", "-noheader", "-o", "stat", job]
else:
    question = ["qstat", "-j", job] if shutil.which("qconf") else ["qstat", job]
# Of LSF, SGE and PBS. Any other answer, as of a server that is away, is no reason to give up a job.
GONE = r"is not found|^(DONE|EXIT|ZOMBI)\b|do not exist|Unknown Job|has finished"

if not ended.exists():
    answer = subprocess.run(question, capture_output=True, text=True)
    if not re.search(GONE, answer.stdout + answer.stderr, re.M | re.I):
        print("running")
        sys.exit()
    time.sleep(LATE)
print("success" if ended.exists() and ended.read_text("utf-8") == "0\n" else "failed")
