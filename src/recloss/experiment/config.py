"""The configuration: validated against its schema, completed, checked.

The schema (schema.yaml) is the only place where keys are described and defaults stand.
"""

import itertools
import re
from collections.abc import Iterable
from typing import Any

import jsonschema

from recloss.data import simulate, sources
from recloss.data.files import expanded
from recloss.experiment import optimum
from recloss.experiment.runs import every_run, published_rows, studies
from recloss.experiment.schema import (
    backbone_names,
    check_prior,
    check_setting,
    check_settings,
    explain,
    linear_schema,
    loss_names,
    model_schema,
    place,
    plain,
    resolved,
    said,
    schema,
    settings_schema,
    shortened,
    types_of,
    unknown_keys,
    value_of,
)
from recloss.files import ReclossError


def load(raw: dict[str, Any]) -> dict[str, Any]:
    """Validate a configuration and return a copy with every default filled in.

    Of grids, inflation, tuning and reproduction, published data sets that are not among `datasets`
    are left out.

    Raises `ReclossError` with the path of the offending key and what it may be.
    """
    raw = _parsed(schema(), raw)
    if isinstance(raw.get("datasets"), list):  # a bare name is an entry that has nothing else
        raw["datasets"] = [{"name": d} if isinstance(d, str) else d for d in raw["datasets"]]
    validator = jsonschema.Draft202012Validator(schema())
    errors = [error for error in validator.iter_errors(raw) if unknown_keys(error) != []]
    if errors:
        raise ReclossError(f"configuration: {explain(errors[0])}")
    config = completed(raw)
    config["losses"] = config.get("losses", loss_names())
    config["settings"] = {
        name: config["settings"].get(name, node["default"])
        for name, node in settings_schema().items()
    }
    for grid in config["grids"]:
        grid["loss"] = [grid["loss"]] if isinstance(grid["loss"], str) else grid["loss"]
    names = [dataset["name"] for dataset in config["datasets"]]
    public = {row.dataset for row in sources.table()}
    lists = (*config["grids"], *config["readings"], *config["ablations"])
    for experiment in (*lists, *map(config.get, ("inflation", "tune", "reproduce"))):
        # The paper's experiments name data sets that a configuration laid over it may not have.
        wanted = experiment.get("datasets", names)
        experiment["datasets"] = [d for d in wanted if d in names or d not in public]
    for key in ("grids", "readings", "ablations"):
        config[key] = [experiment for experiment in config[key] if experiment["datasets"]]
    for experiment in (*lists, config["inflation"], config["reproduce"]):
        experiment.setdefault("seeds", config["seeds"][:1])
    for grid in config["grids"]:
        grid.setdefault("backbones", config["backbones"][:1])
    _check(config)
    return config


def shown_names(config: dict[str, Any]) -> list[str]:
    """Return the data sets that hold items shown at random: published ones, or a `shown` file."""

    def has_shown(entry: dict[str, Any]) -> bool:
        if "path" in entry:
            return any(expanded(entry["path"]).glob("shown.*"))
        return "shown" in sources.roles(entry["name"])

    return [entry["name"] for entry in config["datasets"] if has_shown(entry)]


def _parsed(node: dict[str, Any], value: Any, path: tuple[Any, ...] = ()) -> Any:
    """Return a value with its numbers in one form, and text where the schema wants one as a number.

    `--config seeds=[0,1]` reaches us as text, and so does 1e-4 from YAML, which wants 1.0e-4.
    """
    node = resolved(node)
    if isinstance(value, list):
        items = node.get("items", {})
        return [_parsed(items, entry, (*path, index)) for index, entry in enumerate(value)]
    if isinstance(value, dict):
        properties, other = node.get("properties", {}), node.get("additionalProperties") or {}
        return {
            key: _parsed(properties.get(key, other), entry, (*path, key))
            for key, entry in value.items()
        }
    if isinstance(value, str) and not {"integer", "number", "boolean"}.isdisjoint(types_of(node)):
        return value_of(value)
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ReclossError(f"configuration: {place(path)}: {error.reason}") from None
    try:
        return plain(value)
    except ValueError as error:
        raise ReclossError(f"configuration: {place(path)}: {error}") from None


def completed(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with the defaults of what it lacks, as one from before a key was."""
    return _with_defaults(schema(), config)


def _with_defaults(node: dict[str, Any], value: Any) -> Any:
    """Fill the defaults of `node` and of what lies below; settings keep only what was given."""
    if isinstance(value, list):
        return [_with_defaults(node.get("items", {}), entry) for entry in value]
    if not isinstance(value, dict) or "$ref" in node:
        return value
    properties = node.get("properties", {})
    filled = dict(value)
    for name, child in properties.items():
        if name not in filled and "default" in child:
            filled[name] = child["default"]
    return {name: _with_defaults(properties.get(name, {}), filled[name]) for name in filled}


def _check(config: dict[str, Any]) -> None:
    """Refuse what a JSON schema cannot: names that refer to nothing, settings that clash."""
    known = loss_names()
    names = [dataset["name"] for dataset in config["datasets"]]
    known_files = sources.table()
    public = list(dict.fromkeys(row.dataset for row in known_files))
    for loss in config["losses"]:
        if loss not in known:
            raise ReclossError(
                f"configuration: losses: no loss {loss!r}; known: {', '.join(known)}"
            )
    _check_names("configuration: backbones", config["backbones"], "backbone", backbone_names())
    for index, dataset in enumerate(config["datasets"]):
        where, name = f"configuration: datasets[{index}]", dataset["name"]
        if names.count(name) > 1:
            raise ReclossError(
                f"{where}.name: {name!r} is used twice; give each data set one entry"
            )
        if "path" in dataset and "simulate" in dataset:
            raise ReclossError(f"{where}: has both path and simulate; keep one")
        if "simulate" in dataset:
            _check_simulated(where, dataset["simulate"])
        local = "path" in dataset or "simulate" in dataset
        if local and name in public:
            raise ReclossError(
                f"{where}.name: {name!r} is a published data set; name your own otherwise"
            )
        own = {"columns", "header", "split"} & set(dataset)
        if own and "path" not in dataset:
            raise ReclossError(f"{where}.{min(own)}: is for data of your own, with a path")
        of_it = [row for row in known_files if row.dataset == name and not local]
        _check_published(where, dataset, of_it)
        if not local and name not in public:
            raise ReclossError(
                f"{where}.name: no published data set {name!r} (known: {', '.join(public)}); "
                "add `path: FOLDER` for a data set of your own"
            )
    if not (config["losses"] or config["linear"] or config["controls"]):
        raise ReclossError("configuration: no losses, linear or controls: there is nothing to show")
    if config["run"] in ("published", "bench"):
        raise ReclossError(
            f"configuration: run: results/{config['run']} is taken; name it otherwise"
        )
    models, first = [*known, *linear_schema()], config["backbones"][0]
    for index, grid in enumerate(config["grids"]):
        where = f"configuration: grids[{index}]"
        if [other["name"] for other in config["grids"]].count(grid["name"]) > 1:
            raise ReclossError(f"{where}.name: {grid['name']!r} is used twice; rename one")
        _check_names(f"{where}.loss", grid["loss"], "loss", models)
        _check_names(f"{where}.datasets", grid["datasets"], "data set", names)
        _check_names(f"{where}.backbones", grid["backbones"], "backbone", backbone_names())
        if len(grid["loss"]) * len(grid["backbones"]) > 1 and len(grid["over"]) > 1:
            raise ReclossError(
                f"{where}.over: several losses or backbones vary in one setting; keep one of two"
            )
        for backbone, loss in itertools.product(grid["backbones"], grid["loss"]):
            _check_values(f"{where}.over", loss, grid["over"], backbone)
            _check_given(f"{where}.settings", loss, grid["settings"], backbone)
    for where, entry in (
        ("", config),
        *((f"datasets.{d['name']}.", d) for d in config["datasets"]),
    ):
        for loss, given in entry.get("loss_settings", {}).items():
            if "prior" in given:
                check_prior(given["prior"], f"configuration: {where}loss_settings.{loss}")
    for index, entry in enumerate(config["readings"]):
        where = f"configuration: readings[{index}]"
        _check_names(f"{where}.loss", [entry["loss"]], "loss", known)
        _check_names(f"{where}.datasets", entry["datasets"], "data set", names)
        for name, settings in entry["read_as"].items():
            given = entry["settings"] | settings
            _check_given(f"{where}.read_as.{name}", entry["loss"], given, first)
    for index, entry in enumerate(config["ablations"]):
        where = f"configuration: ablations[{index}]"
        _check_names(f"{where}.datasets", entry["datasets"], "data set", names)
        for number, step in enumerate(entry["steps"]):
            _check_names(f"{where}.steps[{number}].loss", [step["loss"]], "loss", known)
            given = step["settings"]
            _check_given(f"{where}.steps[{number}].settings", step["loss"], given, first)
    _check_names("configuration: model_seeds", config["model_seeds"], "loss", models)
    _check_names("configuration: inflation.losses", config["inflation"]["losses"], "loss", known)
    trained = list(dict.fromkeys(row.name for row in published_rows()))
    _check_names("configuration: reproduce.names", config["reproduce"]["names"], "model", trained)
    for key in ("inflation", "tune", "reproduce"):
        _check_names(f"configuration: {key}.datasets", config[key]["datasets"], "data set", names)
    _check_names("configuration: tune.over", config["tune"]["over"], "loss", models)
    for model, over in config["tune"]["over"].items():
        _check_tried(f"configuration: tune.over.{model}", model, over, first)
    for dataset, found in config["tuned"]["datasets"].items():
        _check_names(f"configuration: tuned.datasets.{dataset}", found, "loss", models)
        for model, entry in found.items():
            where = f"configuration: tuned.datasets.{dataset}.{model}"
            _check_given(where, model, entry["settings"], first)
    optimum.check(config)
    for run in [*every_run(config), *(study.largest for study in studies(config))]:
        where = f"configuration: {run.dataset}, {run.loss}"
        check_settings(run.loss, run.settings, where)
        _check_folders(where, run.path)


def _check_folders(where: str, path: str) -> None:
    """Refuse names of folders that a file system, or Snakemake as a wildcard, does not take."""
    for folder in path.split("/"):
        if len(folder) > 200:
            raise ReclossError(
                f"{where}: too long a name: {shortened(folder)}; vary fewer settings"
            )
        if repeated := re.search(r"(.+)\1{19}$", folder):
            raise ReclossError(
                f"{where}: {folder} ends in {repeated[1]} twenty times, which no name may; "
                "choose another"
            )


def _check_simulated(where: str, parameters: dict[str, Any]) -> None:
    """Refuse a simulated data set that cannot exist."""
    try:
        simulate.check(*(parameters[name] for name in ("items", "prior", "observed")))
    except ReclossError as error:
        raise ReclossError(f"{where}.{error}") from None


def _check_published(where: str, dataset: dict[str, Any], files: list[sources.Source]) -> None:
    """Refuse keys of an entry that its published `files`, if it has some, cannot serve."""
    name = dataset["name"]
    if dataset["validation"] == "published" and sources.VALID not in [row.file for row in files]:
        raise ReclossError(
            f"{where}.validation: no published validation set of {name!r}; leave out"
        )
    rated = any(row.holds == "ratings" for row in files)
    if rated and "rating" not in dataset:
        raise ReclossError(f"{where}: {name} has ratings; add rating: {{at_least: 4}}")
    if "rating" in dataset and not rated and "path" not in dataset:
        raise ReclossError(f"{where}.rating: {name!r} has no ratings; leave it out")


def _check_names(where: str, names: Iterable[str], what: str, known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise ReclossError(f"{where}: no {what} {name!r}; known: {', '.join(known)}")


def _check_given(where: str, model: str, settings: dict[str, Any], backbone: str) -> None:
    """Refuse settings as `_check_values` does, of one value each."""
    over = {key: [value] for key, value in settings.items()}
    _check_values(where, model, over, backbone)


def _check_tried(where: str, model: str, over: dict[str, Any], backbone: str) -> None:
    """Refuse what a study cannot try: see `_check_values`, and ranges that are none."""
    lists = {k: [v["low"], v["high"]] if isinstance(v, dict) else v for k, v in over.items()}
    _check_values(where, model, lists, backbone)
    for key, values in over.items():
        if not isinstance(values, dict):
            continue
        if model in linear_schema():
            raise ReclossError(f"{where}.{key}: a linear model is tried by its grid; give a list")
        if not {"integer", "number"} & set(types_of(model_schema(model, backbone)[key])):
            raise ReclossError(f"{where}.{key}: takes no numbers to choose from; give a list")
        if values["low"] >= values["high"]:
            raise ReclossError(f"{where}.{key}: low is not below high; exchange them")
        if values.get("log") and values["low"] <= 0:
            raise ReclossError(
                f"{where}.{key}: a logarithmic scale has no {values['low']}; raise low above 0"
            )


def _check_values(where: str, model: str, over: dict[str, list[Any]], backbone: str) -> None:
    """Refuse settings that a model does not have, and values that they do not take."""
    nodes = model_schema(model, backbone)
    for key, values in over.items():
        if key not in nodes:
            raise ReclossError(
                f"{where}.{key}: {said(model, backbone)} has no such setting; "
                f"allowed: {', '.join(nodes)}"
            )
        for value in values:
            check_setting(f"{where}.{key}", nodes[key], value)
