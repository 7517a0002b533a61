"""Write the benchmarks' ratios, figure and page."""

import json
import sys
from pathlib import Path

from recloss import bench, figures
from recloss.files import atomic, write_json
from recloss.report import render_bench

sys.stderr = open(snakemake.log[0], "w", buffering=1)
parts = {
    Path(path).stem: json.loads(Path(path).read_text())
    for path in [*snakemake.input.parts, *snakemake.input.peers]
}
ratios = bench.summary(parts)
write_json(snakemake.output.summary, ratios)
figures.save(figures.growth_curves(parts["growth"]["rows"]), snakemake.output.growth)
template = Path(snakemake.scriptdir).resolve().parents[1] / "report"
html = render_bench(ratios, parts, snakemake.output.growth, template)
with atomic(snakemake.output.page) as temporary:
    temporary.write_text(html, encoding="utf-8")
