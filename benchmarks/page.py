"""What the measurements say: their ratios, and the page that shows both."""

import math
from pathlib import Path
from typing import Any

import recloss
from benchmarks.ials import IALS_DIMS
from benchmarks.race import LOSS, SHAPES
from recloss.losses import LOSSES
from recloss.report.page import environment

HERE = Path(__file__).parent


def summary(parts: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the ratios of measured parts, name to record; of what was not measured, nothing."""

    def median(part: str, **wanted: Any) -> float:
        rows = parts[part]["rows"] if part in parts else []
        found = [row["seconds"]["median"] for row in rows if wanted.items() <= row.items()]
        return found[0] if found else math.nan

    def step_ratios(device: str, one: str, other: str) -> list[float]:
        return [
            median("step", device=device, tables=tables, name=one)
            / median("step", device=device, tables=tables, name=other)
            for tables in SHAPES
        ]

    def field_over_ours(part: str, device: str) -> float:
        field, ours = (median(part, device=device, name=name) for name in ("field", "ours"))
        return field / ours

    def evaluation_ratio(device: str) -> float:
        ours, product = (
            median("evaluation", device=device, name=name) for name in ("ours", "product")
        )
        return ours / product

    rows = parts["step"]["rows"] if "step" in parts else []
    candidates = {
        "cpu_step_vs_field": step_ratios("cpu", "field", "ours"),
        "cpu_step_vs_tuned_torch": step_ratios("cpu", "tuned", "ours"),
        "cuda_step_vs_field": step_ratios("cuda", "field", "ours"),
        "cuda_step_over_floor": step_ratios("cuda", "ours", "floor"),
        "cpu_in_batch_step_vs_field": [field_over_ours("in_batch", "cpu")],
        "cuda_in_batch_step_vs_field": [field_over_ours("in_batch", "cuda")],
        "peak_extra_mb": [row["peak_extra_mb"] for row in rows if row.get("peak_extra_mb")],
        "eval_over_matmul_cpu": [evaluation_ratio("cpu")],
        "eval_over_matmul_cuda": [evaluation_ratio("cuda")],
        "slowest_loss_over_mine_plus": [
            median("losses", device=device, name=loss) / median("losses", device=device, name=LOSS)
            for device in ("cpu", "cuda")
            for loss in LOSSES
        ],
        "ials_over_irspack": [
            median("ials", name="ours", dim=dim) / median("ials", name="irspack", dim=dim)
            for dim in IALS_DIMS
        ],
        "first_step_seconds_cpu": [median("startup", device="cpu")],
        "lightgcn_step_vs_field": [
            field_over_ours("lightgcn", device) for device in ("cpu", "cuda")
        ],
        "propagation_over_floor": [
            median("propagation", device=device, name="ours")
            / median("propagation", device=device, name=floor)
            for device in ("cpu", "cuda")
            for floor in ("floor, memory", "floor, cache")
        ],
    }
    ratios = {}
    for name, values in candidates.items():
        measured = [value for value in values if not math.isnan(value)]
        if measured:  # of several shapes or devices, the worst
            ratios[name] = round((min if "_vs_" in name else max)(measured), 3)
    return ratios


def render_bench(ratios: dict[str, float], parts: dict[str, dict[str, Any]], growth: Path) -> str:
    """Return bench.html: the ratios of `summary` and the rows they come from.

    parts: the records of `python -m benchmarks`, by name, and of the peers if measured; growth:
    path of the figure.
    """
    folders = [HERE, HERE.parent / "report"]  # of the template, and of the style sheet
    page = environment(folders).get_template("bench.html.j2")
    return page.render(ratios=ratios, parts=parts, growth=growth, version=recloss.__version__)
