"""The page that describes every key of the configuration, generated from its schema."""

from typing import Any

from recloss.experiment.schema import resolved, schema, text_of, types_of

HEAD = """\
# Configuration

<!-- Written by `recloss reference docs/configuration.md` from the schema. -->

`config.yaml` is the papers' experiment. A file given by `--configfile` is laid over it, and single
keys by `--config key=value`. It holds the science only: what belongs to the machine stands in
[profiles](running.md). A wrong key or value is refused with its path and what it may be, before
anything runs.

A setting of a run comes from these places, each winning over those before it: `settings`, the data
set's `settings`, the defaults of the backbone and of the loss, `loss_settings`, the data set's
`loss_settings`, `backbone_settings`, the `loss_settings` in these, the data set's
`backbone_settings` and the `loss_settings` in these, `tuned`. What stands in `settings` may stand
in `loss_settings` of one loss or in `backbone_settings` of one backbone, too. YAML wants
`1.0e-4` where one writes 1e-4; both are taken.
"""


# Described once, where they stand at the top.
ELSEWHERE = [f"#/$defs/{of}_settings" for of in ("loss", "backbone", "linear")]


def reference_table() -> str:
    """Return every key of the configuration as a Markdown table, generated from the schema."""
    rows = ["| key | values | default | meaning |", "|---|---|---|---|"]

    def allowed(node: dict[str, Any]) -> str:
        if "enum" in node:
            return ", ".join(f"`{value}`" for value in node["enum"])
        kind = " or ".join(types_of(node)) or "object"
        limits = {"minimum": "≥", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
        return " ".join(
            [kind, *(f"{sign} {node[key]}" for key, sign in limits.items() if key in node)]
        )

    def add(prefix: str, node: dict[str, Any]) -> None:
        for name, child in node.get("properties", {}).items():
            key = f"{prefix}{name}"
            full = resolved(child)
            default = (
                f"`{text_of(full['default'])}`" if full.get("default") not in (None, "", {}) else ""
            )
            meaning = full["description"].replace("|", r"\|").replace("<", "&lt;")
            rows.append(f"| `{key}` | {allowed(full)} | {default} | {meaning} |")
            if child.get("$ref") == "#/$defs/settings" and prefix:
                add(f"{key}.", {"properties": child.get("properties", {})})
            elif child.get("$ref") in ELSEWHERE and prefix:
                continue
            elif full.get("type") == "array" and full["items"].get("type") == "object":
                add(f"{key}[].", full["items"])
            else:
                add(f"{key}.", full)

    add("", schema())
    return "\n".join(rows)


def page() -> str:
    """Return docs/configuration.md."""
    return f"{HEAD}\n{reference_table()}\n"
