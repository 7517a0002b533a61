"""Write the best trial of every model to tuned.yaml."""

import sys
from pathlib import Path

from recloss.experiment.tuning import tuned_yaml
from recloss.files import atomic

sys.stderr = open(snakemake.log[0], "w", encoding="utf-8", buffering=1)
text = tuned_yaml([Path(path).parent for path in snakemake.input.metrics], snakemake.params.run)
with atomic(snakemake.output[0]) as temporary:
    temporary.write_text(text, encoding="utf-8")
