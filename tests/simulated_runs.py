"""A finished experiment without its training: run files with invented numbers, to measure scale.

    python tests/simulated_runs.py                                         # config.yaml
    python tests/simulated_runs.py --configfile tests/config/many.yaml     # 5,000 runs
    snakemake --cores all [--configfile ...]                               # to the report

Called where snakemake is called; the experiment is that of snakemake's `--configfile`. It fills
results/<run>, which must not be there yet: whatever the names of the data sets, each is simulated,
of `--users` users; a run has the files that a real one leaves, with numbers of users' values drawn
at random that hang together as real ones do (models, settings, seeds and users differ). Vectors,
random ones, have only the runs that are judged by them, such as those of the main table on the
first seed. Certificates are real ones of a tiny data set. What remains is what is computed from
runs: bounds, truth, aggregation, tables, figures and report.
"""

import argparse
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from snakemake.utils import update_config

from recloss import seeds
from recloss.analysis.certificates import Ials
from recloss.analysis.debiasing import certify, write_rows
from recloss.cli.simulate import run as simulate_files
from recloss.data import prepare
from recloss.data.arrays import load_split
from recloss.data.interactions import Split
from recloss.data.simulate import simulate
from recloss.data.split import PROTOCOLS, split, write
from recloss.engine.ranking import METRICS, means
from recloss.experiment import config as configuration
from recloss.experiment import finished, record
from recloss.experiment.runs import Run, certifies, control_runs, every_run, first_backbone_runs
from recloss.experiment.schema import CONTROL, LINEAR, default_settings, simulation_defaults

EPOCHS = 40  # at most, whatever the settings say: a history of a hundred rows is none of a scale


def read(files: list[str]) -> dict[str, Any]:
    """Return the completed configuration of config.yaml and the files laid over it."""
    raw: dict[str, Any] = {}
    for file in ("config.yaml", *files):
        update_config(raw, yaml.safe_load(Path(file).read_text()))
    return configuration.load(raw)


def write_data(config: dict[str, Any], entry: dict[str, Any], out: Path, users: int) -> None:
    """Write the data set of an entry of the configuration and its splits, as if fetched."""
    name = entry["name"]
    parameters = simulation_defaults() | {"users": users} | entry.get("simulate", {})
    simulate_files(argparse.Namespace(out=out / "raw", **parameters))
    files = {part: out / "raw" / f"{part}.txt" for part in ("train", "test")}
    found = prepare.from_indices(files)
    if name in configuration.shown_names(config):  # all of a user's test items, and no others
        found.sets["shown"] = found.sets["test"]
    prepare.write(name, found, files, out)
    for protocol in PROTOCOLS:
        how = (protocol, config["split"]["validation"], config["split"]["seed"])
        parts = split(found.sets["train"], found.sets["test"], *how)
        write(out / protocol, parts, name, *how)


def certificates(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return certificates.csv of iALS and EASE, but for the data set, on a tiny one."""
    small = {"users": 150, "items": 120, "prior": 0.1, "observed": 8}
    found = simulate(**simulation_defaults() | small)
    alike, how = default_settings("ials"), config["debiasing"]
    ials = Ials(*(alike[name] for name in Ials._fields))
    values = (how[name] for name in ("c", "tau", "kappa", "iterations", "columns"))
    return list(certify(split(found.train, found.test, "published"), ials, 80.0, *values, seed=0))


def effect(*words: object, scale: float) -> float:
    """Return how much better than the average what has this name is: normal, of mean 0."""
    return scale * seeds.generator(0, " ".join(map(str, words))).standard_normal()


def user_values(run: Run, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return the metrics of the test users, whose numbers of test items are `counts` (n,).

    A hit is as likely as user, model, settings and seed make it, one after the other.
    """
    of_users = seeds.generator(0, f"users {run.dataset}").normal(-1.5, 1.0, len(counts))
    model = (run.dataset, run.backbone, run.loss)
    better = {"popularity": -1.5, "random": -4}.get(run.loss, effect(*model, scale=0.15))
    better += effect(*model, run.variant, scale=0.05) if run.variant != "base" else 0
    better += effect(run.path, scale=0.01)
    chance = seeds.generator(0, f"values {run.path}")
    likely = 1 / (1 + np.exp(-(of_users + better + chance.normal(0, 0.3, len(counts)))))
    hits = {50: chance.binomial(counts, likely)}
    hits[20] = chance.binomial(hits[50], 0.6)
    early = chance.uniform(0.4, 0.9, len(counts))  # how far up the hits are
    values = {}
    for k, found in hits.items():
        values[f"recall@{k}"] = (found / counts).astype(np.float32)
        values[f"ndcg@{k}"] = (early * found / np.minimum(counts, k)).astype(np.float32)
    return {name: values[name] for name in METRICS}


def history_of(run: Run, values: dict[str, float]) -> list[dict[str, Any]]:
    """Return a row per epoch: metrics rise to `values` and fall a little thereafter."""
    if run.backbone in (LINEAR, CONTROL):
        return [{"epoch": 1, "train_loss": ""} | values | {"seconds": 1.0}]
    epochs = min(EPOCHS, run.settings["max_epochs"])
    best, rows = max(1, round(0.8 * epochs)), []
    for epoch in range(1, epochs + 1):
        height = 1 - np.exp(-4 * epoch / best) if epoch < best else 1 - 0.002 * (epoch - best)
        now = {name: float(value * height) for name, value in values.items()}
        watched = {f"test {k}": v for k, v in now.items()} if run.settings["watch_test"] else {}
        of_epoch = {"epoch": epoch, "train_loss": 5 / epoch, "learning_rate": 0.01}
        rows.append(of_epoch | now | watched | {"seconds": 2.0 * epoch})
    return rows


def write_run(out: Path, run: Run, manifest: dict[str, Any], parts: Split, vectors: bool) -> None:
    """Write the files of a run."""
    counts = parts.test.counts()
    users = np.flatnonzero(counts).astype(np.int32)
    values = user_values(run, counts[users])
    history = history_of(run, means(values))
    best = max(history, key=lambda row: row["recall@20"])["epoch"]
    code = finished.code_of(run.backbone, run.loss)
    what = (run.backbone, run.loss, run.variant, run.seed, run.settings)
    chance = seeds.generator(0, f"cost {run.path}")
    metrics = record.metrics_of(
        record.identity(manifest, *what, code),
        values,
        {"coverage@20": chance.random(), "gini@20": chance.random(), "popularity@20": 50.0},
        "cpu",
        best_epoch=best,
        epochs=history[-1]["epoch"],
        train_seconds=chance.uniform(60, 600),
        eval_seconds=chance.uniform(6, 60),
        peak_memory_mb=chance.uniform(500, 900),
        threads=1,
    )
    sizes = (parts.train.n_users, parts.train.n_items) if vectors else ()
    tables = [chance.standard_normal((n, run.settings["dim"]), np.float32) for n in sizes]
    record.write_run(out, metrics, history, users, values, tables)


def fill(config: dict[str, Any], results: Path, users: int) -> int:
    """Write the files of every run of a completed configuration and return their number.

    users: of a data set.
    """
    of_split, certified = {}, certificates(config) if certifies(config) else []
    for entry in config["datasets"]:
        folder = results / "data" / entry["name"]
        write_data(config, entry, folder, users)
        rows = ({"dataset": entry["name"]} | row for row in certified)
        with contextlib.redirect_stderr(io.StringIO()):  # it says every row
            write_rows(folder / "certificates.csv", rows)
        for protocol in PROTOCOLS:
            of_split[entry["name"], protocol] = (
                json.loads((folder / protocol / "split.json").read_text()),
                load_split(folder / protocol / "split.npz"),
            )
    judged = {run.path for run in judged_runs(config)}
    runs = [*control_runs(config), *every_run(config)]
    for run in runs:
        protocol = "heldout" if run.stage == "heldout" else config["protocol"]
        parts = of_split[run.dataset, protocol]
        write_run(results / run.path, run, *parts, vectors=run.path in judged)
    return len(runs)


def judged_runs(config: dict[str, Any]) -> list[Run]:
    """Return the runs whose vectors are asked for."""
    shown, seed = configuration.shown_names(config), config["seeds"][0]
    return [
        run
        for run in first_backbone_runs(config)
        if "dim" in run.settings and (run.seed == seed or run.dataset in shown)
    ]


def main() -> None:
    """Fill results/<run>."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configfile", nargs="+", default=[], help="laid over config.yaml")
    parser.add_argument("--users", type=int, default=2000, help="of a data set (default 2000)")
    arguments = parser.parse_args()
    config = read(arguments.configfile)
    results = Path("results", config["run"])
    if results.exists():
        sys.exit(f"error: {results} is there; real runs may be in it: move it away")
    print(f"{fill(config, results, arguments.users)} runs in {results}")


if __name__ == "__main__":
    main()
