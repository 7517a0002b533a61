"""Copy the tidy results of the experiment to results/published."""

import shutil
import sys
from pathlib import Path

import yaml

from recloss.files import atomic

sys.stderr = open(snakemake.log[0], "w", buffering=1)
published = Path(snakemake.output.config).parent
results = Path(snakemake.input.metrics).parent
for folder in ("tables", "figures"):
    shutil.rmtree(published / folder, ignore_errors=True)
for path in map(Path, snakemake.input):
    target = published / path.relative_to(results)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
with atomic(snakemake.output.config) as temporary:
    temporary.write_text(yaml.safe_dump(snakemake.params.config, sort_keys=False, width=100))
