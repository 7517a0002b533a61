"""Take the published runs that the experiment asks for as its own."""

import sys
from pathlib import Path

from recloss.experiment.finished import with_data
from recloss.experiment.restore import restore
from recloss.files import log_to

log_to(snakemake.log[0])
results = Path(snakemake.input[0]).parents[3]  # of data/NAME/PROTOCOL/split.json
runs, published = with_data(snakemake.params.runs, results), snakemake.params.published
copied, other = restore(Path(published), results, runs)
said = []
for name, tuned in (("runs", False), ("studies", True)):
    taken, asked = (sum(p.startswith("tune/") == tuned for p in paths) for paths in (copied, runs))
    if asked:
        said.append(f"{taken} of {asked} {name}")
said = f"{' and '.join(said)} taken from {published}"
print(f"{said}; {len(other)} of other settings, data or code left", file=sys.__stderr__)
