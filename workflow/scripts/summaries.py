"""Compute the tables that put runs together without comparing models."""

from functools import partial
from pathlib import Path

from recloss.analysis.results import Results, summary, write_tables
from recloss.files import log_to

log_to(snakemake.log[0])
results = Results(Path(snakemake.input.metrics).parent, snakemake.params.config)
made = {path: partial(summary, results, Path(path).stem) for path in snakemake.output.tables}
write_tables(made, snakemake.output.seconds)
