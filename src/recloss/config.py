"""The configuration: validated against its schema, completed, and expanded into runs.

The schema (`config.schema.yaml`) is the only place where keys are described and defaults stand.
"""

import argparse
import functools
import itertools
import json
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from recloss import data, published, seeds
from recloss.files import ReclossError, atomic, run_cli

BACKBONE = "mf"
LINEAR = "linear"
CONTROL = "control"


@functools.cache
def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of the configuration."""
    return yaml.safe_load(Path(__file__).with_name("config.schema.yaml").read_text())


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    """Return a schema node with its `$ref` merged in; its own keywords win."""
    if "$ref" not in node:
        return node
    target = _resolved(schema()["$defs"][node["$ref"].removeprefix("#/$defs/")])
    own = {key: value for key, value in node.items() if key != "$ref"}
    return target | own | {"properties": target.get("properties", {}) | own.get("properties", {})}


def settings_schema() -> dict[str, dict[str, Any]]:
    """Return the schema of every setting that all losses share, by name."""
    return schema()["$defs"]["settings"]["properties"]


def loss_schema(loss: str) -> dict[str, dict[str, Any]]:
    """Return the schema of the settings that `loss` has of its own, by name."""
    own = schema()["$defs"]["loss_settings"]["properties"][loss].get("properties", {})
    return {name: _resolved(node) for name, node in own.items()}


def _linear_schema() -> dict[str, dict[str, Any]]:
    return schema()["$defs"]["linear_settings"]["properties"]


def backbone_of(model: str) -> str:
    """Return `linear` for a linear model, else the backbone that losses train."""
    return LINEAR if model in _linear_schema() else BACKBONE


def model_schema(model: str) -> dict[str, dict[str, Any]]:
    """Return the schema of every setting of a loss or a linear model, by name."""
    if backbone_of(model) == LINEAR:
        return _linear_schema()[model]["properties"]
    return settings_schema() | loss_schema(model)


def simulation_defaults() -> dict[str, Any]:
    """Return the parameters of the simulated data set where nothing else is said."""
    nodes = schema()["properties"]["datasets"]["items"]["properties"]["simulate"]["properties"]
    return {name: node["default"] for name, node in nodes.items()}


def default_settings(model: str) -> dict[str, Any]:
    """Return the schema's defaults of every setting of a loss or a linear model."""
    return {name: node["default"] for name, node in model_schema(model).items()}


def loss_names() -> list[str]:
    """Return the losses that the schema knows, in its order."""
    return list(schema()["$defs"]["loss_settings"]["properties"])


def load(raw: dict[str, Any]) -> dict[str, Any]:
    """Validate a configuration and return a copy with every default filled in.

    Of grids, inflation, tuning and reproduction, published data sets that are not among `datasets`
    are left out.

    Raises `ReclossError` with the path of the offending key and what it may be.
    """
    raw = _parsed(schema(), raw)
    validator = jsonschema.Draft202012Validator(schema())
    errors = [error for error in validator.iter_errors(raw) if _unknown_keys(error) != []]
    if errors:
        raise ReclossError(f"configuration: {_explain(errors[0])}")
    config = _with_defaults(schema(), raw)
    config["losses"] = config.get("losses", loss_names())
    config["settings"] = {
        name: config["settings"].get(name, node["default"])
        for name, node in settings_schema().items()
    }
    for grid in config["grids"]:
        grid["loss"] = [grid["loss"]] if isinstance(grid["loss"], str) else grid["loss"]
    names = [dataset["name"] for dataset in config["datasets"]]
    public = {row.dataset for row in data.table()}
    for experiment in (*config["grids"], *map(config.get, ("inflation", "tune", "reproduce"))):
        # The paper's experiments name data sets that a configuration laid over it may not have.
        wanted = experiment.get("datasets", names)
        experiment["datasets"] = [d for d in wanted if d in names or d not in public]
    config["grids"] = [grid for grid in config["grids"] if grid["datasets"]]
    for experiment in (*config["grids"], config["inflation"], config["reproduce"]):
        experiment.setdefault("seeds", config["seeds"][:1])
    _check(config)
    return config


def _parsed(node: dict[str, Any], value: Any) -> Any:
    """Turn text into numbers where the schema wants numbers.

    `--config seeds=[0,1]` reaches us as text, and so does 1e-4 from YAML, which wants 1.0e-4.
    """
    node = _resolved(node)
    if isinstance(value, list):
        return [_parsed(node.get("items", {}), entry) for entry in value]
    if isinstance(value, dict):
        properties, other = node.get("properties", {}), node.get("additionalProperties") or {}
        return {key: _parsed(properties.get(key, other), entry) for key, entry in value.items()}
    if isinstance(value, str) and not {"integer", "number", "boolean"}.isdisjoint(_types(node)):
        return _value(value)
    return value


def _types(node: dict[str, Any]) -> list[str]:
    kinds = node.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


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


def _at(path: Any, key: str | None = None) -> str:
    """Write a key's path as in `datasets[0].settings.dim`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return (text + (f".{key}" if key else "")).lstrip(".") or "(top level)"


def _unknown_keys(error: jsonschema.ValidationError) -> list[str] | None:
    """Return the keys that a schema node does not know; None if the error is about another thing.

    A bad value below a `$ref` also makes jsonschema call its neighbours unevaluated: then the list
    is empty, and the error says nothing of its own.
    """
    if error.validator not in ("additionalProperties", "unevaluatedProperties"):
        return None
    if error.validator_value is not False:
        return None
    return [key for key in error.instance if key not in _resolved(error.schema)["properties"]]


def _explain(error: jsonschema.ValidationError) -> str:
    """Say in one line which key is wrong and what it may be."""
    where = _at(error.absolute_path)
    if unknown := _unknown_keys(error):
        allowed = ", ".join(_resolved(error.schema)["properties"])
        return f"{_at(error.absolute_path, unknown[0])}: unknown key; allowed: {allowed}"
    if error.validator == "enum":
        allowed = ", ".join(map(str, error.validator_value))
        return f"{where}: {error.instance!r} is not allowed; allowed: {allowed}"
    return f"{where}: {error.message}"


def _check(config: dict[str, Any]) -> None:
    """Refuse what a JSON schema cannot: names that refer to nothing, settings that clash."""
    known = loss_names()
    names = [dataset["name"] for dataset in config["datasets"]]
    public = list(dict.fromkeys(row.dataset for row in data.table()))
    for loss in config["losses"]:
        if loss not in known:
            raise ReclossError(
                f"configuration: losses: no loss {loss!r}; known: {', '.join(known)}"
            )
    for index, dataset in enumerate(config["datasets"]):
        where, name = f"configuration: datasets[{index}]", dataset["name"]
        if names.count(name) > 1:
            raise ReclossError(
                f"{where}.name: {name!r} is used twice; give each data set one entry"
            )
        if "path" in dataset and "simulate" in dataset:
            raise ReclossError(f"{where}: has both path and simulate; keep one")
        local = "path" in dataset or "simulate" in dataset
        if local and name in public:
            raise ReclossError(
                f"{where}.name: {name!r} is a published data set; name your own otherwise"
            )
        if not local and name not in public:
            raise ReclossError(
                f"{where}.name: no published data set {name!r} (known: {', '.join(public)}); "
                "add `path: FOLDER` for a data set of your own"
            )
    if config["run"] in ("published", "bench"):
        raise ReclossError(
            f"configuration: run: results/{config['run']} is taken; name it otherwise"
        )
    models = [*known, *_linear_schema()]
    for index, grid in enumerate(config["grids"]):
        where = f"configuration: grids[{index}]"
        if [other["name"] for other in config["grids"]].count(grid["name"]) > 1:
            raise ReclossError(f"{where}.name: {grid['name']!r} is used twice; rename one")
        _check_names(f"{where}.loss", grid["loss"], "loss", models)
        _check_names(f"{where}.datasets", grid["datasets"], "data set", names)
        if len(grid["loss"]) > 1 and len(grid["over"]) > 1:
            raise ReclossError(f"{where}.over: several losses vary in one setting; keep one of two")
        for loss in grid["loss"]:
            _check_values(f"{where}.over", loss, grid["over"])
    _check_names("configuration: model_seeds", config["model_seeds"], "loss", models)
    _check_names("configuration: inflation.losses", config["inflation"]["losses"], "loss", known)
    trained = list(dict.fromkeys(row.name for row in _published_rows()))
    _check_names("configuration: reproduce.names", config["reproduce"]["names"], "model", trained)
    for key in ("inflation", "tune", "reproduce"):
        _check_names(f"configuration: {key}.datasets", config[key]["datasets"], "data set", names)
    _check_names("configuration: tune.over", config["tune"]["over"], "loss", models)
    for model, over in config["tune"]["over"].items():
        _check_values(f"configuration: tune.over.{model}", model, over)
    for dataset, found in config["tuned"]["datasets"].items():
        _check_names(f"configuration: tuned.datasets.{dataset}", found, "loss", models)
        for model, entry in found.items():
            values = {key: [value] for key, value in entry["settings"].items()}
            _check_values(f"configuration: tuned.datasets.{dataset}.{model}", model, values)
    for run in runs(config):
        check_settings(run.loss, run.settings, f"configuration: {run.dataset}, {run.loss}")


def _check_names(where: str, names: Iterable[str], what: str, known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise ReclossError(f"{where}: no {what} {name!r}; known: {', '.join(known)}")


def _check_values(where: str, model: str, over: dict[str, list[Any]]) -> None:
    """Refuse settings that a model does not have, and values that they do not take."""
    nodes = model_schema(model)
    for key, values in over.items():
        if key not in nodes:
            raise ReclossError(
                f"{where}.{key}: {model} has no such setting; allowed: {', '.join(nodes)}"
            )
        for value in values:
            check_setting(f"{where}.{key}", nodes[key], value)


def check_setting(where: str, node: dict[str, Any], value: Any) -> None:
    """Refuse a value that the schema of its setting does not allow."""
    error = next(jsonschema.Draft202012Validator(node).iter_errors(value), None)
    if error is not None:
        raise ReclossError(f"{where}: {_explain(error).removeprefix('(top level): ')}")


def check_settings(loss: str, settings: dict[str, Any], where: str) -> None:
    """Refuse combinations that cannot train.

    With lambda != 1 a common shift of all scores changes the loss without bound, so that inner
    products run away unless something holds them (arXiv 2312.08520; see `losses`).
    """
    unbounded = loss in ("infonce_plus", "mine_plus") and settings["lambda"] != 1
    if unbounded and settings["score"] == "dot":
        fault = f"{where}: lambda {settings['lambda']} with score dot is unbounded"
        if settings["l2"] == 0:
            raise ReclossError(f"{fault}; use score cosine, lambda 1, or l2 above 0")
        warnings.warn(f"{fault}: only a strong l2 holds it", stacklevel=2)
    if settings.get("correct_logq") and settings["exclude_positives"]:
        raise ReclossError(
            f"{where}: correct_logq needs one proposal q for all users, exclude_positives "
            "makes one per user; use one of the two"
        )


def settings_for(config: dict[str, Any], dataset: str, model: str) -> dict[str, Any]:
    """Return the settings of a loss or linear model on a data set, the most specific entry winning.

    Order for a loss: `settings`, the data set's `settings`, the schema's defaults of the loss,
    `loss_settings`, the data set's `loss_settings`. For a linear model: the schema's defaults,
    `linear_settings`, the data set's `linear_settings`. At last what was tuned.
    """
    entry = next(entry for entry in config["datasets"] if entry["name"] == dataset)
    if backbone_of(model) == LINEAR:
        common, key, own = {}, "linear_settings", model_schema(model)
    else:
        common = config["settings"] | entry.get("settings", {})
        key, own = "loss_settings", loss_schema(model)
    return (
        common
        | {name: node["default"] for name, node in own.items()}
        | config[key].get(model, {})
        | entry.get(key, {}).get(model, {})
        | config["tuned"]["datasets"].get(dataset, {}).get(model, {}).get("settings", {})
    )


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
    return "_".join(f"{key}{value}" for key, value in sorted(changes.items())) or "base"


def main_runs(config: dict[str, Any]) -> Iterator[Run]:
    """Yield the runs of the main table: data sets x losses and linear models x seeds.

    EASE draws nothing at random: its first seed stands for all.
    """
    models = [*config["losses"], *config["linear"]]
    for dataset, model in itertools.product(config["datasets"], models):
        settings = settings_for(config, dataset["name"], model)
        chosen = config["model_seeds"].get(model, config["seeds"])
        for seed in chosen[: 1 if model == "ease" else None]:
            yield Run(dataset["name"], backbone_of(model), model, "base", seed, settings)


def control_runs(config: dict[str, Any]) -> Iterator[Run]:
    """Yield the control runs, one per data set and control."""
    for dataset, control in itertools.product(config["datasets"], config["controls"]):
        yield Run(dataset["name"], CONTROL, control, "base", config["seeds"][0], {})


def _variant(
    config: dict[str, Any], dataset: str, model: str, point: dict[str, Any], seed: int, stage: str
) -> Run:
    """Return the run at some settings; named `base` if they are those of the main table."""
    base = settings_for(config, dataset, model)
    changes = {key: value for key, value in point.items() if value != base[key]}
    name = variant_name(changes)
    return Run(dataset, backbone_of(model), model, name, seed, base | point, stage)


def grid_runs(config: dict[str, Any], grid: dict[str, Any]) -> Iterator[Run]:
    """Yield the runs of a grid; a point equal to the main table's settings is that very run."""
    for dataset, loss in itertools.product(grid["datasets"], grid["loss"]):
        for values in itertools.product(*grid["over"].values()):
            point = dict(zip(grid["over"], values, strict=True))
            for seed in grid["seeds"]:
                yield _variant(config, dataset, loss, point, seed, "train")


def inflation_runs(config: dict[str, Any]) -> Iterator[Run]:
    """Yield the runs under `heldout` that watch the test set."""
    entry = config["inflation"]
    for dataset, loss in itertools.product(entry["datasets"], entry["losses"]):
        for seed in entry["seeds"]:
            yield _variant(config, dataset, loss, {"watch_test": True}, seed, "heldout")


def _published_rows() -> list[Any]:
    """Return the rows of published.csv that name a loss and its settings."""
    table = published.table()
    return list(table[table["model"].isin(loss_names())].itertuples(index=False))


def reproduction_runs(config: dict[str, Any]) -> Iterator[Run]:
    """Yield the runs of published models with the settings they were published with.

    Nothing else of the configuration touches them; the variant is named after the row.
    """
    entry = config["reproduce"]
    for dataset, row, seed in itertools.product(
        entry["datasets"], _published_rows(), entry["seeds"]
    ):
        if row.dataset == dataset and row.name in entry["names"]:
            chosen = default_settings(row.model) | row.settings
            name = row.name.replace(", ", "-").replace(" ", "")
            yield Run(dataset, BACKBONE, row.model, name, seed, chosen)


def trial_runs(config: dict[str, Any]) -> Iterator[Run]:
    """Yield the trials of `snakemake tune`, on the first seed, equally many of every model.

    A model whose grid has more points than there are trials gets as many drawn at random, from the
    stream (0, "tune", model); one with fewer gets all of its grid.
    """
    entry, config = config["tune"], config | {"tuned": {"datasets": {}}}
    for dataset, model in itertools.product(entry["datasets"], entry["over"]):
        over = entry["over"][model]
        points = list(itertools.product(*over.values()))
        order = seeds.generator(0, f"tune {model}").permutation(len(points))
        common = {} if backbone_of(model) == LINEAR else entry["settings"]
        for index in sorted(order[: entry["trials"]]):
            point = common | dict(zip(over, points[index], strict=True))
            yield _variant(config, dataset, model, point, config["seeds"][0], "heldout")


def runs(config: dict[str, Any]) -> list[Run]:
    """Return every training run of the experiment once, however many experiments ask for it.

    The trials of `snakemake tune` are not among them.
    """
    grids = (grid_runs(config, grid) for grid in config["grids"])
    others = (inflation_runs(config), reproduction_runs(config))
    return list(dict.fromkeys(itertools.chain(main_runs(config), *grids, *others)))


def flags(settings: dict[str, Any]) -> str:
    """Return settings as the command line of `recloss.train`."""
    return " ".join(f"--{key.replace('_', '-')} {_text(value)}" for key, value in settings.items())


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(text: str) -> Any:
    """Return a flag's value: a JSON number or boolean, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def add_setting_flags(parser: argparse.ArgumentParser, backbone: str = BACKBONE) -> None:
    """Add a flag per setting of the schema; what is not given stays out of the namespace."""
    if backbone == LINEAR:
        groups = {f"settings of {m}": model_schema(m) for m in _linear_schema()}
    else:
        groups = {"settings of every loss": settings_schema()}
        groups |= {f"settings of {loss}": loss_schema(loss) for loss in loss_names()}
    seen: dict[str, argparse.Action] = {}
    for title, nodes in groups.items():
        group = parser.add_argument_group(title)
        for name, node in nodes.items():
            if name in seen:
                continue
            text = f"{node['description']} (default {_text(node['default'])})".replace("%", "%%")
            seen[name] = group.add_argument(
                f"--{name.replace('_', '-')}",
                dest=f"setting:{name}",
                type=_value,
                metavar=node["type"].upper(),
                default=argparse.SUPPRESS,
                help=text,
            )


def settings_from_flags(namespace: argparse.Namespace, model: str) -> dict[str, Any]:
    """Return the full settings of a loss or linear model from parsed flags and defaults."""
    nodes = model_schema(model)
    given = {
        name.removeprefix("setting:"): value
        for name, value in vars(namespace).items()
        if name.startswith("setting:")
    }
    for name, value in given.items():
        if name not in nodes:
            own = nodes if backbone_of(model) == LINEAR else loss_schema(model)
            raise ReclossError(
                f"--{name.replace('_', '-')}: {model} has no such setting; "
                f"its own are: {', '.join(own) or 'none'}"
            )
        check_setting(f"--{name.replace('_', '-')}", nodes[name], value)
    settings = default_settings(model) | given
    check_settings(model, settings, model)
    return settings


def reference_table() -> str:
    """Return every key of the configuration as a Markdown table, generated from the schema."""
    rows = ["| key | values | default | meaning |", "|---|---|---|---|"]

    def allowed(node: dict[str, Any]) -> str:
        if "enum" in node:
            return ", ".join(f"`{value}`" for value in node["enum"])
        kind = " or ".join(_types(node)) or "object"
        limits = {"minimum": "≥", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
        return " ".join(
            [kind, *(f"{sign} {node[key]}" for key, sign in limits.items() if key in node)]
        )

    def add(prefix: str, node: dict[str, Any]) -> None:
        for name, child in node.get("properties", {}).items():
            key = f"{prefix}{name}"
            full = _resolved(child)
            default = (
                f"`{_text(full['default'])}`" if full.get("default") not in (None, "", {}) else ""
            )
            meaning = full["description"].replace("|", r"\|").replace("<", "&lt;")
            rows.append(f"| `{key}` | {allowed(full)} | {default} | {meaning} |")
            if child.get("$ref") == "#/$defs/settings" and prefix:
                add(f"{key}.", {"properties": child.get("properties", {})})
            elif child.get("$ref", "").endswith(("/loss_settings", "/linear_settings")) and prefix:
                continue
            elif full.get("type") == "array" and full["items"].get("type") == "object":
                add(f"{key}[].", full["items"])
            else:
                add(f"{key}.", full)

    add("", schema())
    return "\n".join(rows)


BEGIN, END = (
    "<!-- configuration: begin (python -m recloss.config README.md) -->",
    "<!-- configuration: end -->",
)


def write_reference(readme: str) -> str:
    """Return the README's text with the reference table between its two marks renewed."""
    head, _, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not end:
        raise ReclossError(f"README has no marks for the table; add {BEGIN} and {END}")
    return f"{head}{BEGIN}\n{reference_table()}\n{END}{tail}"


def main() -> None:
    """Renew the README's reference table of the configuration."""
    parser = argparse.ArgumentParser(prog="python -m recloss.config", description=main.__doc__)
    parser.add_argument("readme", type=Path)
    readme = parser.parse_args().readme
    text = write_reference(readme.read_text())
    with atomic(readme) as temporary:
        temporary.write_text(text)


if __name__ == "__main__":
    run_cli(main)
