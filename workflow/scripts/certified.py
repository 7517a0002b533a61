"""Note beside certificates what they were computed with."""

from pathlib import Path

from recloss.experiment.finished import with_data
from recloss.files import log_to, write_json

log_to(snakemake.log[0])
record = Path(snakemake.output[0])
(certified,) = with_data(snakemake.params.wanted, record.parents[2]).values()
write_json(record, certified)
