"""A finished run, the data that it was trained on, and the user's own ids of them."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import compute
from torch import Tensor

from recloss.analysis.scores import Scores, scores_of_run
from recloss.analysis.vectors import read_vectors
from recloss.data.arrays import load_split
from recloss.data.ids import read_ids
from recloss.data.interactions import Split
from recloss.engine.ranking import ranks_by_cosine
from recloss.experiment.schema import CONTROL
from recloss.files import ReclossError
from recloss.models.controls import popularity

INT64 = range(-(2**63), 2**63)


class Finished(NamedTuple):
    """A run: its folder and metrics.json; its split; the ids of users (U,) and of items (I,).

    data: the folder of the data set, where the ids lie.
    """

    folder: Path
    metrics: dict[str, Any]
    data: Path
    split: Split
    users: pa.Array
    items: pa.Array

    @property
    def cosine(self) -> bool:
        """Whether the model ranks by cosine similarity, not by inner product."""
        return ranks_by_cosine(self.metrics["settings"])

    def scores(self, users: np.ndarray | None = None) -> Scores:
        """Return the scores of all users, or of the distinct `users` (n,) in their order."""
        model = self.metrics["loss"]
        if model == "popularity":
            return Scores(popularity(self.split, self.metrics["seed"]))
        if self.metrics["backbone"] == CONTROL:
            raise ReclossError(f"{self.folder}: a {model} order recommends nothing; take a model")
        return scores_of_run(self.folder, self.metrics, self.split.train, self.cosine, users)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Return the vectors of users (U, D) and of items (I, D), as they are."""
        model = self.metrics["loss"]
        if model == "ease" or self.metrics["backbone"] == CONTROL:
            raise ReclossError(f"{self.folder}: {model} has no vectors; take a loss or iALS")
        return read_vectors(self.folder)


def finished(folder: Path, data: Path | None = None) -> Finished:
    """Read a run's folder, results/<run>/<stage>/<data set>/<backbone>/<model>/<variant>/seed<n>.

    data: the folder of its data set; without it, results/<run>/data/<data set>.
    """
    metrics = _read_json(folder / "metrics.json", "give the folder of a finished run")
    data = data or _data_of(folder, metrics["dataset"])
    place = data / metrics["protocol"]
    if (data / "split.json").exists():  # beside the ids, as one may do without the workflow
        place = data
    where = "give the run's data with --data"
    if _read_json(place / "split.json", where)["data_hash"] != metrics["data_hash"]:
        raise ReclossError(f"{place / 'split.npz'}: not the split of {folder}; {where}")
    split = load_split(place / "split.npz")
    ids = []
    for name, count in (("users", split.train.n_users), ("items", split.train.n_items)):
        path = data / f"{name}.parquet"
        ids.append(read_ids(path))
        if len(ids[-1]) != count:
            found = f"{len(ids[-1])} ids for {count} {name}"
            raise ReclossError(f"{path}: {found}; delete it and run recloss prepare")
    return Finished(folder, metrics, data, split, *ids)


def _read_json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ReclossError(f"{path}: {error.strerror}; {remedy}") from None
    except ValueError:
        raise ReclossError(f"{path}: holds no JSON; delete it and make it again") from None


def _data_of(folder: Path, dataset: str) -> Path:
    above = Path(os.path.abspath(folder)).parents
    if len(above) <= 5 or above[3].name != dataset:
        raise ReclossError(f"{folder}: not in a folder of results; name its data with --data")
    return above[5] / "data" / dataset


def chosen_users(path: Path, ids: pa.Array) -> np.ndarray:
    """Return the indices in `ids` (U,) of the users that a text file names, an id a line.

    int64 (n,), each once, in the order of the file. Blank lines are skipped.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise ReclossError(f"{path}: {error.strerror}; write one user id a line") from None
    except UnicodeDecodeError:
        raise ReclossError(f"{path}: not UTF-8; write one user id a line in UTF-8") from None
    names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not names:
        raise ReclossError(f"{path}: names no user; write one user id a line")
    number = pa.types.is_integer(ids.type)
    values = [_integer(name) for name in names] if number else names
    indices = compute.index_in(pa.array(values, ids.type), value_set=ids)
    if indices.null_count:
        first = names[indices.is_null().index(True).as_py()]
        count = f"{indices.null_count} of its {len(names)} ids"
        raise ReclossError(f"{path}: no user {first!r}; {count} are unknown, delete them")
    return np.fromiter(dict.fromkeys(indices.to_pylist()), np.int64)


def _integer(name: str) -> int | None:
    """Return an id as int64, None if it is not one."""
    digits = name.removeprefix("-")
    if not digits.isdecimal() or len(digits) > 19:
        return None
    return value if (value := int(name)) in INT64 else None
