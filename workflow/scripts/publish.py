"""Copy the tidy results of the experiment to results/published/RUN."""

import shutil
from pathlib import Path

from recloss.experiment.finished import FILES, STUDY
from recloss.files import copy, log_to

log_to(snakemake.log[0])
published = Path(snakemake.output.config).parent
results = Path(snakemake.input.metrics).parent
for folder in ("tables", "runs", "data", "seconds"):
    shutil.rmtree(published / folder, ignore_errors=True)
for path in map(Path, snakemake.input):
    inner = path.relative_to(results)
    if inner.name in FILES and len(inner.parts) > 1:  # of a run
        inner = Path("runs", inner)
    target = published / inner
    target.parent.mkdir(parents=True, exist_ok=True)
    copy(path, target)
    if inner.name == "metrics.json":
        copy(path.with_name("history.csv"), target.with_name("history.csv"))
for path in sorted(results.glob("tune/*/*/*/*")):  # of a tuning, if there was one here
    if path.name in STUDY:
        target = published / "runs" / path.relative_to(results)
        target.parent.mkdir(parents=True, exist_ok=True)
        copy(path, target)
