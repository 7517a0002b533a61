"""What retrains: the code that a command runs and that can change its results, as a hash.

It is derived, not listed: the modules of recloss that a command, a notebook or a script imports,
at its head or within a function, and what those import in turn.
"""

import ast
import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Of a training command these parse, configure, record and render: they change no number.
NO_RESULTS = ("recloss.cli", "recloss.files", "recloss.experiment", "recloss.report")


def _file_of(module: str) -> Path | None:
    """Return the source of a module of recloss, or None if there is no such module."""
    path = ROOT.joinpath(*module.split(".")[1:])
    found = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in found if file.is_file()), None)


def _source(path: Path) -> str:
    """Return the Python of a module, a script or a notebook."""
    text = path.read_text("utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = (cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    return "\n".join("".join(cell["source"]) for cell in cells)


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Return the modules of recloss that a file imports, anywhere in it, ascending."""

    def named() -> Iterator[str]:
        for node in ast.walk(ast.parse(_source(path), str(path))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:  # a module of the package, or what one defines
                    inner = f"{node.module}.{alias.name}"
                    yield inner if _file_of(inner) else node.module

    return tuple(sorted({name for name in named() if name.split(".")[0] == "recloss"}))


def sources(entry: str | Path, without: tuple[str, ...] = NO_RESULTS) -> dict[str, Path]:
    """Return the modules, name to file, by which what `entry` makes can change.

    entry: the name of a module, or the path of a script or notebook, which is not among them
    itself. `without`: packages and modules that are left out, with what only they import.
    """

    def left_out(name: str) -> bool:
        return any(name == each or name.startswith(f"{each}.") for each in without)

    file = _file_of(entry) if isinstance(entry, str) else Path(entry)
    waiting, found = list(imports(file)), {}
    while waiting:
        name = waiting.pop()
        if name not in found and not left_out(name):
            found[name] = _file_of(name)
            waiting += imports(found[name])
    return dict(sorted(found.items()))


def code_hash(entry: str | Path, without: tuple[str, ...] = NO_RESULTS) -> str:
    """Return a short sha256 over `sources`: what decides whether a rule runs again."""
    digest = hashlib.sha256()
    for name, path in sources(entry, without).items():
        digest.update(f"{name} ".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
