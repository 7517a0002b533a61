"""Take what was published of the runs, studies and certificates of the experiment as its own."""

import sys
from pathlib import Path

from recloss.experiment.finished import CERTIFICATES, FILES, STUDY, files_of, with_data
from recloss.experiment.restore import restore
from recloss.files import log_to

log_to(snakemake.log[0])
results = Path(snakemake.input[0]).parents[3]  # of data/NAME/PROTOCOL/split.json
runs, published = with_data(snakemake.params.runs, results), snakemake.params.published
copied, other = restore(Path(published), results, runs)
said = []
for name, files in (("runs", FILES), ("studies", STUDY), ("certificates", CERTIFICATES)):
    taken, asked = (sum(files_of(path) == files for path in paths) for paths in (copied, runs))
    if asked:
        said.append(f"{taken} of {asked} {name}")
said = f"{', '.join(said)} taken from {published}"
print(f"{said}; {len(other)} of other settings, data or code left", file=sys.__stderr__)
