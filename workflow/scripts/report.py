"""Render the report of the experiment."""

import sys
from pathlib import Path

from recloss.files import atomic
from recloss.report import render

sys.stderr = open(snakemake.log[0], "w", buffering=1)
given = snakemake.input
names = ("rows", "table", "moved_rows", "moved")
debiasing = dict(zip(names, given.get("debiasing", []), strict=False))
truth = dict(zip(("table", "figure"), given.get("truth", []), strict=False))
html = render(
    config=snakemake.params.config,
    metrics=given.metrics,
    tables={"data": given.data, "main": given.main_table, "cost": given.cost},
    figures={"main": given.main_figure, "learning_curves": given.learning_curves},
    debiasing=debiasing,
    truth=truth,
    grids=list(
        zip(snakemake.params.config["grids"], given.grid_figures, given.grid_tables, strict=True)
    ),
    template=Path(snakemake.scriptdir).resolve().parents[1] / "report",
)
with atomic(snakemake.output[0]) as temporary:
    temporary.write_text(html, encoding="utf-8")
