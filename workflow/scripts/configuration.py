"""Write the completed configuration beside the results that it made."""

import yaml

from recloss.files import atomic, log_to

log_to(snakemake.log[0])
with atomic(snakemake.output[0]) as temporary:
    text = yaml.safe_dump(snakemake.params.config, sort_keys=False, width=100, allow_unicode=True)
    temporary.write_text(text, encoding="utf-8")
