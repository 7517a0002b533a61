"""Render the report of a results folder, of this experiment or of a published one."""

import sys
from pathlib import Path

from recloss.files import atomic
from recloss.report.page import render

sys.stderr = open(snakemake.log[0], "w", encoding="utf-8", buffering=1)
template = Path(snakemake.scriptdir).resolve().parents[1] / "report"
html = render(Path(snakemake.params.results), template)
with atomic(snakemake.output[0]) as temporary:
    temporary.write_text(html, encoding="utf-8")
