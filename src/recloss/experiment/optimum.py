"""The optimum: which value of a setting is best, and how that moves with one cause at a time."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from recloss.files import ReclossError


class Level(NamedTuple):
    """A cause at one of its levels: the points of a grid on a data set, some settings fixed."""

    cause: str
    value: Any
    dataset: str
    grid: dict[str, Any]
    fixed: dict[str, Any]


def levels(config: dict[str, Any]) -> Iterator[Level]:
    """Yield the levels of every cause, in the order of the configuration; none without any.

    What a cause does not name is the first: data set, grid.
    """
    grids = {grid["name"]: grid for grid in config["grids"]}
    first = next(iter(config["datasets"]))["name"]
    for cause in config.get("optimum", {}).get("causes", []):
        base = grids[cause.get("grid", next(iter(grids)))]
        for dataset, value in cause.get("datasets", {}).items():
            yield Level(cause["name"], value, dataset, base, {})
        for grid, value in cause.get("grids", {}).items():
            yield Level(cause["name"], value, first, grids[grid], {})
        if key := cause.get("setting"):
            for value in base["over"][key]:
                yield Level(cause["name"], value, first, base, {key: value})


def check(config: dict[str, Any]) -> None:
    """Refuse an optimum over what is not run."""
    if "optimum" not in config:
        return
    over, grids = config["optimum"]["over"], {grid["name"]: grid for grid in config["grids"]}
    if not grids:
        raise ReclossError("configuration: optimum: there are no grids to put together; add one")
    for index, cause in enumerate(config["optimum"]["causes"]):
        where, first = f"configuration: optimum.causes[{index}]", next(iter(grids))
        for name in [*cause.get("grids", {}), cause.get("grid", first)]:
            if name not in grids:
                raise ReclossError(f"{where}: no grid {name!r}; known: {', '.join(grids)}")
        varied = [key for key in grids[cause.get("grid", first)]["over"] if key != over]
        if "setting" in cause and cause["setting"] not in varied:
            known = ", ".join(varied) or "none"
            raise ReclossError(f"{where}.setting: not varied beside {over}; known: {known}")
    for level in levels(config):
        where, name = f"configuration: optimum, {level.cause} {level.value}", level.grid["name"]
        values = level.grid["over"].get(over, [None])
        if not all(isinstance(value, int | float) for value in values):
            raise ReclossError(f"{where}: grid {name} has no numbers of {over}; vary it there")
        if level.dataset not in level.grid["datasets"]:
            raise ReclossError(f"{where}: grid {name} is not run on {level.dataset}; add it there")
        if len(level.grid["loss"]) * len(level.grid["backbones"]) > 1:
            raise ReclossError(f"{where}: grid {name} has several models; keep one")
