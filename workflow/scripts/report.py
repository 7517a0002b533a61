"""Render the report of the experiment, or of one that was published with its configuration."""

import sys
from pathlib import Path

import yaml

from recloss.files import atomic
from recloss.report.page import render

sys.stderr = open(snakemake.log[0], "w", buffering=1)
results = Path(snakemake.output[0]).parent
config = snakemake.params.get("config")
if config is None:
    config = yaml.safe_load((results / "config.yaml").read_text())
html = render(config, results, Path(snakemake.scriptdir).resolve().parents[1] / "report")
with atomic(snakemake.output[0]) as temporary:
    temporary.write_text(html, encoding="utf-8")
