"""The tidy tables of an experiment, by name, from what lies in its results folder."""

import json
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from recloss.analysis import gains, optimum, reproduction, summaries
from recloss.experiment import published
from recloss.experiment.config import completed, shown_names
from recloss.experiment.finished import so_far
from recloss.experiment.runs import bounded_runs, certifies, inflation_runs, truth_names
from recloss.files import atomic, write_json


class Results:
    """A results folder: what tables and the report are made from.

    folder: results/<run>, with metrics.csv, history.csv, the runs, data/ and tables/; asked: the
    completed configuration, without it that of config.yaml there.
    """

    def __init__(self, folder: Path, asked: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.asked = asked or completed(yaml.safe_load((folder / "config.yaml").read_text("utf-8")))

    @cached_property
    def config(self) -> dict[str, Any]:
        """What is there of the configuration: all of it, unless not every run has finished."""
        member = dict(zip(self.metrics["path"], self.metrics["experiments"], strict=True))
        certified, bounded = (
            [path.parent.name for path in self.folder.glob(f"data/*/{name}.csv")]
            for name in ("certificates", "bounds")
        )
        return so_far(self.asked, member, certified, bounded)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Return metrics.csv, a row per run."""
        return pd.read_csv(self.folder / "metrics.csv")

    @cached_property
    def history(self) -> pd.DataFrame:
        """Return history.csv, a row per evaluation."""
        return pd.read_csv(self.folder / "history.csv")

    def table(self, name: str) -> pd.DataFrame:
        """Return tables/NAME.csv."""
        return pd.read_csv(self.folder / "tables" / f"{name}.csv", dtype={"passed": str})

    @property
    def datasets(self) -> list[str]:
        """The names of the data sets."""
        return [d["name"] for d in self.config["datasets"]]

    def manifests(self) -> list[dict[str, Any]]:
        """Return the manifest of each data set's split."""
        folders = (self.folder / "data" / name / self.config["protocol"] for name in self.datasets)
        return [json.loads((folder / "split.json").read_text("utf-8")) for folder in folders]

    def bounds(self) -> pd.DataFrame:
        """Return the bounds at trained vectors (`bounds.rows`) of every data set, or nothing."""
        return self._rows("bounds", self.datasets if bounded_runs(self.config) else [])

    def debiasing(self) -> pd.DataFrame:
        """Return certificates and what the truth says (`certificates.row`), or nothing."""
        certified = self.datasets if certifies(self.config) else []
        parts = [
            self._rows("certificates", certified),
            self._rows("truth", truth_names(self.config)),
        ]
        return pd.concat(parts, ignore_index=True)

    def shown(self) -> pd.DataFrame:
        """Return what users say of items shown at random (`shown.judge`), or nothing."""
        return self._rows("shown", shown_names(self.config))

    def _rows(self, name: str, datasets: list[str]) -> pd.DataFrame:
        paths = [self.folder / "data" / dataset / f"{name}.csv" for dataset in datasets]
        parts = [pd.read_csv(path, dtype={"passed": str}) for path in paths if path.exists()]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


SUMMARIES: dict[str, Callable[[Results], pd.DataFrame]] = {
    "tuning": lambda r: summaries.tuning(r.config["tuned"]["datasets"]),
    "bounds": Results.bounds,
    "inflation": lambda r: summaries.inflation(r.history, r.config),
    "published": lambda r: reproduction.compare(r.metrics),
    "paper": lambda r: reproduction.paper_table(r.metrics),
    "readings": lambda r: reproduction.readings_table(r.metrics, r.config),
    "ablations": lambda r: summaries.ablations(r.metrics, r.config),
    "optimum": lambda r: optimum.optimum_table(r.metrics, r.history, r.config),
    "debiasing": Results.debiasing,
    "moved": lambda r: summaries.moved(r.debiasing()),
    "truth": lambda r: summaries.truth(r.debiasing()),
    "shown": lambda r: gains.shown_table(r.shown(), gains.validated(r.metrics, r.history)),
    "recommended": lambda r: summaries.recommended_table(r.metrics),
    "cost": lambda r: summaries.cost_table(r.metrics),
    "data": lambda r: summaries.data_table(r.manifests()),
}


def summary_names(config: dict[str, Any]) -> list[str]:
    """Return the names of the summaries that an experiment has, grids first."""
    names = {dataset["name"] for dataset in config["datasets"]}
    true = bool(truth_names(config))
    debiased = certifies(config) or true
    wanted = {
        "tuning": bool(config["tuned"]["datasets"]),
        "bounds": bool(bounded_runs(config)),
        "inflation": any(inflation_runs(config)),
        "published": not names.isdisjoint(published.table()["dataset"]),
        "paper": not names.isdisjoint(published.paper()["dataset"]),
        "readings": bool(config["readings"]),
        "ablations": bool(config["ablations"]),
        "optimum": "optimum" in config,
        "debiasing": debiased,
        "moved": debiased,
        "truth": true,
        "shown": bool(shown_names(config)),
    }
    grids = [f"grid_{grid['name']}" for grid in config["grids"]]
    return [*grids, *(name for name in SUMMARIES if wanted.get(name, True))]


def summary(results: Results, name: str) -> pd.DataFrame:
    """Return a summary by its name: one of `SUMMARIES`, or grid_NAME."""
    for grid in results.config["grids"]:
        if name == f"grid_{grid['name']}":
            return summaries.grid_table(results.metrics, results.folder, grid)
    return SUMMARIES[name](results)


def write_tables(made: Mapping[str | Path, Callable[[], pd.DataFrame]], seconds: Path) -> None:
    """Write each table to its path, and the seconds that each took, by name, to `seconds`."""
    took = {}
    for path, table in made.items():
        began = time.perf_counter()
        frame = table()
        with atomic(path) as temporary:
            frame.to_csv(temporary, index=False)
        took[Path(path).stem] = round(time.perf_counter() - began, 2)
    write_json(seconds, took)
