"""What a file is, from its first bytes, where it is not the interactions that its name says."""

import codecs
import gzip
import re
import zlib
from pathlib import Path

from recloss.files import ReclossError

HEAD = 1 << 16  # bytes that tell
PAGE = rb"\s*<"
WRONG = [
    (rb"PAR1", "Parquet", "name it .parquet"),
    (rb"PK\x03\x04", "a zip archive", "unzip it"),
    (rb"\xff\xfe|\xfe\xff", "UTF-16 text", "save it as UTF-8"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the data", "run `git lfs pull`"),
    (rb"[45]\d\d:? [A-Z][a-z]", "an error page", "delete it and fetch again"),
    (PAGE, "an HTML page, not interactions", "delete it and fetch again"),
    (rb"\s*[{\[]", "JSON", "write it as CSV or Parquet, as pandas.read_json(...).to_parquet does"),
]


def is_page(text: bytes) -> bool:
    """Tell whether a file that begins with `text` is an HTML page."""
    return re.match(PAGE, text) is not None


def is_gzip(path: str | Path) -> bool:
    """Tell whether a file is gzip-compressed by its name."""
    return Path(path).suffix == ".gz"


def suffix_of(path: str | Path) -> str:
    """Return a file's suffix in lower case, without that of a compression: `.csv` of A.csv.gz."""
    return Path(str(path).removesuffix(".gz")).suffix.lower()


def read_bytes(path: str | Path, size: int = -1) -> bytes:
    """Return a file's content, or its first `size` bytes, uncompressed if its name ends in .gz.

    Raises `ReclossError` for what cannot be read, is empty, or is recognisably something else:
    compressed under another name, an archive, a page, UTF-16, JSON, Parquet.
    """
    try:
        with open(path, "rb") as stream:
            magic = stream.read(2) == b"\x1f\x8b"
            if magic and not is_gzip(path):
                raise ReclossError(f"{path}: gzip-compressed; name it {Path(path).name}.gz")
            if is_gzip(path) and not magic:
                raise ReclossError(f"{path}: not gzip-compressed; leave .gz out of its name")
            stream.seek(0)
            text = (gzip.GzipFile(fileobj=stream) if magic else stream).read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise ReclossError(f"{path}: broken gzip; fetch or compress it again") from None
    except OSError as error:
        raise ReclossError(f"{path}: {error.strerror}; give a readable file") from None
    if not text.strip():
        raise ReclossError(f"{path}:1: the file is empty; delete it, and fetch or write it again")
    for begin, what, remedy in WRONG:
        if re.match(begin, text[:HEAD]):
            raise ReclossError(f"{path}:1: this is {what}; {remedy}")
    if b"\0" in text[:HEAD]:
        raise ReclossError(f"{path}:1: this is no UTF-8 text; save it as UTF-8")
    return text


def check_text(path: str | Path, text: bytes) -> bytes:
    """Return UTF-8 text without its byte order mark; raises `ReclossError` with the line."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n?|\n", text[: error.start])) + 1
        raise ReclossError(f"{path}:{line}: this is no UTF-8 text; save it as UTF-8") from None
    return text.removeprefix(codecs.BOM_UTF8)
