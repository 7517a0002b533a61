"""Write the completed configuration beside the results that it made."""

import sys

import yaml

from recloss.files import atomic

sys.stderr = open(snakemake.log[0], "w", encoding="utf-8", buffering=1)
with atomic(snakemake.output[0]) as temporary:
    text = yaml.safe_dump(snakemake.params.config, sort_keys=False, width=100, allow_unicode=True)
    temporary.write_text(text, encoding="utf-8")
