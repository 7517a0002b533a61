"""The user's own ids of users and items, kept beside the data to find the way back."""

from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from recloss.files import ReclossError, atomic


def write_ids(path: str | Path, ids: pa.Array) -> None:
    """Write ids, int64 or text, the i-th of which is that of index i, as a Parquet column `id`."""
    with atomic(path) as temporary:
        parquet.write_table(pa.table({"id": ids}), temporary)


def read_ids(path: str | Path) -> pa.Array:
    """Return the ids that `write_ids` wrote: int64 or text (n,)."""
    try:
        return parquet.read_table(path)["id"].combine_chunks()
    except FileNotFoundError:
        raise ReclossError(f"{path}: no such file; make it with recloss prepare") from None
    except (OSError, KeyError, pa.ArrowInvalid):
        raise ReclossError(f"{path}: holds no ids; delete it and run recloss prepare") from None
