"""Read ratings from tables: CSV, TSV and other delimited text, RecBole's .inter, Parquet.

Text and Parquet are read by pyarrow; what it cannot read is looked through line by line, to say
which line is at fault.
"""

import csv
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
from pyarrow import compute, parquet
from pyarrow import csv as arrow_csv

from recloss.data.recognise import HEAD, check_text, is_gzip, read_bytes, suffix_of
from recloss.files import ReclossError

PARQUET = (".parquet", ".pq")
DELIMITERS = {".tsv": "\t", ".inter": "\t", ".tab": "\t"}
NAMES = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars", " ": "blanks"}
# Names that columns have in the field, without case and signs.
KNOWN = {
    "user": "user userid uid username customer customerid reviewer reviewerid member memberid "
    "visitor visitorid profile profileid session sessionid account accountid",
    "item": "item itemid iid movie movieid product productid asin parentasin sku book bookid isbn "
    "business businessid gmapid song songid track trackid artist artistid anime animeid game "
    "gameid article articleid news newsid video videoid photo photoid recipe recipeid course "
    "courseid place placeid poi poiid venue venueid location locationid",
    "rating": "rating ratings stars star score overall bookrating userrating ratingvalue",
    "timestamp": "timestamp time ts date datetime unixreviewtime reviewtime createdat ratedat "
    "ratingtime unixtime",
}
ROLES = {word: role for role, words in KNOWN.items() for word in words.split()}
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
A_TIME = 10**8  # seconds: a number above is a time (from 1973 on), not a rating


class Layout(NamedTuple):
    """How a table is read: its delimiter (None: Parquet), if it has a header, its columns.

    columns: position from 0 of `user`, `item` and, where they are known, `rating` and `timestamp`;
    names: of all columns, from the header, or their positions from 1.
    """

    delimiter: str | None
    header: bool
    columns: dict[str, int]
    names: list[str]


class Ratings(NamedTuple):
    """The rows of a table, in their order, and the ids that they name.

    users, items: positions in `user_ids` and `item_ids`, which are in order of first appearance,
    int32 (n,). rating float64 (n,), timestamp float64 or int64 (n,): None where not asked for.
    """

    users: np.ndarray
    items: np.ndarray
    user_ids: pa.Array
    item_ids: pa.Array
    rating: np.ndarray | None
    timestamp: np.ndarray | None

    def __len__(self) -> int:
        return len(self.users)


def is_table(path: str | Path) -> bool:
    """Tell whether a file is a table by its name; others are lists (`parse`)."""
    return suffix_of(path) != ".txt"


def plain(name: str) -> str:
    """Return a column's name without RecBole's type, case and signs."""
    return re.sub("[^a-z0-9]", "", name.split(":")[0].lower())


def layout_of(
    path: str | Path,
    columns: Mapping[str, str | int] | None = None,
    header: bool | None = None,
) -> Layout:
    """Return how to read a table: what is given, and the rest guessed from its first lines.

    columns: name, or position from 1, of `user`, `item`, `rating`, `timestamp`; what is not given
    is found by its name, or where there is no header by the usual order user, item, rating, time.
    header: None to guess. Raises `ReclossError` with what is missing and what there is.
    """
    columns = columns or {}
    if suffix_of(path) in PARQUET:
        names, rows, delimiter, has_header = _parquet_names(path), [], None, True
    else:
        rows, delimiter = _first_rows(path)
        named = any(isinstance(column, str) for column in columns.values())
        has_header = (named or _is_header(rows)) if header is None else header
        names = rows[0] if has_header else [str(at + 1) for at in range(len(rows[0]))]
        names = [name.strip() for name in names]
    given = {role: _position(path, column, names, role) for role, column in columns.items()}
    if has_header:
        found = {
            ROLES[plain(n)]: at for at, n in reversed([*enumerate(names)]) if plain(n) in ROLES
        }
    else:
        found = _usual_order(rows[0]) if not given else {}
    found = {role: at for role, at in found.items() if at not in given.values()} | given
    for role in ("user", "item"):
        if role not in found:
            raise ReclossError(
                f"{path}: which column is the {role}? It has {', '.join(names)}; say so as in "
                f"columns: {{user: {names[0]}, item: {names[min(1, len(names) - 1)]}}}"
                + (", or header: false if these are no names" if has_header and rows else "")
            )
    if len(set(found.values())) < len(found):
        raise ReclossError(f"{path}: columns {dict(columns)}: two are the same; give each its own")
    return Layout(delimiter, has_header, {r: found[r] for r in KNOWN if r in found}, names)


def _position(path: str | Path, column: str | int, names: list[str], role: str) -> int:
    if isinstance(column, int):
        if 1 <= column <= len(names):
            return column - 1
        raise ReclossError(f"{path}: no column {column}; it has {len(names)}, counted from 1")
    exact = [at for at, name in enumerate(names) if column in (name, name.split(":")[0])]
    if not exact:
        raise ReclossError(
            f"{path}: no column {column!r} for the {role}; it has {', '.join(names)}"
        )
    return exact[0]


def _parquet_names(path: str | Path) -> list[str]:
    try:
        return parquet.read_schema(path).names
    except (OSError, pa.ArrowException):
        try:
            with open(path, "rb") as stream:
                begins_well = stream.read(4) == b"PAR1"
        except OSError as error:
            raise ReclossError(f"{path}: {error.strerror}; give a readable file") from None
        if not begins_well:
            read_bytes(path, HEAD)  # says what it is, if that is known
        what = "broken Parquet; fetch or write it again" if begins_well else "no Parquet; rename it"
        raise ReclossError(f"{path}: this is {what}") from None


def _lines(text: bytes) -> list[str]:
    return re.split("\r\n|\r|\n", text.decode())


def _first_rows(path: str | Path) -> tuple[list[list[str]], str]:
    """Return the first rows of a text, one at least, and what separates its columns."""
    head = read_bytes(path, HEAD)
    if len(head) == HEAD:  # the last line may be cut
        head = head[: max(head.rfind(b"\n"), head.rfind(b"\r")) + 1] or head
    lines = _lines(check_text(path, head))[:20]
    if not lines[0].strip():
        raise ReclossError(f"{path}:1: the first line is blank; delete it")
    if "::" in lines[0]:
        raise ReclossError(
            f"{path}:1: fields are separated by '::'; put commas there and name it .csv, as by "
            f"sed 's/::/,/g' {Path(path).name}"
        )
    counts = {mark: lines[0].count(mark) for mark in NAMES}
    found = max("\t,;|", key=counts.get)
    if not counts[found]:
        found = " "
        if not counts[found]:
            raise ReclossError(
                f"{path}:1: {lines[0][:40]!r} is one column; put commas or tabs between user and "
                "item, or name lists of items, one line a user, .txt"
            )
    delimiter = DELIMITERS.get(suffix_of(path), found)
    return [*csv.reader(filter(str.strip, lines), delimiter=delimiter)], delimiter


def _is_header(rows: list[list[str]]) -> bool:
    """Tell whether the first row names columns: none is a number, one is known or above numbers."""
    first, second = rows[0], rows[1] if len(rows) > 1 else []
    if any(NUMBER.fullmatch(cell) for cell in first):
        return False
    above = any(NUMBER.fullmatch(cell) for cell in second[: len(first)])
    return above or any(plain(cell) in ROLES for cell in first)


def _usual_order(row: list[str]) -> dict[str, int]:
    """Return the columns of a table without names: user, item, then rating or time, or both."""
    found = {"user": 0, "item": 1} if len(row) > 1 else {}
    for at, cell in enumerate(row[2:4], start=2):
        is_number = NUMBER.fullmatch(cell)
        small = is_number and abs(float(cell)) < A_TIME
        if small and at == 2:
            found["rating"] = at
        elif not small and "timestamp" not in found:
            found["timestamp"] = at
    return found


def read_table(
    path: str | Path, layout: Layout, rating: bool = False, timestamp: bool = False
) -> Ratings:
    """Read the users, items and, if asked, ratings and timestamps of a table.

    Raises `ReclossError` as `<file>:<line>: <what>; <remedy>` for a line with other columns than
    the first, an empty id, what is no number or time.
    """
    wanted = ["user", "item", *["rating"] * rating, *["timestamp"] * timestamp]
    try:
        if layout.delimiter is None:
            places = [layout.names[layout.columns[role]] for role in wanted]
            table = parquet.read_table(path, columns=places)
            table = pa.table([table[place] for place in places], wanted)
        else:
            table = _read_text(path, layout, wanted)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        _find_fault(path, layout, wanted, _short(error))
    try:
        if not len(table):
            raise _Fault("no row")
        users, items = (_ids(table[role], role) for role in ("user", "item"))
        numbers = [_numbers(table[role]) for role in wanted[2:]]
    except _Fault as fault:
        _find_fault(path, layout, wanted, str(fault))
    named = dict(zip(wanted[2:], numbers, strict=True))
    pairs = (x.indices.to_numpy(zero_copy_only=False) for x in (users, items))
    ids = (x.dictionary for x in (users, items))
    return Ratings(*pairs, *ids, named.get("rating"), named.get("timestamp"))


class _Fault(Exception):
    """What is wrong with a column."""


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0].split(": ", 1)[-1][:200] if str(error) else "unreadable"


def _read_text(path: str | Path, layout: Layout, wanted: list[str]) -> pa.Table:
    names = [f"f{layout.columns[role]}" for role in wanted]
    of_ids = pa.dictionary(pa.int32(), pa.string())
    types = dict.fromkeys(names[:2], of_ids) | dict.fromkeys(names[2:], pa.float64())

    def read(types: dict[str, pa.DataType]) -> pa.Table:
        return arrow_csv.read_csv(
            path,
            read_options=arrow_csv.ReadOptions(
                autogenerate_column_names=True, skip_rows=int(layout.header)
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=layout.delimiter),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types, include_columns=names, null_values=[""]
            ),
        )

    try:
        table = read(types)
    except pa.ArrowInvalid:
        if "timestamp" not in wanted:
            raise
        table = read({name: types[name] for name in names if name != names[-1]})  # dates
    for at, name in enumerate(names[:2]):
        table = table.set_column(at, name, _trimmed(table[name]))
    return table.rename_columns(wanted)


def _trimmed(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return ids without spaces around them, as after the comma of `1, 3`; empty ones as null."""
    if all(c.dictionary.equals(compute.utf8_trim_whitespace(c.dictionary)) for c in ids.chunks):
        return ids
    found = compute.utf8_trim_whitespace(ids.cast(pa.string()))
    return compute.if_else(compute.equal(found, ""), None, found).dictionary_encode()


def _ids(column: pa.ChunkedArray, role: str) -> pa.DictionaryArray:
    """Return ids as positions in those that appear, integers or text, in order of appearance."""
    if column.null_count:
        raise _Fault(f"an empty {role}")
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        if not pa.types.is_string(kind):
            column = column.cast(kind)
    if pa.types.is_integer(kind):
        column = column.cast(pa.string() if kind == pa.uint64() else pa.int64())
    elif pa.types.is_floating(kind):
        values = column.to_numpy()
        if not np.array_equal(values, np.floor(values)) or np.abs(values).max() > 2**53:
            raise _Fault(f"a {role} that is no whole number")
        column = column.cast(pa.int64())
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise _Fault(f"a {role} of type {kind}: integers or text are ids")
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    found = in_order(column.unify_dictionaries().combine_chunks())
    return pa.DictionaryArray.from_arrays(found.indices, whole_numbers(found.dictionary, role))


def in_order(found: pa.DictionaryArray) -> pa.DictionaryArray:
    """Return ids with their dictionary in order of first appearance, and no more than appear."""
    codes = found.indices.to_numpy(zero_copy_only=False)
    highest = np.maximum.accumulate(codes)
    if (
        codes[0] == 0
        and highest[-1] + 1 == len(found.dictionary)
        and np.diff(highest).max(initial=0) < 2
    ):
        return found
    used, first = np.unique(codes, return_index=True)
    order = np.argsort(first)
    new = np.empty(len(found.dictionary), np.int32)
    new[used[order]] = np.arange(len(used), dtype=np.int32)
    dictionary = found.dictionary.take(pa.array(used[order]))
    return pa.DictionaryArray.from_arrays(pa.array(new[codes]), dictionary)


def whole_numbers(ids: pa.Array, role: str = "id") -> pa.Array:
    """Return ids as int64 if each is the text of a whole number, as that of 7 but not of 007."""
    if pa.types.is_integer(ids.type):
        return ids
    if compute.any(compute.equal(compute.utf8_trim_whitespace(ids), "")).as_py():
        raise _Fault(f"an empty {role}")
    try:
        numbers = ids.cast(pa.int64())
    except pa.ArrowInvalid:
        return ids.cast(pa.string())
    alike = compute.all(compute.equal(numbers.cast(ids.type), ids)).as_py()
    return numbers if alike else ids.cast(pa.string())


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Return ratings or times as numbers, int64 or float64 (n,)."""
    if column.null_count:
        raise _Fault("an empty cell")
    if pa.types.is_temporal(column.type):
        if pa.types.is_time(column.type) or pa.types.is_duration(column.type):
            raise _Fault(f"a time of type {column.type}: dates or numbers tell what came last")
        column = column.cast(pa.timestamp("ns")).cast(pa.int64())
    elif pa.types.is_decimal(column.type) or pa.types.is_boolean(column.type):
        column = column.cast(pa.float64())
    elif not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise _Fault("a cell that is neither a number nor a date as 2024-01-31 12:00:00")
    values = column.to_numpy()
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise _Fault("a cell that is no number")
    return values


def _rows(path: str | Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of each row of a text, but for the header."""
    text = check_text(path, read_bytes(path))
    reader = csv.reader(_lines(text), delimiter=layout.delimiter)
    rows = ((reader.line_num, row) for row in reader if row)
    yield from itertools.islice(rows, int(layout.header), None)


def _find_fault(path: str | Path, layout: Layout, wanted: list[str], reason: str) -> NoReturn:
    """Raise the first fault of a table, with its line if it is a text's."""
    if layout.delimiter is None:
        raise ReclossError(f"{path}: {reason}; mend that column, or leave such rows out")
    line = 0
    try:
        for line, row in _rows(path, layout):
            if fault := _fault_of(row, layout, wanted):
                raise ReclossError(f"{path}:{line}: {fault}; mend or delete the line")
    except csv.Error as error:
        reason = str(error)
    if not line:
        raise ReclossError(f"{path}: no row but the header; fetch or write it again")
    raise ReclossError(f"{path}: {reason}; mend that, or write it as Parquet")


def _fault_of(row: list[str], layout: Layout, wanted: list[str]) -> str | None:
    if len(row) != len(layout.names):
        return f"{len(row)} columns, the first line has {len(layout.names)}"
    for role in wanted:
        name, cell = layout.names[layout.columns[role]], row[layout.columns[role]].strip()
        if not cell:
            return f"an empty {role} (column {name})"
        number = NUMBER.fullmatch(cell) and math.isfinite(float(cell))
        if role == "rating" and not number:
            return f"rating {cell[:40]!r} (column {name}) is no number"
        date = re.match(r"\d{4}-\d\d-\d\d", cell)
        if role == "timestamp" and not (number or date):
            return f"timestamp {cell[:40]!r} (column {name}) is neither a number nor an ISO date"
    return None


def describe(path: str | Path, layout: Layout) -> dict[str, Any]:
    """Return what a manifest says of how a table was read."""
    columns = {role: layout.names[at] for role, at in layout.columns.items()}
    kind = "Parquet" if layout.delimiter is None else f"text with {NAMES[layout.delimiter]}"
    kind += ", gzip" if is_gzip(path) else ""
    return {"format": kind, "columns": columns} | (
        {} if layout.delimiter is None else {"header": layout.header}
    )
