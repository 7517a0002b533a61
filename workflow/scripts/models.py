"""Compare the models of the main table, and say which to use."""

from pathlib import Path

from recloss.analysis.advice import advise
from recloss.analysis.results import Results, write_tables
from recloss.analysis.stats import summarise
from recloss.analysis.summaries import CUTOFFS, part_of
from recloss.files import log_to

log_to(snakemake.log[0])
results = Results(Path(snakemake.input.metrics).parent, snakemake.params.config)
alpha = results.config["claims"]["alpha"]
compared = part_of(results.metrics, "main", "control")
write_tables(
    {
        snakemake.output.main: lambda: summarise(compared, results.folder, CUTOFFS, alpha),
        snakemake.output.advice: lambda: advise(results.metrics, results.folder, results.config),
    },
    snakemake.output.seconds,
)
