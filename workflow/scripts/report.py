"""Render the report of a results folder, of this experiment or of a published one."""

from pathlib import Path

from recloss.files import atomic, log_to
from recloss.report.page import render

log_to(snakemake.log[0])
template = Path(snakemake.scriptdir).resolve().parents[1] / "report"
html = render(Path(snakemake.params.results), template)
with atomic(snakemake.output[0]) as temporary:
    temporary.write_text(html, encoding="utf-8")
