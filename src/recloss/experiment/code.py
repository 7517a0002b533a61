"""What retrains: the code that a command runs and that can change its results, as a hash.

It is derived, not listed: the modules of recloss that a command, a notebook or a script imports,
at its head or within a function, and what those import in turn. Of the losses, backbones and
linear models only that of a run counts, with what it uses: another may be added or mended.
"""

import ast
import functools
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Of a training command these parse, configure, record and render: they change no number.
NO_RESULTS = ("recloss.cli", "recloss.files", "recloss.experiment", "recloss.report")
# What a run names: in these modules its backbone, loss or linear model is an entry of a dict.
REGISTRIES = ("recloss.losses", "recloss.models.backbones", "recloss.models.linear")


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
    return _imported([ast.parse(_source(path), str(path))])


def _imported(nodes: Iterable[ast.AST]) -> tuple[str, ...]:
    """Return the modules of recloss that a piece of Python imports, ascending."""

    def named() -> Iterator[str]:
        for node in (inner for outer in nodes for inner in ast.walk(outer)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:  # a module of the package, or what one defines
                    inner = f"{node.module}.{alias.name}"
                    yield inner if _file_of(inner) else node.module

    return tuple(sorted({name for name in named() if name.split(".")[0] == "recloss"}))


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements of a module, an import of several names as one of each."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                fields = {name: getattr(node, name) for name in node._fields}
                yield ast.copy_location(type(node)(**fields | {"names": [alias]}), node)
        else:
            yield node


def _defined(node: ast.stmt) -> set[str]:
    """Return the names that a statement of a module defines."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _of_names(path: Path, names: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """Return what counts of a module of `REGISTRIES` for a run of `names`, and what it imports.

    Its dicts at the top level are literals, of what the module defines by name. What their other
    entries use, and nothing else does, is left out, as is its docstring.
    """
    text = _source(path)
    lines, (_, *nodes) = text.splitlines(), _statements(ast.parse(text, str(path)))
    tables = [node for node in nodes if isinstance(getattr(node, "value", None), ast.Dict)]
    nodes = [node for node in nodes if node not in tables]
    entries = [entry for t in tables for entry in zip(t.value.keys, t.value.values, strict=True)]
    mine = [node for key, node in entries if key.value in names]
    others = [node for key, node in entries if key.value not in names]

    def used(roots: Iterable[ast.AST]) -> list[ast.stmt]:
        """Return the statements that define what `roots` use, and what those use in turn."""
        waiting, found = list(roots), []
        while waiting:
            inner = ast.walk(waiting.pop())
            wanted = {node.id for node in inner if isinstance(node, ast.Name)}
            new = [n for n in nodes if n not in found and wanted & _defined(n)]
            found += new
            waiting += new
        return found

    theirs = used(others)
    common = [node for node in nodes if node not in theirs]
    kept = [*common, *used([*common, *mine])]

    def source(node: ast.stmt) -> str:
        if isinstance(node, ast.Import | ast.ImportFrom):
            return ast.unparse(node)
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
        return "\n".join(lines[first - 1 : node.end_lineno])

    counting = [*(source(node) for node in nodes if node in kept), *map(ast.unparse, mine)]
    return "\n".join(counting), _imported(kept)


def sources(
    entry: str | Path,
    names: Collection[str] | None = None,
    without: tuple[str, ...] = NO_RESULTS,
) -> dict[str, str]:
    """Return the modules, name to text, by which what `entry` makes can change.

    entry: the name of a module, or the path of a script or notebook, which is not among them
    itself. names: the backbone and the loss or linear model of a run; of what else is in a
    registry, nothing counts. without: packages and modules that are left out, with what only they
    import.
    """

    def left_out(name: str) -> bool:
        return any(name == each or name.startswith(f"{each}.") for each in without)

    file = _file_of(entry) if isinstance(entry, str) else Path(entry)
    waiting, found = list(imports(file)), {}
    while waiting:
        name = waiting.pop()
        if name not in found and not left_out(name):
            file = _file_of(name)
            if names is None or name not in REGISTRIES:
                found[name], inner = _source(file), imports(file)
            else:
                found[name], inner = _of_names(file, names)
            waiting += inner
    return dict(sorted(found.items()))


def code_hash(
    entry: str | Path,
    names: Collection[str] | None = None,
    without: tuple[str, ...] = NO_RESULTS,
) -> str:
    """Return a short sha256 over `sources`: what decides whether a rule runs again."""
    digest = hashlib.sha256()
    for name, text in sources(entry, names, without).items():
        digest.update(f"{name} {text}".encode())
    return digest.hexdigest()[:16]
