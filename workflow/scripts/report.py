"""Render the report of the experiment."""

import sys
from pathlib import Path

from recloss.files import atomic
from recloss.report import render

sys.stderr = open(snakemake.log[0], "w", buffering=1)
html = render(
    snakemake.params.config,
    Path(snakemake.input.metrics).parent,
    Path(snakemake.scriptdir).resolve().parents[1] / "report",
)
with atomic(snakemake.output[0]) as temporary:
    temporary.write_text(html, encoding="utf-8")
