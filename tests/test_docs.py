"""The documentation: short, linked, true of the code and of the reference run; examples run."""

import argparse
import importlib
import re
import shlex
import textwrap

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import REPO
from test_house import ORDER
from test_workflow import TINY, clone, snakemake

from recloss.__main__ import COMMANDS
from recloss.experiment import config, reference
from recloss.experiment.code import ROOT
from recloss.experiment.runs import control_runs, every_run
from recloss.experiment.schema import schema
from recloss.report import findings
from recloss.report.items import items

DOCS = REPO / "docs"
PAGES = [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
LINKED = [*PAGES, REPO / "CHANGELOG.md", REPO / "config" / "README.md"]
GENERATED = DOCS / "configuration.md"
PUBLISHED = REPO / "results" / "published"
GOWALLA = PUBLISHED / "gowalla"
PAPER = yaml.safe_load((REPO / "config.yaml").read_text())

each_page = pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)


def blocks(page, language):
    """Return the code of a page's fenced blocks of a language, as it would be typed."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", page.read_text(), re.M | re.S)
    return [textwrap.dedent(code) for _, code in found]


def prose(page):
    """Return a page without its fenced blocks."""
    return re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.M | re.S)


def spans(page):
    """Return what stands between backticks in a page's prose, a span on one line."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def table(page, *head):
    """Return the rows of the page's table that begins with the columns `head`, as dictionaries."""
    lines = page.read_text().splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    first = next(i for i, row in enumerate(cells) if row[: len(head)] == list(head))
    rows = []
    for line, row in zip(lines[first + 2 :], cells[first + 2 :], strict=True):
        if not line.startswith("|"):
            break
        rows.append(dict(zip(cells[first], row, strict=True)))
    return rows


def own_files():
    """Return the configurations that the pages tell a reader to write: name to text."""
    found = [block for page in PAGES for block in blocks(page, "yaml")]
    named = [(re.match(r"# (\S+\.yaml)\n", block), block) for block in found]
    return {name[1]: block for name, block in named if name}


# Form


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_at_most_150_lines(page):
    if page != GENERATED:
        assert len(page.read_text().splitlines()) <= 150


@each_page
def test_links_and_their_anchors_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)", prose(file), re.M)
            assert anchor in [re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles]


def test_the_readme_links_every_page():
    links = re.findall(r"\]\(docs/([^)#]+)\)", (REPO / "README.md").read_text())
    assert {page.name for page in DOCS.glob("*.md")} <= set(links)


@each_page
def test_equations_hold_nothing_that_github_would_take_for_markdown(page):
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    for paragraph in re.split(r"\n\n|\n(?=[|-])", text):
        assert paragraph.count("$") % 2 == 0, paragraph
        for formula in paragraph.split("$")[1::2]:
            assert formula == formula.strip()
            assert not re.search(r"\\[^A-Za-z]|[|<>*\n]|\W_|_[^\w{]", formula), formula


# What the pages name


def test_the_configuration_page_is_that_of_the_schema():
    assert GENERATED.read_text() == reference.page(), "run: make docs"


@each_page
def test_files_that_a_page_names_are_there(page):
    if page.name == "CHANGELOG.md":
        return
    tops = {path.name for path in REPO.iterdir()} - {"results", "logs", "resources", "own"}
    packages = {path.name for path in ROOT.iterdir()}
    for span in spans(page):
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", span) and "/" in span:
            first = span.split("/")[0]
            if first in tops | packages:
                assert (REPO / span).exists() or (ROOT / span).exists(), span


def test_the_architecture_page_has_the_packages_in_their_order():
    rows = table(DOCS / "architecture.md", "package or module")
    assert [row["package or module"].strip("`") for row in rows] == ORDER[:-1]  # but `__main__`


def test_every_column_and_table_of_the_results_is_explained():
    names = " ".join(spans(DOCS / "results.md")).split()
    columns = pd.read_csv(GOWALLA / "metrics.csv", nrows=0).columns
    grouped = {column.split(".")[0] + ".*" if "." in column else column for column in columns}
    assert not grouped - set(names)
    # An experiment that has every table, but for its grids.
    coat = {"name": "coat", "rating": {"at_least": 4}}
    every = {"datasets": [{"name": "gowalla"}, coat, {"name": "s", "simulate": {}}], "grids": []}
    every = items(config.load(PAPER | every | {"tuned": {"datasets": {"s": {}}}}))
    assert not {name for name, item in every.items() if item.table} - set(names)


@pytest.mark.parametrize("name", own_files())
def test_configurations_that_a_reader_is_to_write_are_valid(name):
    config.load(PAPER | yaml.safe_load(own_files()[name]))


# What the pages tell to type


def typed():
    """Return every command of the shell blocks, with its page."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.splitlines():
                if words := shlex.split(line, comments=True):
                    yield pytest.param(words, True, id=f"{page.name}: {' '.join(words)}")
        for span in spans(page):
            if re.match(r"(recloss|snakemake|make|python -m|conda) [\w-]", span):
                yield pytest.param(span.split(), False, id=f"{page.name}: `{span}`")


def rule_names():
    files = [REPO / "Snakefile", *(REPO / "workflow" / "rules").glob("*.smk")]
    return {name for file in files for name in re.findall(r"^rule (\w+):", file.read_text(), re.M)}


def check_snakemake(words):
    """Refuse options, keys, files and targets that are not there."""
    takes = {"-n": 0, "--": 99, "--cores": 1, "--report": 1, "--workflow-profile": 1}
    takes |= {"--configfile": 99, "--config": 99, "--resources": 1, "--max-threads": 1}
    takes |= {"--default-storage-provider": 1, "--default-storage-prefix": 1}
    takes |= {"--slurm-init-seconds-before-status-checks": 1}
    option, room = "--", 99
    for word in words:
        if word.startswith("-"):
            assert word in takes, f"{word} is new: say here what it takes"
            option, room = word, takes[word]
            continue
        if room == 0:
            option = "--"
        room -= 1
        if option == "--configfile":
            made = (
                re.fullmatch(r"(results/[\w-]+/tuned|own/[\w-]+)\.yaml", word)
                or word in own_files()
            )
            assert made or (REPO / word).is_file(), word
        elif option == "--config":
            keys = {*schema()["properties"], "against" if "compare" in words else "finished"}
            assert word.split("=")[0] in keys, word
        elif option == "--workflow-profile":
            assert (REPO / word / "profile.yaml").is_file(), word
        elif option == "--":
            datasets = {dataset["name"] for dataset in PAPER["datasets"]}
            assert word in rule_names() | datasets or word.startswith("results/"), word


def check_recloss(words, whole):
    """Parse a command as `recloss` does; of one that is only named, look its flags up."""
    name, *arguments = words
    assert name in COMMANDS
    parser = argparse.ArgumentParser(prog=f"recloss {name}")
    importlib.import_module(f"recloss.cli.{name}").add_arguments(parser)
    if whole:
        parser.parse_args(arguments)
    for flag in (word for word in arguments if word.startswith("-")):
        assert re.search(rf"(?<![\w-]){flag}(?![\w-])", parser.format_help()), flag


@pytest.mark.parametrize(("words", "whole"), list(typed()))
def test_commands_are_ones_that_exist(words, whole):
    while re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    program, *rest = words
    if words[:3] == ["python", "-m", "recloss"]:
        program, rest = "recloss", words[3:] or ["train"]
    if program == "recloss":
        check_recloss(rest, whole)
    elif program == "snakemake":
        check_snakemake(rest)
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (REPO / "Makefile").read_text(), re.M)
    elif words[:3] == ["python", "-m", "benchmarks"]:
        from benchmarks.__main__ import PARTS

        assert not rest[2:] or rest[2] in PARTS
    elif program in ("conda", "pytest"):
        assert all((REPO / word).exists() for word in rest if "/" in word)
    elif words[:2] == ["tail", "-F"]:
        common = (REPO / "workflow/rules/common.smk").read_text()
        assert rest[1].rsplit("/", 1)[1] in common, rest[1]
    elif program == "pip":
        (extra,) = re.findall(r"^install \.\[(\w+)\]$", " ".join(rest))
        assert f"\n{extra} = [" in (REPO / "pyproject.toml").read_text()
    elif words[:3] == ["podman", "build", "--file"]:
        assert (REPO / words[3]).exists()
    elif program == "export":
        assert re.match(r"SNAKEMAKE_STORAGE_S3_(ENDPOINT_URL|ACCESS_KEY|SECRET_KEY)=", rest[0])
    else:
        assert words == ["source", ".venv/bin/activate"] or program in ("aws", "podman")


# What the pages say was found


FOUND = [page for page in PAGES if "<!-- findings: " in page.read_text()]


@pytest.mark.parametrize(
    "run", sorted(path.parent.name for path in PUBLISHED.glob("*/config.yaml"))
)
@pytest.mark.filterwarnings("ignore:.*is unbounded")
def test_what_is_published_is_what_its_configuration_asks_for(run):
    asked = config.load(yaml.safe_load((PUBLISHED / run / "config.yaml").read_text()))
    paths = {one.path for one in [*every_run(asked), *control_runs(asked)]}
    found = pd.read_csv(PUBLISHED / run / "metrics.csv")["path"]
    assert set(found) <= paths


@pytest.mark.parametrize("page", FOUND, ids=lambda page: page.name)
def test_the_findings_of_a_page_are_those_of_the_published_runs(page):
    text = page.read_text()
    assert findings.write(text, PUBLISHED) == text, "run: make docs"


def test_the_readme_has_findings():
    assert REPO / "README.md" in FOUND


def test_the_reference_page_counts_its_runs():
    runs = len(pd.read_csv(GOWALLA / "metrics.csv"))
    assert f"{runs} runs" in (DOCS / "reference-run.md").read_text()


# The examples, run


def test_a_data_set_of_your_own_is_what_its_page_says(tmp_path):
    folder, page = clone(tmp_path / "clone"), DOCS / "own-data.md"
    entry = own_files()["shop.yaml"]
    (folder / "shop.yaml").write_text(entry)
    ratings = folder / yaml.safe_load(entry)["datasets"][0]["path"]
    ratings.parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = [(f"user{u}", 7 * i, 3 + (i % 3)) for u in range(20) for i in rng.permutation(90)[:15]]
    frame = pd.DataFrame(rows, columns=["user_id", "movie", "stars"])
    frame.to_csv(ratings, index=False)
    (folder / "quick.yaml").write_text("{device: cpu, settings: {max_epochs: 1, negatives: 5}}")
    call = ["--configfile", "shop.yaml", "quick.yaml", "--", "results/shop/report.html"]
    snakemake(folder, *call)
    metrics = pd.read_csv(folder / "results/shop/metrics.csv")
    others = {"ials", "ease", "popularity", "random"}
    assert set(metrics["loss"]) == others | set(yaml.safe_load(entry)["losses"])
    lower = (frame["stars"] < 4).sum()
    said = "300 rows (text with commas; user user_id, item movie, rating stars); liked are ratings"
    report = (folder / "results/shop/report.html").read_text()
    assert f"{said} of 4 and more; {lower} rated lower; test set by share of 0.2." in report
    lines = ratings.read_text().splitlines()
    ratings.write_text("\n".join([*lines[:6], "user0,1,x", *lines[6:]]))
    printed = snakemake(folder, *call, ok=False)
    (fault,) = (span for span in spans(page) if span.startswith("data/ratings.csv:7: "))
    assert f"error: {fault}" in printed


def test_a_backbone_of_your_own_is_what_its_page_says(tmp_path):
    folder, page = clone(tmp_path / "clone"), DOCS / "own-backbone.md"
    (model,), (entry,) = blocks(page, "python"), blocks(page, "yaml")
    graph, registry = (folder / f"src/recloss/models/{name}.py" for name in ("graph", "backbones"))
    graph.write_text(f"{graph.read_text()}\n\n{model}")
    text = registry.read_text().replace("import NGCF, LightGCN", "import NGCF, NSVD, LightGCN")
    registry.write_text(text.replace('    "ngcf"', '    "nsvd": NSVD,\n    "ngcf"'))
    file = folder / "src/recloss/experiment/schema.yaml"
    indented = textwrap.indent(entry, " " * 6)
    file.write_text(file.read_text().replace("      ngcf:\n", f"{indented}      ngcf:\n"))
    call = ["--configfile", TINY, "--config", "backbones=[mf, nsvd]", "losses=[bpr]", "grids=[]"]
    call += ["backbone_settings={nsvd: {share: 0.5}}", "--", "results/tiny/report.html"]
    snakemake(folder, *call)
    assert ">BPR on nsvd<" in (folder / "results/tiny/report.html").read_text()
    metrics = pd.read_csv(folder / "results/tiny/metrics.csv").set_index("path")
    one, other = (f"train/tiny/{name}/bpr/base/seed0" for name in ("nsvd", "mf"))
    assert metrics.loc[one, "settings.share"] == 0.5
    assert metrics.loc[one, "recall@20"] != metrics.loc[other, "recall@20"]


def test_a_loss_of_your_own_is_what_its_page_says(tmp_path):
    folder, page = clone(tmp_path / "clone"), DOCS / "own-loss.md"
    (function,), (entry,) = blocks(page, "python"), blocks(page, "yaml")
    losses = folder / "src/recloss/losses.py"
    text = losses.read_text().replace("LOSSES: dict", f"{function}\n\nLOSSES: dict")
    losses.write_text(text.replace('    "bpr": bpr,\n', '    "bpr": bpr,\n    "hinge": hinge,\n'))
    file = folder / "src/recloss/experiment/schema.yaml"
    indented = textwrap.indent(entry, " " * 6)
    file.write_text(file.read_text().replace("      bpr:\n", f"{indented}      bpr:\n"))
    call = ["--configfile", TINY, "--config", "losses=[hinge]", "grids=[]"]
    call += ["loss_settings={hinge: {margin: 0.3}}", "--", "results/tiny/report.html"]
    snakemake(folder, *call)
    assert ">hinge<" in (folder / "results/tiny/report.html").read_text()
