"""Write the best settings of every model to tuned.yaml, and all trials as one table."""

from pathlib import Path

from recloss.experiment.tuning import trials_csv, tuned_yaml
from recloss.files import atomic, log_to

log_to(snakemake.log[0])
studies = [Path(path) for path in snakemake.input.studies]
text = tuned_yaml(studies, snakemake.params.run)
with atomic(snakemake.output.trials) as temporary:
    trials_csv(studies).to_csv(temporary, index=False)
with atomic(snakemake.output.tuned) as temporary:
    temporary.write_text(text, encoding="utf-8")
