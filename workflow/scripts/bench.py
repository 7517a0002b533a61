"""Write the benchmarks' ratios, figure and page."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).resolve().parents[1]))  # of benchmarks/

from benchmarks.page import render_bench, summary
from recloss.files import atomic, log_to, write_json
from recloss.report import figures, look

log_to(snakemake.log[0])
parts = {
    Path(path).stem: json.loads(Path(path).read_text("utf-8"))
    for path in [*snakemake.input.parts, *snakemake.input.peers]
}
ratios = summary(parts)
write_json(snakemake.output.summary, ratios)
look.save(figures.growth_curves(parts["growth"]["rows"]), snakemake.output.growth)
html = render_bench(ratios, parts, snakemake.output.growth)
with atomic(snakemake.output.page) as temporary:
    temporary.write_text(html, encoding="utf-8")
