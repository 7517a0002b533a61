"""Collect the runs of the experiment into metrics.csv and history.csv."""

from pathlib import Path

from recloss.analysis.summaries import tidy
from recloss.files import atomic, log_to

log_to(snakemake.log[0])
results = Path(snakemake.output.metrics).parent
metrics, history = tidy(snakemake.params.experiments, results)
for frame, path in ((metrics, snakemake.output.metrics), (history, snakemake.output.history)):
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False)
# Kept where trainings are grouped into jobs, until none of them can run again.
for path in map(Path, snakemake.input.metrics):
    path.with_name("checkpoint.pt").unlink(missing_ok=True)
