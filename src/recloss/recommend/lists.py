"""The best items of every user, user by user as evaluation ranks them, written block by block."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pyarrow import csv, parquet
from torch import Tensor

from recloss.analysis.scores import Scores, of_users
from recloss.data.interactions import Interactions
from recloss.engine.ranking import Mask, block_users, top_k
from recloss.files import ReclossError, atomic
from recloss.recommend.finished import Finished

ROWS = 2**19  # of the table that are held before they are written
SUFFIXES = (".parquet", ".csv", ".csv.gz")

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def top_rows(scores: Scores, masked: Sequence[Interactions], k: int) -> Iterator[Rows]:
    """Yield (user, item, rank, score), (n,) each, of a block of users after the other.

    masked: pairs that no list has, of as many users as `scores` knows. Of k items a user gets as
    many as are left; rank counts from 1, equal scores are ordered by item.
    """
    n_users, n_items = masked[0].n_users, masked[0].n_items
    cpu, k = torch.device("cpu"), min(k, n_items)
    masks, block = [Mask(pairs, cpu) for pairs in masked], block_users(n_items, cpu)

    def best(low: int, high: int) -> tuple[Tensor, Tensor]:
        values = scores.block(low, high)  # freed on return, so that there is one at a time
        for mask in masks:
            mask.apply(values, low)
        items = top_k(values, k)
        return items, values.gather(1, items)

    for low in range(0, n_users, block):
        items, values = best(low, min(low + block, n_users))
        users, places = torch.where(values > -torch.inf)
        values = scores.meant(values, low)
        columns = (users + low, items[users, places], places + 1, values[users, places])
        yield tuple(column.numpy() for column in columns)


def check(out: Path, k: int) -> None:
    """Refuse a file that is neither Parquet nor CSV by its name, and lists of no item."""
    if not out.name.endswith(SUFFIXES):
        raise ReclossError(f"--out {out}: unknown suffix; take one of {', '.join(SUFFIXES)}")
    if k < 1:
        raise ReclossError(f"--k {k}: a list has at least one item; take --k 20")


def recommend(
    run: Finished, out: Path, k: int, users: np.ndarray | None = None, leave_out_test: bool = False
) -> None:
    """Write the k best items of all users, or of the distinct `users` (n,) in their order.

    Columns user, item (the user's own ids), rank, score; Parquet or CSV as the suffix of `out`
    says. Items of train and validation are left out, with `leave_out_test` those of test, too.
    """
    check(out, k)
    masked = [run.split.train, run.split.valid, *([run.split.test] if leave_out_test else [])]
    ids = run.users
    if users is not None:
        masked, ids = [of_users(pairs, users) for pairs in masked], ids.take(pa.array(users))
    types = {"user": ids.type, "item": run.items.type, "rank": pa.int32(), "score": pa.float32()}
    schema = pa.schema(list(types.items()))
    with _writer(out, schema) as write:
        for user, item, rank, score in top_rows(run.scores(users), masked, k):
            columns = (ids.take(pa.array(user)), run.items.take(pa.array(item)))
            write(pa.table([*columns, rank.astype(np.int32), score], schema=schema))


@contextlib.contextmanager
def _writer(out: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """Yield a function that appends a table to `out`, which is there only if all went well."""
    with writable(out), atomic(out) as temporary, contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(temporary.open("wb"))
        if out.name.endswith(".parquet"):
            writer = stack.enter_context(parquet.ParquetWriter(file, schema))
        else:
            if out.name.endswith(".gz"):
                file = stack.enter_context(pa.CompressedOutputStream(file, "gzip"))
            writer = stack.enter_context(csv.CSVWriter(file, schema))
        waiting: list[pa.Table] = []

        def flush() -> None:
            writer.write_table(pa.concat_tables([schema.empty_table(), *waiting]))
            waiting.clear()

        def write(table: pa.Table) -> None:
            waiting.append(table)
            if sum(map(len, waiting)) >= ROWS:
                flush()

        yield write
        flush()


@contextlib.contextmanager
def writable(out: Path) -> Iterator[None]:
    """Make a fault of the file system one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise ReclossError(f"{out}: cannot be written: {reason}; choose another --out") from None
