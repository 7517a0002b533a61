"""Write the best trial of every model to tuned.yaml."""

from pathlib import Path

from recloss.experiment.tuning import tuned_yaml
from recloss.files import atomic, log_to

log_to(snakemake.log[0])
text = tuned_yaml([Path(path).parent for path in snakemake.input.metrics], snakemake.params.run)
with atomic(snakemake.output[0]) as temporary:
    temporary.write_text(text, encoding="utf-8")
