"""The configuration, completed and checked, and the helpers that rules call.

REQUIRED INPUTS: the global `config`.
"""

import glob
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError

from recloss import forkserver
from recloss.analysis import verdicts
from recloss.analysis.compare import folder_of
from recloss.analysis.names import name_of
from recloss.analysis.results import summary_names
from recloss.data import sources
from recloss.data.files import own_files
from recloss.experiment import config as configuration
from recloss.experiment import finished, memory, published, runs, runtime, schema
from recloss.experiment.code import code_hash
from recloss.experiment.flags import as_flags
from recloss.experiment.restore import has_rows
from recloss.files import WRITABLE, ReclossError, claim, csv_rows, settle
from recloss.report.items import items

# What `compare` compares with is no part of the experiment, nor is whether to wait for its runs.
AGAINST = str(config.pop("against", ""))
FINISHED = str(config.pop("finished", False)).lower()

try:
    if FINISHED not in ("true", "false"):
        fault = f"finished: {FINISHED!r} is neither true nor false; give one of them"
        raise ReclossError(f"configuration: {fault}")
    FINISHED = FINISHED == "true"
    config.update(configuration.load(config))
    OWN_FILES = {d["name"]: own_files(d) for d in config["datasets"] if "path" in d}
    for file in (file for files in OWN_FILES.values() for file in files.values()):
        if "{" in str(file):
            fault = f"{file}: Snakemake takes braces for wildcards; rename it, or link to it"
            raise ReclossError(fault)
    if not os.access(".", os.W_OK):
        here = f"{os.getcwd()}: cannot be written to, where Snakemake keeps its records"
        raise ReclossError(f"{here}; {WRITABLE}")
    if "'" in workflow.basedir:
        fault = "Snakemake runs no notebook from a folder with a quote in its path"
        raise ReclossError(f"{workflow.basedir}: {fault}; move the clone")
    if "compare" in sys.argv and not AGAINST:
        raise ReclossError("compare: with what? --config against=results/published")
    if AGAINST:
        folder_of(Path(AGAINST), config["run"])
except ReclossError as error:
    # In one line, where an exception would show its place in the rules.
    sys.exit(f"error: {error}")

# Called by its path, Snakemake finds recloss and papermill too.
FOLDERS = [*os.get_exec_path(), str(Path(sys.executable).parent)]
os.environ.update(PATH=os.pathsep.join(FOLDERS))
if not {"-n", "--dry-run", "--dryrun", "--target-jobs"}.intersection(sys.argv):
    settle(f"results/{config['run']}", "resources")

# Of a notebook neither bars nor its kernel's warnings, which would run through Snakemake's bars.
KERNELS = shlex.quote(str(Path(workflow.basedir) / "workflow" / "jupyter"))
# Of progress_log(); Snakemake makes none where a rule's own log lies in a storage.
LOGS = shlex.quote(f"logs/{config['run']}")
PREFIX = f"set -euo pipefail; export TQDM_DISABLE=1 JUPYTER_PATH={KERNELS}"
shell.prefix(f"{PREFIX}; mkdir -p {LOGS}; ")

BENCHMARKS = [
    "step",
    "in_batch",
    "losses",
    "evaluation",
    "growth",
    "startup",
    "epochs",
    "ials",
    "propagation",
    "lightgcn",
]


def workflow_folder():
    """Where the workflow is, from the working directory: moved together, nothing runs again."""
    return os.path.relpath(workflow.basedir)


def published_folders(run):
    """Where a reference run may be: in the working directory, where the workflow is."""
    here = Path("results", "published", run)
    return [here, Path(workflow_folder(), here)]


STARTED = time.time()
ASKED = dict(config)  # the whole experiment, where `config` is what can be shown of it
STUDIES = {study.path: study for study in runs.studies(config)}
RUNS = {run.path: run for run in runs.every_run(config)}
CONTROLS = {run.path: run for run in runs.control_runs(config)}
BOUNDED = runs.bounded_runs(config)
WANTED = finished.wanted(config)
EXPERIMENTS = runs.experiments(config)
N_ASKED = len(EXPERIMENTS)
if FINISHED:
    here = Path("results", config["run"])
    done = finished.finished(WANTED, here)
    EXPERIMENTS = runs.experiments(config, done)
    if not EXPERIMENTS:
        sys.exit(f"error: {here}: nothing has finished; call again later")
    CERTIFIED = [d["name"] for d in config["datasets"] if f"data/{d['name']}" in done]
    places = published_folders(config["run"])
    BOUNDED = [
        run
        for run in BOUNDED
        if run.path in EXPERIMENTS and has_rows(here / run.path, places, "bounds.csv")
    ]
    config.clear()
    config.update(finished.so_far(ASKED, EXPERIMENTS, CERTIFIED, BOUNDED))
    STUDIES = {}
    RUNS = {path: run for path, run in RUNS.items() if path in EXPERIMENTS}
    CONTROLS = {path: run for path, run in CONTROLS.items() if path in EXPERIMENTS}
ITEMS = items(config)


def one_of(names):
    """A wildcard constraint that matches exactly the given names (nothing, if there are none)."""
    return "|".join(map(re.escape, names)) or "(?!)"


def known_losses():
    return schema.loss_names()


def known_backbones():
    return schema.backbone_names()


def dataset_names():
    return [dataset["name"] for dataset in config["datasets"]]


def refuse_rule(name):
    """Stop in one line if a data set has the name of a rule."""
    try:
        getattr(rules, name)
    except WorkflowError:
        return
    sys.exit(f"error: data set {name!r} has the name of a rule; name it otherwise")


def dataset_entry(wildcards):
    return next(d for d in config["datasets"] if d["name"] == wildcards.dataset)


def interaction_files(wildcards):
    """Where a data set's files come from: the user, the simulation, or a fetch."""
    entry = dataset_entry(wildcards)
    if "path" in entry:
        return OWN_FILES[entry["name"]]
    if "simulate" in entry:
        return {
            name: getattr(rules.simulate.output, name) for name in ("train", "test")
        }
    found = sources.roles(entry["name"])
    if entry["validation"] == "drawn":
        found.pop("valid", None)
    return {role: f"<resources>/{entry['name']}/{file}" for role, file in found.items()}


def mirror_flag(wildcards):
    return f"--mirror={shlex.quote(config['data']['mirror'])}"


def reading_flags(wildcards):
    """How a data set is read, as flags of recloss prepare."""
    entry = dataset_entry(wildcards)
    flags = {key: entry[key] for key in ("duplicates", "core") if "path" in entry}
    flags |= entry.get("split", {}) | entry.get("rating", {})
    words = [as_flags(flags)]
    if "columns" in entry:
        columns = (f"{role}={column}" for role, column in entry["columns"].items())
        words.append("--columns " + " ".join(map(shlex.quote, columns)))
    if "header" in entry:
        words.append("--header" if entry["header"] else "--no-header")
    if "path" not in entry:
        words.append("--indices" if "simulate" in entry else "--published")
    if "split" in entry:
        words.append(f"--validation {config['split']['validation']}")
    return " ".join(words)


def input_flags(wildcards, input):
    """The files of a data set, as flags of recloss prepare."""
    return " ".join(f"--{role}={shlex.quote(path)}" for role, path in input.items())


def simulation_flags(wildcards):
    return as_flags(dataset_entry(wildcards)["simulate"])


def _split_file(wildcards, name):
    protocol = "heldout" if wildcards.get("stage") == "heldout" else config["protocol"]
    return f"<results>/data/{wildcards.dataset}/{protocol}/{name}"


def split_arrays(wildcards):
    return _split_file(wildcards, "split.npz")


def split_manifest(wildcards):
    return _split_file(wildcards, "split.json")


def training_run(wildcards):
    path = "{0.stage}/{0.dataset}/{0.backbone}/{0.loss}/{0.variant}/seed{0.seed}"
    if "linear" in wildcards.keys():
        path = "{0.stage}/{0.dataset}/linear/{0.linear}/{0.variant}/seed{0.seed}"
    return RUNS[path.format(wildcards)]


def setting_flags(wildcards):
    return as_flags(training_run(wildcards).settings)


def study_of(wildcards):
    return STUDIES["tune/{0.dataset}/{0.backbone}/{0.model}".format(wildcards)]


def study_flags(wildcards):
    """What a study tries, as flags of recloss tune."""
    study = study_of(wildcards)
    flags = {"settings": study.settings, "over": study.over, "seed": study.seed}
    flags |= study.asked
    return as_flags({key: value for key, value in flags.items() if value is not None})


def study_memory(wildcards, input, attempt):
    """Memory of a job that tries settings, in MB; half as much more every time."""
    return memory_for(study_of(wildcards).largest, input, attempt)


def truth_of_prior(wildcards):
    """The truth of a simulated data set, if the loss takes its class prior from there."""
    return truth_for(wildcards, [training_run(wildcards).settings.get("prior")])


def truth_of_study(wildcards):
    study = study_of(wildcards)
    tried = [study.settings.get("prior"), *study.over.get("prior", [])]
    return truth_for(wildcards, tried)


def truth_for(wildcards, priors):
    by_truth = any(prior and prior["rule"] == "truth" for prior in priors)
    if not by_truth or "simulate" not in dataset_entry(wildcards):
        return []
    return ancient(rules.simulate.output.truth)


def truth_flag(wildcards, input):
    return f"--truth {input.truth}" if input.truth else ""


def training_memory(wildcards, input, attempt):
    """Memory of a job that trains a loss or a linear model, in MB; half as much more every time."""
    return memory_for(training_run(wildcards), input, attempt)


def memory_for(run, input, attempt):
    with open(input.manifest, encoding="utf-8") as file:
        manifest = json.load(file)
    needed = memory.memory_mb(manifest, run.loss, run.settings, run.backbone)
    return needed * (attempt + 1) // 2


def training_minutes(wildcards, input, attempt):
    """Minutes that a job may train a loss, from its checkpoint on; as many more every time."""
    with open(input.manifest, encoding="utf-8") as file:
        manifest = json.load(file)
    run = training_run(wildcards)
    return attempt * runtime.minutes(manifest, run.settings, run.backbone)


def certified_models(wildcards):
    """The linear models of the experiment with their settings, as flags of recloss certify."""
    found = {
        model: runs.settings_for(config, wildcards.dataset, model)
        for model in config["linear"]
    }
    return " ".join(
        f"--{model} {shlex.quote(json.dumps(s))}" for model, s in found.items()
    )


def certificates_wanted(wildcards):
    """What the certificates of a data set are, by their folder."""
    folder = f"data/{wildcards.dataset}"
    return {folder: WANTED[folder]}


def judged_runs(wildcards):
    """Metrics of the runs of the main table on a data set, first backbone and seed."""
    return [
        f"<results>/{run.path}/metrics.json"
        for run in runs.first_runs(config)
        if run.dataset == wildcards.dataset and run.path in EXPERIMENTS
    ]


def trained_runs(wildcards):
    """Those of losses, but for those that have finished and of which no vectors are there."""
    return [
        f"<results>/{run.path}/metrics.json"
        for run in BOUNDED
        if run.dataset == wildcards.dataset
    ]


def shown_runs(wildcards):
    """Metrics of the runs of the main table on a data set, first backbone, and of the controls."""
    return [
        f"<results>/{run.path}/metrics.json"
        for run in [*runs.first_backbone_runs(config), *CONTROLS.values()]
        if run.dataset == wildcards.dataset and run.path in EXPERIMENTS
    ]


def in_storage():
    """Tell whether results lie in a storage, not in this folder."""
    return not str(rules.simulate.output.truth).startswith("results/")


def beside(paths, name):
    """Files of a name beside those that a job reads: in a storage, it finds only what is declared.

    Elsewhere they are not, which spares Snakemake thousands of files.
    """
    if not in_storage():
        return []
    return [f"{path.rpartition('/')[0]}/{name}" for path in paths]


def judged_vectors(wildcards):
    return beside(judged_runs(wildcards), "vectors.npz")


def trained_vectors(wildcards):
    return beside(trained_runs(wildcards), "vectors.npz")


def shown_vectors(wildcards):
    """Controls have none."""
    paths = [path for path in shown_runs(wildcards) if "control" not in path.split("/")]
    return beside(paths, "vectors.npz")


def study_files():
    return [f"<results>/{path}/study.json" for path in STUDIES]


def shown_names():
    return configuration.shown_names(config)


def data_files(name, datasets):
    """The file of this name of each data set; not from the rule, whose paths are local copies."""
    return [f"<results>/data/{dataset}/{name}" for dataset in datasets]


def split_manifests(*protocols):
    return [
        path
        for name in protocols
        for path in data_files(f"{name}/split.json", dataset_names())
    ]


def debiasing_rows():
    """Certificates of each data set, and what the truth says of simulated ones."""
    certified = dataset_names() if runs.certifies(config) else []
    if FINISHED:
        certified = [name for name in certified if name in CERTIFIED]
    return [
        *data_files("certificates.csv", certified),
        *data_files("certificates.json", certified),
        *data_files("truth.csv", runs.truth_names(config)),
    ]


def bounded_names():
    """The data sets with a loss of the main table at the first seed."""
    return list(dict.fromkeys(run.dataset for run in BOUNDED))


def data_rows():
    """What is known of each data set beside its runs: certificates, truth, bounds, shown items."""
    return [
        *debiasing_rows(),
        *data_files("bounds.csv", bounded_names()),
        *data_files("shown.csv", shown_names()),
    ]


def summary_files():
    return [f"<results>/tables/{name}.csv" for name in summary_names(config)]


def table_files(*kinds):
    """The files of every table of the experiment: csv, html, tex."""
    names = [name for name, item in ITEMS.items() if item.table]
    return [f"<results>/tables/{name}.{kind}" for name in names for kind in kinds]


def figure_files():
    """The files of every figure of the experiment."""
    names = [name for name, item in ITEMS.items() if item.figure]
    return [f"<results>/figures/{name}.svg" for name in names]


def reported_files():
    """The tables as HTML and the figures, each with its place in Snakemake's own report."""
    found = []
    for path in [*table_files("html"), *figure_files()]:
        item = ITEMS[Path(path).stem]
        place = {"category": item.category, "labels": {"result": item.label}}
        place["labels"]["format"] = Path(path).parent.name.removesuffix("s")
        place["caption"] = f"../../report/captions/{item.caption}.rst"
        shown = report(path, **place)
        found.append(shown)
    return found


def progress_log():
    """Where every training job says how far it is."""
    return f"logs/{config['run']}/training.log"


def gpus(wildcards):
    """A job asks for a GPU unless the configuration says that it does without."""
    return 0 if config["device"] in ("cpu", "mps") else 1


def run_files(dataset=None):
    """The metrics of every run, controls included, or of those of one data set."""
    return [
        f"<results>/{run.path}/metrics.json"
        for run in [*CONTROLS.values(), *RUNS.values()]
        if dataset in (None, run.dataset)
    ]


def per_user_files():
    """The per-user values of every run that tables and claims compare."""
    every = [*CONTROLS.values(), *RUNS.values()]
    return [f"<results>/{run.path}/per_user.npz" for run in every]


def split_protocols():
    """The protocols under which the experiment has runs."""
    stages = {run.stage for run in RUNS.values()}
    heldout = ["heldout"] if "heldout" in stages or STUDIES else []
    return list(dict.fromkeys([config["protocol"], *heldout]))


def template_hash(*files):
    """Content of what makes a page and of the style sheet, whose edit renders it again."""
    paths = (Path(workflow.basedir) / name for name in (*files, "report/style.css"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def measuring():
    """The benchmarks but for their page, and the code they import, whose edit measures again."""
    digest = hashlib.sha256()
    for path in sorted((Path(workflow.basedir) / "benchmarks").glob("*.py")):
        if path.name not in ("page.py", "peers.py"):
            digest.update(path.read_bytes() + code_hash(path).encode())
    return digest.hexdigest()[:16]


def published_folder(run):
    """Where a reference run is: the first of these that has it, else the last."""
    here, there = published_folders(run)
    return here if (here / "config.yaml").exists() else there


def published_reports():
    """The reports of the reference runs."""
    places = (Path(place, "results", "published") for place in (".", workflow_folder()))
    found = {
        path.parent.name for place in places for path in place.glob("*/config.yaml")
    }
    return [f"results/published/{run}/report.html" for run in sorted(found)]


def folder_hash(folder):
    """Content of a folder but for its report, whose change renders it again."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and path.name != "report.html":
            digest.update(path.read_bytes())
    return digest.hexdigest()


def start():
    """Print the plan, and have a process ready that the jobs are forked from; unless nothing is trained."""
    rendered = named("published_report", *published_reports())
    if FINISHED:
        there = f"{len(EXPERIMENTS)} of {N_ASKED} runs"
        print(f"What has finished of {config['run']!r}: {there}", flush=True)
        return
    if not (rendered or named("plan", "bench")):
        claim_folders()
    if rendered or named("bench", "restore"):
        return
    # As Snakemake sets them for a job.
    libraries = ("OMP", "GOTO", "OPENBLAS", "MKL", "NUMEXPR")
    threads = {f"{name}_NUM_THREADS": str(config["threads"]) for name in libraries}
    environment = {"VECLIB_MAXIMUM_THREADS": str(config["threads"]), **threads}
    global FORKSERVER
    FORKSERVER = forkserver.start(environment)
    print_plan(os.environ | environment)


def named(*words):
    """Tell whether one of these words is in the command line."""
    return not set(words).isdisjoint(sys.argv)


def elsewhere():
    """Tell whether no training runs on this machine: by executor, profile, or what is asked for."""
    chosen = ("--executor", "-e", "--profile", "--workflow-profile")
    words = {word.split("=")[0] for word in sys.argv}
    here = words.isdisjoint(chosen) and "SNAKEMAKE_PROFILE" not in os.environ
    return not here or named("data")


def asked_of():
    """The data sets that the targets are about, by their rules or files; none where it may be all."""
    within = f"results/{config['run']}/"
    files = [Path(word).parts[2:] for word in sys.argv if word.startswith(within)]
    of_all = any(not parts or parts[0] not in ("data", "train") for parts in files)
    if of_all or named("all", "report", "compare", "tables", "figures", "tune"):
        return []
    of_files = {name for parts in files for name in parts[1:2]}
    return sorted(of_files | set(sys.argv) & set(dataset_names()))


def claim_folders():
    """Refuse to run the experiment where another process does, or where nothing can be written."""
    # Snakemake's own locks, which outlive a kill, are off in the profiles.
    global LOCK
    try:
        folders = [] if in_storage() else [f"results/{config['run']}"]
        LOCK = claim(f"logs/{config['run']}/.lock", *folders)
    except ReclossError as error:
        # In one write, into which Snakemake's own lines cannot come.
        print(f"error: {error}\n", end="", file=sys.stderr)
        sys.exit(1)


def print_plan(environment):
    """Say what is about to run, how long it may take, and what it needs."""
    command = [sys.executable, "-m", "recloss", "plan", json.dumps(config)]
    command += ["--tune"] if named("tune") else []
    command += ["--elsewhere"] if elsewhere() else []
    command += ["--dataset", *names] if (names := asked_of()) else []
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    # Printed from here, it does not run through Snakemake's bars.
    print(done.stdout + done.stderr, end="", flush=True)
    if done.returncode:
        sys.exit(1)


def print_findings():
    """Say where the report is, how many claims hold, and which model to use; if it was made now."""
    results = Path("results", config["run"])
    page, advice, claims = (
        results / name
        for name in ("report.html", "tables/advice.csv", "tables/claims.csv")
    )
    if page.exists() and page.stat().st_mtime >= STARTED:
        print(f"The report: {page.resolve()}")
        print(f"The claims: {verdicts.counted(csv_rows(claims))}")
        for row in csv_rows(advice):
            print(f"{name_of(row['dataset'])}: {row['sentence']}", flush=True)


def rendering(file):
    """The code that a notebook or script renders with, whose edit renders its tables again."""
    return code_hash(Path(workflow.basedir) / "workflow" / file, without=())
