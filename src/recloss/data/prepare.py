"""From files of interactions to arrays, the ids they stand for, and a manifest."""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from recloss.data.arrays import hash_arrays, pack, write_arrays
from recloss.data.files import own_files
from recloss.data.ids import write_ids
from recloss.data.implicit import Pairs, to_implicit
from recloss.data.interactions import Interactions
from recloss.data.parse import load, read, read_named
from recloss.data.sources import checksum, rows_of
from recloss.data.tables import Ratings, describe, is_table, layout_of, read_table, whole_numbers
from recloss.data.testset import divide
from recloss.files import ReclossError, write_json


class Reading(NamedTuple):
    """How a table is read: its columns (`tables.layout_of`) and what counts (`to_implicit`)."""

    columns: dict[str, str | int] | None = None
    header: bool | None = None
    at_least: float | None = None
    duplicates: str = "last"
    core: int = 1


class Division(NamedTuple):
    """How ratings are divided (`testset.divide`)."""

    by: str = "share"
    test_share: float = 0.2
    validation: float = 0.1
    seed: int = 0


class Prepared(NamedTuple):
    """A data set: its sets by name, the ids of users and items, what the manifest says of both.

    sets: `train`, of which `valid` is a part where it is given, and `test`; `shown`, where users
    were shown items at random: all of these, the liked ones among them being the test.
    """

    sets: dict[str, Interactions]
    user_ids: pa.Array
    item_ids: pa.Array
    source: dict[str, Any]


def of_entry(entry: dict[str, Any], validation: float = 0.1) -> Prepared:
    """Return the data set of an entry of the configuration that has a `path`, completed."""
    files = own_files(entry)
    at_least = entry.get("rating", {}).get("at_least")
    reading = Reading(
        entry.get("columns"), entry.get("header"), at_least, entry["duplicates"], entry["core"]
    )
    if "ratings" not in files:
        return from_sets(files, reading)
    split = entry.get("split", {})
    return from_ratings(files["ratings"], reading, Division(**split, validation=validation))


def from_indices(files: dict[str, Path], published: str | None = None) -> Prepared:
    """Return a published or simulated data set, whose ids are indices from 0: all of them count.

    files: `train` and `test`, perhaps `valid`, a part of train. published: the name under which
    sources.csv declares the counts.
    """
    declared = rows_of(published) if published else None
    train, test = load(files["train"], files["test"], declared)
    sets = {"train": train, "test": test}
    if "valid" in files:
        found, lines = read(files["valid"], train.n_users, train.n_items)
        sets["valid"] = Interactions(found.users, found.items, train.n_users, train.n_items)
        missing = ~np.isin(sets["valid"].keys(), train.keys())
        if missing.any():
            line, where = lines[missing.argmax()], f"{files['valid']}"
            raise ReclossError(f"{where}:{line}: a pair that {files['train']} has not; fetch again")
    ids = (pa.array(np.arange(n)) for n in (train.n_users, train.n_items))
    return Prepared(sets, *ids, {})


def from_ratings(path: Path, reading: Reading, division: Division) -> Prepared:
    """Return a data set made of one file of ratings, or of lists, by a division of our own."""
    found, source = _pairs_of(path, reading, times=division.by in ("time", "leave_one_out"))
    train, test, valid, counts = divide(path, found, **division._asdict())
    sets = {"train": train, "test": test} | ({} if valid is None else {"valid": valid})
    source |= {"split": division._asdict(), "counts": found.counts | counts}
    return Prepared(sets, found.user_ids, found.item_ids, source)


def from_sets(files: dict[str, Path], reading: Reading, published: str | None = None) -> Prepared:
    """Return a data set whose division is given by its files, `files.files_of`'s.

    Pairs of `valid` may be in `train` too. What is shown but was trained on is left out. published:
    the name under which sources.csv declares the counts of tables, whatever their names.
    """
    tables = published is not None
    if reading.core > 1:
        raise ReclossError(f"{files['train']}: core would change a given division; leave core out")
    parts: dict[str, Pairs] = {}
    parts["train"], source = _pairs_of(files["train"], reading, tables)
    for name, path in files.items():
        if name == "shown":
            parts["shown"], _ = _pairs_of(path, reading._replace(at_least=None), tables)
        if name != "train":
            into = "test" if name == "shown" else name
            parts[into], _ = _pairs_of(path, reading, tables, rated=name == "shown")
    user_ids, item_ids, sets = _over_common_ids(parts)
    counts = sum((Counter(parts[name].counts) for name in parts if name != "shown"), Counter())
    declared = sum(row.interactions for row in rows_of(published)) if published else None
    if declared not in (None, counts["rows"]):
        raise ReclossError(
            f"{files['train']}: {counts['rows']} rows with the other files, not {declared}; one is "
            "truncated or another version: delete them and fetch again"
        )
    if "valid" in sets:
        sets["train"] = _union(sets["train"], sets["valid"])
    if "shown" in sets:
        fresh = ~np.isin(sets["shown"].keys(), sets["train"].keys())
        counts["shown but trained on"] = int((~fresh).sum())
        sets["shown"] = sets["shown"].select(fresh)
        sets["test"] = sets["test"].select(np.isin(sets["test"].keys(), sets["shown"].keys()))
    judged = files.get("shown", files.get("test"))
    if not len(sets["test"]):
        raise ReclossError(
            f"{judged}: no pair is left to test on; give pairs that {files['train']} does not have"
        )
    for side in ("users", "items"):
        tested, trained = (getattr(sets[name], side) for name in ("test", "train"))
        if not np.isin(tested, trained).any():
            raise ReclossError(
                f"{judged}: none of its {side} is in {files['train']}; write their ids alike"
            )
    both = np.isin(sets["test"].keys(), sets["train"].keys())
    if both.any():
        at = both.argmax()
        user, item = user_ids[sets["test"].users[at]], item_ids[sets["test"].items[at]]
        raise ReclossError(
            f"{files.get('test')}: user {user} has item {item} in {files['train']} too; delete it "
            "from one of them"
        )
    return Prepared(sets, user_ids, item_ids, source | {"counts": dict(counts)})


def _pairs_of(
    path: Path, reading: Reading, tables: bool = False, rated: bool = False, times: bool = False
) -> tuple[Pairs, dict[str, Any]]:
    """Return the pairs of a file, and what the manifest says of how it was read.

    tables: it is a table whatever its name; rated: ratings must tell what is liked; times: they are
    needed.
    """
    if not (tables or is_table(path)):
        if rated or reading.at_least is not None:
            raise ReclossError(f"{path}: lists have no ratings; give a table, or no at_least")
        *ids, users, items = read_named(path)
        rows = Ratings(users, items, *map(whole_numbers, ids), rating=None, timestamp=None)
        return to_implicit(path, rows, core=reading.core), {"format": "lists"}
    layout = layout_of(path, reading.columns, reading.header)
    if reading.at_least is None and rated:
        raise ReclossError(f"{path}: which ratings are liked? Say so as in rating: {{at_least: 4}}")
    if reading.at_least is not None and "rating" not in layout.columns:
        raise ReclossError(
            f"{path}: which column is the rating? It has {', '.join(layout.names)}; say so as in "
            f"columns: {{rating: {layout.names[-1]}}}, or leave out rating"
        )
    by_rating = reading.at_least is not None
    timed = "timestamp" in layout.columns and (times or by_rating)
    ratings = read_table(path, layout, by_rating, timed)
    source = describe(path, layout) | ({"at_least": reading.at_least} if by_rating else {})
    return to_implicit(path, ratings, reading.at_least, reading.duplicates, reading.core), source


def _over_common_ids(
    parts: dict[str, Pairs],
) -> tuple[pa.Array, pa.Array, dict[str, Interactions]]:
    """Return the ids of users and items of all parts together, and each part's pairs over them."""
    ids, places = [], []
    for side in ("user_ids", "item_ids"):
        mine = [getattr(part, side) for part in parts.values()]
        if len({array.type for array in mine}) > 1:
            mine = [array.cast(pa.string()) for array in mine]
        together = pa.concat_arrays(mine).dictionary_encode()
        ids.append(whole_numbers(together.dictionary))
        codes = together.indices.to_numpy().astype(np.int32)
        places.append(np.split(codes, np.cumsum([len(array) for array in mine])[:-1]))
    sizes = [len(array) for array in ids]
    sets = {}
    for name, users, items in zip(parts, *places, strict=True):
        pairs = parts[name].pairs
        sets[name] = _sorted(users[pairs.users], items[pairs.items], *sizes)
    return *ids, sets


def _sorted(users: np.ndarray, items: np.ndarray, n_users: int, n_items: int) -> Interactions:
    """Return pairs as `Interactions`, each once."""
    keys = np.unique(users.astype(np.int64) * n_items + items)
    pairs = (ids.astype(np.int32) for ids in np.divmod(keys, n_items))
    return Interactions(*pairs, n_users, n_items)


def _union(one: Interactions, other: Interactions) -> Interactions:
    users, items = (
        np.concatenate([getattr(x, k) for x in (one, other)]) for k in ("users", "items")
    )
    return _sorted(users, items, one.n_users, one.n_items)


def write(name: str, found: Prepared, files: dict[str, Path], out: Path) -> dict[str, Any]:
    """Write interactions.npz, users.parquet, items.parquet and manifest.json; return the latter.

    What is written depends on nothing but the arguments and the files' content.
    """
    train, test = found.sets["train"], found.sets["test"]
    arrays = pack(**found.sets)
    manifest = {
        "dataset": name,
        "n_users": train.n_users,
        "n_items": train.n_items,
        **{f"n_{part}": len(pairs) for part, pairs in found.sets.items()},
        "density": train.density + test.density,
        "users_without_test": int((test.counts() == 0).sum()),
        "items_without_train": train.n_items - len(np.unique(train.items)),
        **({"source": found.source} if found.source else {}),
        "sha256": {part: checksum(path) for part, path in files.items()},
        "data_hash": hash_arrays(arrays),
    }
    write_arrays(out / "interactions.npz", arrays)
    write_ids(out / "users.parquet", found.user_ids)
    write_ids(out / "items.parquet", found.item_ids)
    write_json(out / "manifest.json", manifest)
    return manifest
