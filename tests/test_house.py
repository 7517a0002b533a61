"""The house: what imports what, what is loaded when, and what retrains."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO

from recloss import losses
from recloss.__main__ import COMMANDS
from recloss.data.split import write
from recloss.experiment import code

LIBRARY = REPO / "src" / "recloss"
# Nothing imports what stands later; within a package, anything goes.
ORDER = [
    *("files", "seeds", "data", "losses", "engine", "models", "checkpoint", "train", "experiment"),
    *("study", "analysis", "recommend", "report", "cli", "forkserver", "__main__"),
]
MODULES = {
    "recloss." + ".".join(path.relative_to(LIBRARY).with_suffix("").parts): path
    for path in sorted(LIBRARY.rglob("*.py"))
    if path.name != "__init__.py"
}


def room(module):
    return module.split(".")[1]


def test_no_package_imports_one_that_stands_later():
    for module, path in MODULES.items():
        for imported in code.imports(path):
            if imported != "recloss":  # for its version
                assert ORDER.index(room(imported)) <= ORDER.index(room(module)), (
                    f"{module} imports {imported}"
                )


def test_every_module_has_its_place_in_the_order():
    assert {room(module) for module in MODULES} == set(ORDER)


def test_a_package_says_in_a_sentence_what_it_answers_and_holds_nothing_else():
    for path in LIBRARY.rglob("*/__init__.py"):
        body = ast.parse(path.read_text()).body
        assert len(body) == 1, path
        assert "?" in ast.get_docstring(ast.parse(path.read_text())), path


def test_files_have_the_length_of_one_thing():
    for path in MODULES.values():
        if path.parent.name != "kernels":  # one kind of device each
            assert len(path.read_text().splitlines()) <= 400, path


def unsaid_encodings(path):
    """Yield the lines at which a file opens text in whatever encoding the locale has."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        of = node.func
        name = of.attr if isinstance(of, ast.Attribute) else getattr(of, "id", "")
        words = [word.value for word in node.args if isinstance(word, ast.Constant)]
        methods = name in ("read_text", "write_text") and isinstance(of, ast.Attribute)
        opens = name == "open" and not any("b" in str(word) for word in words)
        said = "encoding" in {word.arg for word in node.keywords} or "utf-8" in words
        if (methods or opens) and not said:
            yield node.lineno


def test_text_is_utf_8_whatever_the_locale():
    files = [*MODULES.values(), *(REPO / "workflow" / "scripts").glob("*.py")]
    assert not {path.name: lines for path in files if (lines := [*unsaid_encodings(path)])}


def python(*arguments):
    command = [sys.executable, *map(str, arguments)]
    # Triton's interpreter, which other tests ask for, loads pandas and more.
    variables = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=variables)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    shown = python("-m", "recloss", command, "--help").stdout
    assert f"usage: recloss {command}" in shown
    described = __import__(f"recloss.cli.{command}", fromlist=["x"]).__doc__.splitlines()[0]
    assert described in shown


def loaded(*arguments):
    """Return the modules that a command line of recloss has loaded when it ends."""
    script = """
import sys
from recloss.__main__ import main
try:
    main(sys.argv[1:])
finally:
    print(*sys.modules, sep="\\n", file=sys.stderr)
"""
    return set(python("-c", script, *arguments).stderr.split())


def test_tables_and_figures_load_no_pytorch():
    folders = (REPO / "workflow" / name for name in ("notebooks", "scripts"))
    files = (file for folder in folders for file in folder.iterdir())
    named = {name for file in files for name in code.imports(file)}
    shown = python("-c", f"import sys, {', '.join(sorted(named))}; print(*sys.modules)").stdout
    assert not {"torch", "scipy.stats"} & set(shown.split())


def test_the_rules_load_nothing_heavy():
    tree = ast.parse((REPO / "workflow" / "rules" / "common.smk").read_text())
    wanted = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    lines = "\n".join(map(ast.unparse, wanted))
    shown = python("-c", f"import sys\n{lines}\nprint(*sys.modules)").stdout.split()
    assert not {"torch", "numba", "scipy.stats", "matplotlib"} & set(shown)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["linear", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    heavy = {"torch", "pandas", "scipy", "numba", "numpy", "matplotlib", "jsonschema"}
    assert not heavy & loaded(*arguments)


def test_a_wrong_command_names_the_right_ones():
    done = subprocess.run(
        [sys.executable, "-m", "recloss", "trian"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "invalid choice: 'trian'" in done.stderr and "train" in done.stderr


@pytest.fixture(scope="module")
def after_training(small_split, tmp_path_factory):
    """The modules that are loaded when a training run has ended."""
    folder = tmp_path_factory.mktemp("run")
    write(folder, small_split, "small", "published", 0.1, 0)
    split = ["--data", folder / "split.npz", "--manifest", folder / "split.json"]
    few = ["--dim", 4, "--negatives", 4, "--max-epochs", 1, "--loss", "mine_plus"]
    return loaded("train", *split, *few, "--device", "cpu", "--threads", 1, "--out", folder)


def test_training_loads_no_tables_and_no_figures(after_training):
    assert not {"pandas", "matplotlib", "scipy.sparse", "requests", "jinja2"} & after_training


def test_the_sources_of_training_are_the_modules_that_a_run_loads(after_training):
    ran = {name for name in after_training if name in MODULES}
    ran = {name for name in ran if not name.startswith(code.NO_RESULTS)}
    called = {"recloss.__main__", "recloss.forkserver"}
    other_backbones = {"recloss.models.graph", "recloss.engine.propagation"}
    counting = set(code.sources("recloss.cli.train", ("mf", "mine_plus")))
    assert counting - {"recloss.engine.kernels.cuda"} == ran - called - other_backbones


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A copy of the library, from which hashes are taken."""
    copy = shutil.copytree(LIBRARY, tmp_path / "recloss")
    monkeypatch.setattr(code, "ROOT", copy)
    code.imports.cache_clear()
    yield copy
    code.imports.cache_clear()


TRAINING = [
    *("seeds", "losses", "checkpoint", "train", "data.interactions", "data.arrays", "data.prior"),
    *("models.factorization", "models.graph", "models.backbones"),
    *("engine.sampling", "engine.scores", "engine.optim", "engine.ranking", "engine.device"),
    *("engine.propagation", "engine.kernels.cpu", "engine.kernels.cuda", "engine.kernels.jit"),
    *("engine.kernels.cpu_propagation", "engine.kernels.cuda_propagation"),
]


def test_what_can_change_a_run_retrains_it_and_nothing_else_does(library):
    before = code.code_hash("recloss.cli.train")
    retrains = set()
    for module, path in MODULES.items():
        copy = library / path.relative_to(LIBRARY)
        kept = copy.read_text()
        copy.write_text(kept + "\n# changed\n")
        code.imports.cache_clear()
        if code.code_hash("recloss.cli.train") != before:
            retrains.add(module.removeprefix("recloss."))
        copy.write_text(kept)
    assert retrains == set(TRAINING)


@pytest.mark.parametrize(
    ("command", "reruns", "stays"),
    [
        ("linear", ("models/ials.py", "models/linear.py"), ("losses.py", "train.py")),
        ("control", ("models/controls.py", "engine/ranking.py"), ("models/ials.py", "losses.py")),
        ("certify", ("analysis/unequal.py", "models/ease.py"), ("losses.py", "analysis/truth.py")),
        ("bounds", ("analysis/bounds.py", "losses.py"), ("engine/ranking.py", "train.py")),
        ("split", ("data/split.py", "seeds.py"), ("data/parse.py", "losses.py")),
        ("prepare", ("data/parse.py",), ("data/split.py", "data/fetch.py")),
    ],
)
def test_a_step_runs_again_for_what_it_imports(library, command, reruns, stays):
    def hash_after(name):
        path = library / name
        kept = path.read_text()
        path.write_text(kept + "\n# changed\n")
        code.imports.cache_clear()
        found = code.code_hash(f"recloss.cli.{command}")
        path.write_text(kept)
        return found

    before = code.code_hash(f"recloss.cli.{command}")
    assert all(hash_after(name) != before for name in reruns)
    assert all(hash_after(name) == before for name in stays)


LISTED = "LOSSES: dict[str, Callable[..., Tensor]] = {\n"
HINGE = "def hinge(pos, neg):\n    return relu(1 - pos[:, None] + neg).mean()\n\n\n"
RUNS = [
    *(("train", "mf", loss) for loss in losses.LOSSES),
    ("train", "lightgcn", "mine_plus"),
    ("linear", "linear", "ials"),
    ("linear", "linear", "ease"),
    ("tune", "mf", "ccl"),
    ("tune", "linear", "ials"),
]


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("losses.py", LISTED, HINGE + LISTED + '    "hinge": hinge,\n', set()),
        ("losses.py", "margin).mean(1)).mean()", "margin).mean(1)).sum()", {"ccl"}),
        ("losses.py", "(row_weight * (", "(2 * row_weight * (", {"debiased_ccl", "debiased_mse"}),
        ("losses.py", '"debiased_mse": 0.0', '"debiased_mse": 1.0', {"debiased_mse"}),
        ("losses.py", "if k in DATA", "if k not in DATA", {*losses.LOSSES, "tune ials"}),
        ("models/graph.py", "import torch", "import  torch", {"lightgcn"}),
        ("engine/kernels/cuda_propagation.py", "import torch", "import  torch", {"lightgcn"}),
        ("models/ials.py", "import torch", "import  torch", {"ials"}),
        ("models/ease.py", "import torch", "import  torch", {"ease"}),
    ],
)
def test_only_what_a_run_takes_of_a_registry_retrains_it(library, file, old, new, changed):
    def hashes():
        code.imports.cache_clear()
        return {run: code.code_hash(f"recloss.cli.{run[0]}", run[1:]) for run in RUNS}

    before = hashes()
    text = (library / file).read_text()
    assert old in text
    (library / file).write_text(text.replace(old, new, 1))
    after = hashes()
    concerned = {run for run in RUNS if changed & {*run[1:], f"{run[0]} {run[2]}"}}
    assert {run for run in RUNS if after[run] != before[run]} == concerned


def test_a_notebook_renders_again_for_what_it_imports():
    found = code.sources(REPO / "workflow/notebooks/results.py.ipynb", without=())
    assert {"recloss.analysis.stats", "recloss.report.tables", "recloss.analysis.names"} <= set(
        found
    )
    assert "recloss.train" not in found


def test_an_import_within_a_function_counts(tmp_path):
    script = Path(tmp_path / "script.py")
    script.write_text("def late():\n    from recloss.data import parse\n")
    assert "recloss.data.parse" in code.sources(script)
