"""Files written whole or not at all, and errors of one line."""

import atexit
import contextlib
import csv
import errno
import fcntl
import glob
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import psutil

WRITABLE = "make it writable, or work in a folder that is"
REMEDIES = {
    errno.ENOSPC: "free some space and call again",
    errno.EDQUOT: "free some space and call again",
    errno.EROFS: WRITABLE,
    errno.EACCES: WRITABLE,
    errno.EPERM: WRITABLE,
    errno.ENOTDIR: "give a folder, or move the file that has its name",
    errno.EISDIR: "give a file, or move the folder that has its name",
}
# Of NumPy, and of PyTorch on the CPU and on a GPU.
_NO_MEMORY = re.compile(r"(?:(?i:unable|tried) to allocate ([\d.]+ \w+))|not enough memory")


class ReclossError(Exception):
    """What a user can mend: one line that names the fault, its place and the remedy."""


def fault(error: BaseException) -> str | None:
    """Return in one line what a user can mend of an error; of another, which has none, None."""
    if isinstance(error, ReclossError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return f"no file {error.filename}; check the path"
    if isinstance(error, OSError) and error.errno in REMEDIES:
        place = error.filename or "the disk"
        return f"{place}: {os.strerror(error.errno).lower()}; {REMEDIES[error.errno]}"
    if (asked := memory_asked(error)) is not None:
        return f"out of memory{asked}; use a machine with more, or smaller data"
    return None


def memory_asked(error: BaseException) -> str | None:
    """Return the words on how much an error of memory was asked for; None of any other error."""
    found = _NO_MEMORY.search(str(error))
    if not isinstance(error, MemoryError) and not (found and isinstance(error, RuntimeError)):
        return None
    if not found or not found[1]:
        return ""
    number, unit = found[1].split()
    much = f"{float(number) / 1e9:.1f} GB" if unit == "bytes" else found[1]
    return f" as {much} were asked for"


def log_to(path: str | Path) -> None:
    """Let what a script says go to a file, an error that its user can mend in one line."""
    sys.stderr = open(path, "w", encoding="utf-8", buffering=1)  # noqa: SIM115

    def say(kind, error, trace) -> None:
        if (line := fault(error)) is None:
            sys.__excepthook__(kind, error, trace)
        else:
            print(f"error: {line}", file=sys.stderr)

    sys.excepthook = say


def refuse_other_encodings(words: list[str]) -> None:
    """End in one line if a configuration that a command line of Snakemake names is not UTF-8.

    Snakemake, which reads them before the workflow, would end in a traceback.
    """
    named = ["config.yaml"]
    for at, word in enumerate(words):
        option, _, value = word.partition("=")
        if option in ("--configfile", "--configfiles"):
            others = itertools.takewhile(lambda w: not w.startswith("-"), words[at + 1 :])
            named += [value] if value else others
    for path in filter(os.path.isfile, named):
        try:
            Path(path).read_text("utf-8")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            sys.exit(f"error: {path}:{line}: not UTF-8; save the file as UTF-8")


def keep_caches() -> None:
    """Where the home cannot be written to, let Snakemake and Jupyter keep their files elsewhere."""
    usual = {
        "XDG_CACHE_HOME": "~/.cache",
        "IPYTHONDIR": "~/.ipython",
        "JUPYTER_RUNTIME_DIR": "~/.local/share/jupyter/runtime",
    }
    for variable, default in usual.items():
        folder = Path(os.environ.get(variable) or default).expanduser()
        while not folder.exists():
            folder = folder.parent
        if not os.access(folder, os.W_OK):
            os.environ[variable] = made = tempfile.mkdtemp(prefix="recloss-")
            atexit.register(shutil.rmtree, made, ignore_errors=True)


def settle(*folders: str | Path) -> None:
    """Give files from the future, which a wrong clock made, the time that it is now.

    Snakemake refuses what it makes of them, as older than that.
    """
    now = time.time()
    for path in (
        Path(at, name) for each in folders for at, _, names in os.walk(each) for name in names
    ):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime > now:
                os.utime(path, (now, now))


def claim(lock: str | Path, *folders: str | Path) -> BinaryIO | None:
    """Keep another process from writing to the same folders, to this one's end or its kill.

    lock: a file, the same for all who ask. Returns it open, None where the file system has no
    locks. Raises `ReclossError` if another process holds it or a folder cannot be written to.
    """
    for folder in (Path(lock).parent, *map(Path, folders)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            remedy = REMEDIES.get(error.errno, WRITABLE)
            raise ReclossError(f"{folder}: {error.strerror.lower()}; {remedy}") from None
    file = open(lock, "a+b", buffering=0)  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise ReclossError(
            f"{folder}: process {file.read().decode()} is at work in this folder already; "
            "wait for its end, or stop it and call again"
        ) from None
    except OSError:
        return None
    file.truncate(0)
    file.write(str(os.getpid()).encode())
    return file


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed onto it only if the block succeeds.

    The temporary name keeps the suffix, because numpy adds one where it is missing. What a process
    that was killed left of it goes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.stem)}.*{glob.escape(path.suffix)}"):
        process = left.name.removeprefix(f".{path.stem}.").removesuffix(path.suffix)
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in REMEDIES:
            error.filename = str(path)  # a write names none
        raise
    finally:
        temporary.unlink(missing_ok=True)


def copy(source: str | Path, target: str | Path) -> None:
    """Copy a file, whole or not at all."""
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)


def write_json(path: str | Path, value: object) -> None:
    """Write `value` as indented JSON, atomically; NaN is refused because JSON has none."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def csv_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, each {column: cell}."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
