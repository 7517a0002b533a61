"""Judge the papers' claims on each data set: verdict, effect, interval."""

from pathlib import Path

from recloss.analysis.claims import judge
from recloss.analysis.results import Results, write_tables
from recloss.analysis.verdicts import Evidence
from recloss.files import log_to

log_to(snakemake.log[0])
results = Results(Path(snakemake.input.metrics).parent, snakemake.params.config)
tables = results.debiasing(), results.bounds(), results.shown()
evidence = Evidence(results.metrics, results.folder, results.config, *tables)
write_tables({snakemake.output.table: lambda: judge(evidence)}, snakemake.output.seconds)
