"""Collect the runs of the experiment into metrics.csv and history.csv."""

import sys
from pathlib import Path

from recloss.analysis.summaries import tidy
from recloss.files import atomic

sys.stderr = open(snakemake.log[0], "w", encoding="utf-8", buffering=1)
results = Path(snakemake.output.metrics).parent
metrics, history = tidy(snakemake.params.experiments, results)
for frame, path in ((metrics, snakemake.output.metrics), (history, snakemake.output.history)):
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False)
# Kept where trainings are grouped into jobs, until none of them can run again.
for path in map(Path, snakemake.input.metrics):
    path.with_name("checkpoint.pt").unlink(missing_ok=True)
