"""The schema of the configuration (schema.yaml): what keys, losses and settings there are.

It is the only place where keys are described and defaults stand.
"""

import functools
import json
import math
import warnings
from pathlib import Path
from typing import Any

import yaml

from recloss.files import ReclossError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # safe both; in C, where libyaml is

# The rules of a class prior (`data.prior`) and the parameter that each takes.
PRIOR_RULES = {"more": "k", "share": "alpha", "constant": "tau", "truth": None}
LARGEST = 1e15  # of a setting: every kind of number that it may become holds it
BACKBONE = "mf"  # that of the papers
LINEAR = "linear"
CONTROL = "control"


@functools.cache
def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of the configuration."""
    return yaml.load(Path(__file__).with_name("schema.yaml").read_text("utf-8"), _LOADER)  # noqa: S506


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """Return a schema node with its `$ref` merged in; its own keywords win."""
    if "$ref" not in node:
        return node
    target = resolved(schema()["$defs"][node["$ref"].removeprefix("#/$defs/")])
    own = {key: value for key, value in node.items() if key != "$ref"}
    return target | own | {"properties": target.get("properties", {}) | own.get("properties", {})}


def settings_schema() -> dict[str, dict[str, Any]]:
    """Return the schema of every setting that all losses share, by name."""
    return schema()["$defs"]["settings"]["properties"]


def loss_schema(loss: str) -> dict[str, dict[str, Any]]:
    """Return the schema of the settings that `loss` has of its own, by name."""
    own = schema()["$defs"]["loss_settings"]["properties"][loss].get("properties", {})
    return {name: resolved(node) for name, node in own.items()}


def linear_schema() -> dict[str, dict[str, Any]]:
    """Return the schema of the linear models, by name."""
    return schema()["$defs"]["linear_settings"]["properties"]


def backbone_names() -> list[str]:
    """Return the backbones that the schema knows, in its order."""
    return list(schema()["$defs"]["backbone_settings"]["properties"])


def backbone_schema(backbone: str) -> dict[str, dict[str, Any]]:
    """Return the schema of the settings that `backbone` has of its own, by name."""
    own = schema()["$defs"]["backbone_settings"]["properties"][backbone]["properties"]
    return {name: resolved(node) for name, node in own.items() if name != "loss_settings"}


def backbone_of(model: str, backbone: str = BACKBONE) -> str:
    """Return `linear` for a linear model, else the backbone that a loss trains."""
    return LINEAR if model in linear_schema() else backbone


def said(model: str, backbone: str) -> str:
    """Return how a fault names a model: with the backbone where that is not the papers'."""
    return model if backbone_of(model, backbone) in (LINEAR, BACKBONE) else f"{model} on {backbone}"


def model_schema(model: str, backbone: str = BACKBONE) -> dict[str, dict[str, Any]]:
    """Return the schema of every setting of a loss on a backbone or of a linear model, by name."""
    if backbone_of(model) == LINEAR:
        return linear_schema()[model]["properties"]
    return settings_schema() | backbone_schema(backbone) | loss_schema(model)


def simulation_defaults() -> dict[str, Any]:
    """Return the parameters of the simulated data set where nothing else is said."""
    nodes = schema()["properties"]["datasets"]["items"]["properties"]["simulate"]["properties"]
    return {name: node["default"] for name, node in nodes.items()}


def default_settings(model: str, backbone: str = BACKBONE) -> dict[str, Any]:
    """Return the schema's defaults of every setting of a loss on a backbone or a linear model."""
    return {name: node["default"] for name, node in model_schema(model, backbone).items()}


def loss_names() -> list[str]:
    """Return the losses that the schema knows, in its order."""
    return list(schema()["$defs"]["loss_settings"]["properties"])


def types_of(node: dict[str, Any]) -> list[str]:
    """Return the types that a schema node allows."""
    kinds = node.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


def place(path: Any, key: str | None = None) -> str:
    """Write a key's path as in `datasets[0].settings.dim`, in one line whatever the keys are."""
    parts = [*path, *([key] if key else [])]
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    shown = text.lstrip(".") or "(top level)"
    return shown if shown.isprintable() else ascii(shown)


def unknown_keys(error: Any) -> list[str] | None:
    """Return the keys that a schema node does not know; None if the error is about another thing.

    A bad value below a `$ref` also makes jsonschema call its neighbours unevaluated: then the list
    is empty, and the error says nothing of its own.
    """
    if error.validator not in ("additionalProperties", "unevaluatedProperties"):
        return None
    if error.validator_value is not False:
        return None
    return [key for key in error.instance if key not in resolved(error.schema)["properties"]]


def explain(error: Any) -> str:
    """Say in one line which key is wrong and what it may be."""
    where = place(error.absolute_path)
    if unknown := unknown_keys(error):
        allowed = ", ".join(resolved(error.schema)["properties"])
        where = shortened(place(error.absolute_path, unknown[0]))
        return f"{where}: unknown key; allowed: {allowed}"
    if error.validator == "enum":
        allowed = ", ".join(map(str, error.validator_value))
        return f"{where}: {shortened(repr(error.instance))} is not allowed; allowed: {allowed}"
    if error.validator == "pattern":
        own = error.validator_value == schema()["$defs"]["label"]["pattern"]
        fine = r"any but line breaks, $, {, } and \\" if own else "letters, digits, - and _"
        return f"{where}: {shortened(repr(error.instance))} is no name; characters may be: {fine}"
    return f"{where}: {shortened(error.message)}"


def shortened(text: str) -> str:
    """Return a text whose middle is left out if it would fill the screen."""
    return text if len(text) <= 300 else f"{text[:150]} ... {text[-100:]}"


def check_setting(where: str, node: dict[str, Any], value: Any) -> None:
    """Refuse a value that the schema of its setting does not allow."""
    import jsonschema  # not before a value is given: it takes as long as the rest

    error = next(jsonschema.Draft202012Validator(node).iter_errors(value), None)
    if error is not None:
        raise ReclossError(f"{where}: {explain(error).removeprefix('(top level): ')}")


def check_settings(loss: str, settings: dict[str, Any], where: str) -> None:
    """Refuse combinations that cannot train.

    With lambda != 1 a common shift of all scores changes the loss without bound, so that inner
    products run away unless something holds them (arXiv 2312.08520; see `losses`).
    """
    for name, value in settings.items():
        if isinstance(value, float | int) and abs(value) > LARGEST:
            raise ReclossError(
                f"{where}: {name} {value} is too large a number; use one below {LARGEST:g}"
            )
    unbounded = loss in ("infonce_plus", "mine_plus") and settings["lambda"] != 1
    if unbounded and settings["score"] == "dot":
        fault = f"{where}: lambda {settings['lambda']} with score dot is unbounded"
        if settings["l2"] == 0:
            raise ReclossError(f"{fault}; use score cosine, lambda 1, or l2 above 0")
        warnings.warn(f"{fault}: only a strong l2 holds it", stacklevel=2)
    if settings.get("negatives_from") == "batch":
        check_in_batch(settings, where)
    elif settings.get("mask_same", "none") != "none":
        raise ReclossError(
            f"{where}: mask_same {settings['mask_same']} is for negatives of the batch; use "
            "negatives_from batch, or exclude_positives"
        )
    if settings.get("correct_logq") and settings["exclude_positives"]:
        raise ReclossError(
            f"{where}: correct_logq needs one proposal q for all users, exclude_positives "
            "makes one per user; use one of the two"
        )
    if "prior" in settings:
        check_prior(settings["prior"], where)


def check_in_batch(settings: dict[str, Any], where: str) -> None:
    """Refuse what has no meaning for negatives that are the items of the batch's other pairs."""
    fault = f"{where}: negatives_from batch"
    if settings["exclude_positives"]:
        raise ReclossError(f"{fault} draws nothing again: exclude_positives false, or mask_same")
    if settings["negative_exponent"]:
        raise ReclossError(f"{fault} takes items as pairs come: use negative_exponent 0")
    if settings["batch_size"] == 1:
        raise ReclossError(f"{fault}: a pair alone has no negative; use batch_size 2 or more")


def check_prior(prior: dict[str, Any], where: str) -> None:
    """Refuse a prior whose rule and parameter do not fit."""
    needed = PRIOR_RULES[prior["rule"]]
    given = [key for key in prior if key != "rule"]
    if given != ([needed] if needed else []):
        takes = f"takes {needed}" if needed else "takes nothing else"
        raise ReclossError(
            f"{where}: prior: rule {prior['rule']} {takes}; it has {', '.join(given) or 'nothing'}"
        )


def text_of(value: Any) -> str:
    """Return a setting as a flag's text, which `value_of` reads."""
    if isinstance(value, dict):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def label_of(value: Any) -> Any:
    """Return a setting as metrics.csv and a variant's name have it: a prior as `more-k5`."""
    if not isinstance(value, dict):
        return value
    return "-".join(f"{'' if key == 'rule' else key}{entry}" for key, entry in value.items())


def value_of(text: str) -> Any:
    """Return a flag's value: what JSON makes of it, a number as `plain`; else the text itself."""
    try:
        return plain(json.loads(text))
    except (ValueError, RecursionError):
        return text


def plain(value: Any) -> Any:
    """Return a value with every number in its one form, 64 for 64.0; dicts and lists within too.

    Equal settings are then one setting, one path and one variant. NaN and infinity are a
    `ValueError`.
    """
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no finite number")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    return value
