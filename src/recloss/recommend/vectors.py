"""The vectors of a run under the user's own ids, ready for an index by inner product."""

from pathlib import Path

import pyarrow as pa
from pyarrow import parquet
from torch import Tensor
from torch.nn import functional

from recloss.files import ReclossError, atomic
from recloss.recommend.finished import Finished
from recloss.recommend.lists import writable


def export(run: Finished, out: Path) -> None:
    """Write users.parquet and items.parquet to the folder `out`: columns id, vector (D) float32.

    Vectors of a model that ranks by cosine have length 1, so that inner product is cosine.
    """
    if out.resolve() == run.data.resolve():
        raise ReclossError(f"--out {out}: the ids of the data lie there; choose another --out")
    for name, vectors in zip(("users", "items"), run.vectors(), strict=True):
        table = functional.normalize(vectors, dim=1) if run.cosine else vectors
        path = out / f"{name}.parquet"
        with writable(path), atomic(path) as temporary:
            parquet.write_table(_table(getattr(run, name), table), temporary)


def _table(ids: pa.Array, vectors: Tensor) -> pa.Table:
    flat = pa.array(vectors.flatten().numpy(), pa.float32())
    lists = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    return pa.table({"id": ids, "vector": lists})
