"""Settings as flags of a command line, and back."""

import argparse
import shlex
from typing import Any

from recloss.experiment.schema import (
    BACKBONE,
    LINEAR,
    backbone_names,
    backbone_of,
    backbone_schema,
    check_setting,
    check_settings,
    default_settings,
    linear_schema,
    loss_names,
    loss_schema,
    model_schema,
    said,
    settings_schema,
    text_of,
    value_of,
)
from recloss.files import ReclossError


def as_flags(settings: dict[str, Any]) -> str:
    """Return settings as the command line of `recloss train`, quoted for a shell."""
    words = []
    for key, value in settings.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{key.replace('_', '-')}", *(shlex.quote(text_of(v)) for v in values)]
    return " ".join(words)


def add_setting_flags(parser: argparse.ArgumentParser, backbone: str = BACKBONE) -> None:
    """Add a flag per setting of the schema; what is not given stays out of the namespace."""
    if backbone == LINEAR:
        groups = {f"settings of {m}": model_schema(m) for m in linear_schema()}
    else:
        groups = {"settings of every loss": settings_schema()}
        groups |= {f"settings of {name}": backbone_schema(name) for name in backbone_names()}
        groups |= {f"settings of {loss}": loss_schema(loss) for loss in loss_names()}
    seen: dict[str, argparse.Action] = {}
    for title, nodes in groups.items():
        group = parser.add_argument_group(title)
        for name, node in nodes.items():
            if name in seen:
                continue
            text = f"{node['description']} (default {text_of(node['default'])})".replace("%", "%%")
            seen[name] = group.add_argument(
                f"--{name.replace('_', '-')}",
                dest=f"setting:{name}",
                type=value_of,
                metavar=node["type"].upper(),
                default=argparse.SUPPRESS,
                help=text,
            )


def settings_from_flags(
    namespace: argparse.Namespace, model: str, backbone: str = BACKBONE
) -> dict[str, Any]:
    """Return all settings of a loss on a backbone, or of a linear model, from parsed flags."""
    nodes = model_schema(model, backbone)
    given = {
        name.removeprefix("setting:"): value
        for name, value in vars(namespace).items()
        if name.startswith("setting:")
    }
    for name, value in given.items():
        if name not in nodes:
            linear = backbone_of(model) == LINEAR
            own = nodes if linear else backbone_schema(backbone) | loss_schema(model)
            raise ReclossError(
                f"--{name.replace('_', '-')}: {said(model, backbone)} has no such setting; "
                f"its own are: {', '.join(own) or 'none'}"
            )
        check_setting(f"--{name.replace('_', '-')}", nodes[name], value)
    settings = default_settings(model, backbone) | given
    check_settings(model, settings, model)
    return settings
