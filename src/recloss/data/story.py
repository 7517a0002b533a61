"""How a data set came from its files, in words."""

from typing import Any


def story(source: dict[str, Any]) -> str:
    """Say how a data set came from its files, from `source` of its manifest; or nothing."""
    counts = dict(source.get("counts", {}))
    if not counts:
        return ""
    columns = ", ".join(f"{role} {name}" for role, name in source.get("columns", {}).items())
    said = [f"{counts.pop('rows'):,} rows ({source['format']}{'; ' if columns else ''}{columns})"]
    if "at_least" in source:
        said.append(f"liked are ratings of {source['at_least']:g} and more")
    said += [f"{count:,} {what}" for what, count in counts.items() if count]
    if split := source.get("split"):
        share = "" if split["by"] == "leave_one_out" else f" of {split['test_share']:g}"
        said.append(f"test set by {split['by'].replace('_', ' ')}{share}")
    return "; ".join(said) + "."
