"""Download the published data sets, or copy them from a mirror, and verify them."""

import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pooch
import requests

from recloss.data.files import expanded
from recloss.data.recognise import is_page
from recloss.data.sources import Source, checksum, rows_of
from recloss.files import ReclossError

TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}


def fetch(
    name: str,
    out_dir: str | Path,
    mirror: str | Path | None = None,
    retries: int = 3,
    timeout: tuple[float, float] = (10, 60),
    rows: Sequence[Source] | None = None,
    only: Sequence[str] | None = None,
) -> list[Path]:
    """Bring the files of a published data set into `out_dir`, verified, with LF line ends.

    Tries the mirror (this argument, else RECLOSS_MIRROR: a folder or URL holding <name>/<file>),
    then the primary home, then the archive if there is one. `retries` is the number of attempts
    where a failure may pass, `timeout` the seconds to connect and between two reads; `only` names
    the files wanted, without it all but a published validation set. Files already there with the
    right checksum are left alone. Raises `ReclossError` naming every home tried and its reason.
    """
    mirror = mirror or os.environ.get("RECLOSS_MIRROR")
    found = rows_of(name, rows, only)
    for row in found:
        target = Path(out_dir) / row.file
        if target.is_file() and _fault(target, row) is None:
            continue
        mirrored = f"{str(mirror).rstrip('/')}/{name}/{row.file}" if mirror else ""
        tried = []
        for home in filter(None, (mirrored, row.primary, row.archive)):
            reason = _bring(home, target, row, max(retries, 1), timeout)
            if reason is None:
                break
            tried.append(f"{home}: {reason}")
        else:
            raise ReclossError(
                f"{name}/{row.file} could not be fetched: {'; '.join(tried)}; set data.mirror "
                f"or RECLOSS_MIRROR to a folder holding {name}/{row.file}"
            )
    return [Path(out_dir) / row.file for row in found]


def _bring(home: str, target: Path, row: Source, retries: int, timeout) -> str | None:
    """Copy or download `home` to `target`; return why not, or None when it is there, verified."""
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    download = pooch.HTTPDownloader(sys.stderr.isatty(), chunk_size=1 << 16, timeout=timeout)
    for attempt in range(retries):
        if attempt:
            time.sleep(0.5 * 2**attempt)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if "://" in home:
                download(home, str(part), None)
            else:
                shutil.copyfile(expanded(home), part)
            # Some homes have CRLF line ends; the checksums are of the LF form.
            part.write_bytes(part.read_bytes().replace(b"\r\n", b"\n"))
            fault = _fault(part, row)
            if fault is None:
                os.replace(part, target)
            return fault
        except OSError as error:  # those of requests are OSErrors too
            reason, may_pass = _diagnose(error)
            if not may_pass:
                return reason
        finally:
            part.unlink(missing_ok=True)
    return f"{reason} (attempts: {retries})"


def _diagnose(error: OSError) -> tuple[str, bool]:
    """Return what went wrong in a few words, and whether trying again may help."""
    if isinstance(error, requests.HTTPError):
        return f"HTTP {error.response.status_code}", error.response.status_code in TRANSIENT_STATUS
    if isinstance(error, requests.Timeout):
        return "timed out", True
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "broke off before its end", True
    if isinstance(error, requests.ConnectionError):
        return "no connection", True
    return " ".join((error.strerror or str(error)).split()), False


def _fault(path: Path, row: Source) -> str | None:
    """Return how a file differs from the published one, or None."""
    for algorithm, expected in (("md5", row.md5), ("sha256", row.sha256)):
        found = checksum(path, algorithm)
        if expected and found != expected:
            with open(path, "rb") as stream:
                page = is_page(stream.read(1024))
            wrong = f"wrong checksum ({algorithm} {found}, expected {expected})"
            return "an HTML page, not the data" if page else wrong
    return None
