"""The runs of an experiment: what its tables, grids and comparisons ask for, each once."""

import itertools
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from recloss.experiment import published
from recloss.experiment.schema import (
    CONTROL,
    LINEAR,
    backbone_of,
    backbone_schema,
    default_settings,
    label_of,
    loss_names,
    loss_schema,
    model_schema,
)

ASKED = ("trials", "epochs", "batch_size", "min_epochs", "reduction_factor")  # of a study
# Nothing in them is random: their run of the first seed stands for all.
DETERMINISTIC = ("ease", "popularity")


def settings_for(
    config: dict[str, Any], dataset: str, model: str, backbone: str | None = None
) -> dict[str, Any]:
    """Return the settings of a loss or linear model on a data set, the most specific entry winning.

    Order for a loss: `settings`, the data set's `settings`, the schema's defaults of the backbone
    and of the loss, `loss_settings`, the data set's `loss_settings`, `backbone_settings`, their
    `loss_settings`, the data set's `backbone_settings`, their `loss_settings`. For a linear model:
    the schema's defaults, `linear_settings`, the data set's `linear_settings`. At last, of linear
    models and on the first backbone, what was tuned. backbone: without it, the first of the
    configuration.
    """
    first = config["backbones"][0]
    backbone = backbone or first
    entry = next(entry for entry in config["datasets"] if entry["name"] == dataset)
    places = (config, entry)
    if backbone_of(model) == LINEAR:
        common, key, own = {}, "linear_settings", model_schema(model)
    else:
        common = config["settings"] | entry.get("settings", {})
        key, own = "loss_settings", backbone_schema(backbone) | loss_schema(model)
    found = common | {name: node["default"] for name, node in own.items()}
    for place in places:
        found |= place.get(key, {}).get(model, {})
    if key == "loss_settings":
        for place in places:
            mine = dict(place.get("backbone_settings", {}).get(backbone, {}))
            of_losses = mine.pop("loss_settings", {})
            found |= mine | of_losses.get(model, {})
    if backbone in (first, LINEAR):
        found |= config["tuned"]["datasets"].get(dataset, {}).get(model, {}).get("settings", {})
    return found


@dataclass(frozen=True)
class Run:
    """One training run: data set, backbone, loss or linear model, variant of settings, seed.

    stage: `train` under the protocol of the configuration, or `heldout` under that.
    """

    dataset: str
    backbone: str
    loss: str
    variant: str
    seed: int
    settings: dict[str, Any] = field(compare=False)
    stage: str = "train"

    @property
    def path(self) -> str:
        """The run's folder below results/<run>/."""
        parts = (self.dataset, self.backbone, self.loss, self.variant, f"seed{self.seed}")
        return "/".join((self.stage, *parts))


def variant_name(changes: dict[str, Any]) -> str:
    """Name a variant by what differs from the main table, e.g. `eps0.5_lambda0.9`; else `base`."""
    return "_".join(f"{key}{label_of(value)}" for key, value in sorted(changes.items())) or "base"


def main_runs(config: dict[str, Any]) -> Iterator[Run]:
    """Yield the runs of the main table: data sets x (losses x backbones, linear models) x seeds.

    Of a model in which nothing is random, as EASE, the first seed alone.
    """
    models = [*itertools.product(config["backbones"], config["losses"])]
    models += [(LINEAR, model) for model in config["linear"]]
    for dataset, (backbone, model) in itertools.product(config["datasets"], models):
        settings = settings_for(config, dataset["name"], model, backbone)
        chosen = config["model_seeds"].get(model, config["seeds"])
        for seed in chosen[: 1 if model in DETERMINISTIC else None]:
            yield Run(dataset["name"], backbone, model, "base", seed, settings)


def first_backbone_runs(config: dict[str, Any]) -> list[Run]:
    """Return the runs of the main table of the first backbone, and those of linear models."""
    wanted = (config["backbones"][0], LINEAR)
    return [run for run in main_runs(config) if run.backbone in wanted]


def first_runs(config: dict[str, Any]) -> list[Run]:
    """Return those of the first seed: what is judged by truth and bounds."""
    return [run for run in first_backbone_runs(config) if run.seed == config["seeds"][0]]


def control_runs(config: dict[str, Any]) -> Iterator[Run]:
    """Yield the control runs, one per data set and control."""
    for dataset, control in itertools.product(config["datasets"], config["controls"]):
        yield Run(dataset["name"], CONTROL, control, "base", config["seeds"][0], {})


def _variant(
    config: dict[str, Any],
    dataset: str,
    model: str,
    point: dict[str, Any],
    seed: int,
    stage: str,
    backbone: str | None = None,
) -> Run:
    """Return the run at some settings; named `base` if they are those of the main table.

    backbone: without it, the first of the configuration.
    """
    backbone = backbone_of(model, backbone or config["backbones"][0])
    base = settings_for(config, dataset, model, backbone)
    changes = {key: value for key, value in point.items() if value != base[key]}
    name = variant_name(changes)
    return Run(dataset, backbone, model, name, seed, base | point, stage)


def certifies(config: dict[str, Any]) -> bool:
    """Tell whether certificates are computed: there is a linear model, and a c or a tau+."""
    return bool(config["linear"] and (config["debiasing"]["c"] or config["debiasing"]["tau"]))


def bounded_runs(config: dict[str, Any]) -> list[Run]:
    """Return the runs at whose vectors bounds are evaluated: of losses, of the first seed."""
    return [run for run in first_runs(config) if run.backbone != LINEAR and config["bounds"]]


def truth_names(config: dict[str, Any]) -> list[str]:
    """Return the simulated data sets, by whose truth the models, if there are any, are judged."""
    models = config["losses"] or config["linear"]
    return [d["name"] for d in config["datasets"] if "simulate" in d and models]


def grid_runs(config: dict[str, Any], grid: dict[str, Any]) -> Iterator[Run]:
    """Yield the runs of a grid; a point equal to the main table's settings is that very run."""
    sides = (grid["datasets"], grid["backbones"], grid["loss"])
    for dataset, backbone, loss in itertools.product(*sides):
        for values in itertools.product(*grid["over"].values()):
            point = grid["settings"] | dict(zip(grid["over"], values, strict=True))
            for seed in grid["seeds"]:
                yield _variant(config, dataset, loss, point, seed, "train", backbone)


def inflation_runs(config: dict[str, Any]) -> Iterator[Run]:
    """Yield the runs under `heldout` that watch the test set."""
    entry = config["inflation"]
    for dataset, loss in itertools.product(entry["datasets"], entry["losses"]):
        for seed in entry["seeds"]:
            yield _variant(config, dataset, loss, {"watch_test": True}, seed, "heldout")


def runs_of_reading(config: dict[str, Any], entry: dict[str, Any], name: str) -> Iterator[Run]:
    """Yield the runs of a reading."""
    point = entry["settings"] | entry["read_as"][name]
    for dataset, seed in itertools.product(entry["datasets"], entry["seeds"]):
        yield _variant(config, dataset, entry["loss"], point, seed, "train")


def reading_runs(config: dict[str, Any]) -> Iterator[Run]:
    """Yield the runs of the readings."""
    for entry in config["readings"]:
        for name in entry["read_as"]:
            yield from runs_of_reading(config, entry, name)


def step_runs(config: dict[str, Any], entry: dict[str, Any], index: int) -> Iterator[Run]:
    """Yield the runs of a step of an ablation."""
    step = entry["steps"][index]
    for dataset, seed in itertools.product(entry["datasets"], entry["seeds"]):
        yield _variant(config, dataset, step["loss"], step["settings"], seed, "train")


def runs_of_ablation(config: dict[str, Any], entry: dict[str, Any]) -> Iterator[Run]:
    """Yield the runs of an ablation."""
    for index in range(len(entry["steps"])):
        yield from step_runs(config, entry, index)


def ablation_runs(config: dict[str, Any]) -> Iterator[Run]:
    """Yield the runs of the ablations."""
    for entry in config["ablations"]:
        yield from runs_of_ablation(config, entry)


def published_rows() -> list[Any]:
    """Return the rows of published.csv that name a loss and its settings."""
    table = published.table()
    known = table["model"].isin(loss_names()) & table["settings"].notna()
    return list(table[known].itertuples(index=False))


def reproduction_runs(config: dict[str, Any]) -> Iterator[Run]:
    """Yield the runs of published models with the settings they were published with.

    Nothing else of the configuration touches them; the variant is named after the row.
    """
    entry = config["reproduce"]
    for dataset, row, seed in itertools.product(
        entry["datasets"], published_rows(), entry["seeds"]
    ):
        if row.dataset == dataset and row.name in entry["names"]:
            chosen = default_settings(row.model, row.backbone) | row.settings
            name = row.name.replace(", ", "-").replace(" ", "")
            yield Run(dataset, row.backbone, row.model, name, seed, chosen)


@dataclass(frozen=True)
class Study:
    """What `snakemake tune` tries of a model on a data set, under `heldout`.

    settings: untuned, as for trials; over: by setting the values to try, a list or a range;
    trials: how many at most; epochs: of training in all trials together, at `batch_size` pairs a
    step, None for a linear model; min_epochs and reduction_factor: of the successive halving.
    """

    dataset: str
    backbone: str
    model: str
    seed: int
    settings: dict[str, Any]
    over: dict[str, Any]
    trials: int | None
    epochs: int | None
    batch_size: int
    min_epochs: int
    reduction_factor: int

    @property
    def path(self) -> str:
        """The study's folder below results/<run>/."""
        return "/".join(("tune", self.dataset, self.backbone, self.model))

    @property
    def asked(self) -> dict[str, int | None]:
        """How many trials, steps and epochs, as the flags of `recloss tune`."""
        return {name: getattr(self, name) for name in ASKED}

    @property
    def largest(self) -> Run:
        """A run with the largest number that each setting takes: what the study needs."""
        most = {}
        for key, values in self.over.items():
            values = [values["high"]] if isinstance(values, dict) else values
            numbers = [value for value in values if isinstance(value, int | float)]
            if numbers:
                most[key] = max([self.settings[key], *numbers])
        names = (self.dataset, self.backbone, self.model, "largest", self.seed)
        return Run(*names, self.settings | most, "heldout")


def studies(config: dict[str, Any]) -> Iterator[Study]:
    """Yield what `snakemake tune` does, a study a data set and model, on the first seed.

    Models of `tune.over` that are not in the experiment have none.
    """
    entry, config = config["tune"], config | {"tuned": {"datasets": {}}}
    halving = (entry["min_epochs"], entry["reduction_factor"])
    models = [model for model in entry["over"] if model in config["losses"] + config["linear"]]
    for dataset, model in itertools.product(entry["datasets"], models):
        backbone = backbone_of(model, config["backbones"][0])
        linear = backbone == LINEAR
        mine = next(d for d in config["datasets"] if d["name"] == dataset)
        common = config["settings"] | mine.get("settings", {}) | entry["settings"]
        settings = settings_for(config, dataset, model) | ({} if linear else entry["settings"])
        epochs = None if linear else entry["budget"] * common["max_epochs"]
        names = (dataset, backbone, model, config["seeds"][0], settings, entry["over"][model])
        yield Study(*names, entry.get("trials"), epochs, common["batch_size"], *halving)


def every_run(config: dict[str, Any]) -> list[Run]:
    """Return every training run of the experiment once, however many experiments ask for it.

    The trials of `snakemake tune` and the controls are not among them.
    """
    asked = (found for name, found, _ in parts(config) if name != "control")
    return list(dict.fromkeys(itertools.chain.from_iterable(asked)))


def parts(config: dict[str, Any]) -> Iterator[tuple[str, Iterable[Run], tuple[str, ...]]]:
    """Yield the experiments: name, runs, and the fields in which those are alike that go together.

    Of a grid or an ablation a seed is worth nothing without all of its points: means would be over
    different seeds.
    """
    yield "main", main_runs(config), ("path",)
    yield "control", control_runs(config), ("path",)
    yield "inflation", inflation_runs(config), ("path",)
    yield "readings", reading_runs(config), ("path",)
    for entry in config["ablations"]:
        yield "ablations", runs_of_ablation(config, entry), ("dataset", "seed")
    yield "reproduce", reproduction_runs(config), ("path",)
    for grid in config["grids"]:
        alike = ("dataset", "backbone", "loss", "seed")
        yield f"grid:{grid['name']}", grid_runs(config, grid), alike


def whole(runs: Iterable[Run], done: Container[str], alike: tuple[str, ...]) -> list[Run]:
    """Return the runs of the groups, alike in these fields, of which every run is done.

    done: paths.
    """
    runs = list(runs)

    def which(run: Run) -> tuple[Any, ...]:
        return tuple(getattr(run, name) for name in alike)

    lacking = {which(run) for run in runs if run.path not in done}
    return [run for run in runs if which(run) not in lacking]


def experiments(config: dict[str, Any], done: Container[str] | None = None) -> dict[str, str]:
    """Return by the path of every run the experiments that ask for it, joined by spaces.

    done: paths; with them only of the runs that are done and `whole`, on data sets of whose main
    table, if there is one, a model is done at the first seed: by that one its vectors are judged.
    """
    member: dict[str, list[str]] = {}
    firsts = [] if done is None else first_runs(config)
    begun = {run.dataset for run in firsts if run.path in done}
    for name, found, alike in parts(config):
        for run in found if done is None else whole(found, done, alike):
            if run.dataset in begun or not firsts:
                member.setdefault(run.path, []).append(name)
    return {path: " ".join(dict.fromkeys(names)) for path, names in member.items()}
