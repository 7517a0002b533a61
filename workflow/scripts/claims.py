"""Judge the papers' claims on each data set: verdict, effect, interval."""

import sys
from pathlib import Path

from recloss.analysis.claims import judge
from recloss.analysis.results import Results, write_tables
from recloss.analysis.verdicts import Evidence

sys.stderr = open(snakemake.log[0], "w", encoding="utf-8", buffering=1)
config = snakemake.params.config
results = Results(Path(snakemake.input.metrics).parent, config)
tables = results.debiasing(), results.bounds(), results.shown()
evidence = Evidence(results.metrics, results.folder, config, *tables)
write_tables({snakemake.output.table: lambda: judge(evidence)}, snakemake.output.seconds)
