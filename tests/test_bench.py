"""The benchmarks: what they measure is real, what they conclude follows."""

import argparse
import ast
import re

import pytest
import torch
from conftest import REPO

from benchmarks import gowalla, graph, ials, in_batch, page, race, variation
from benchmarks.__main__ import PARTS
from recloss.experiment import plan
from recloss.files import ReclossError
from recloss.report import figures, look

TINY = {"n_users": 60, "n_items": 40, "n_train": 420}


@pytest.fixture
def arguments(tmp_path, small_split, monkeypatch):
    """Small shapes, and the small data set in Gowalla's place."""
    for name, value in {"batch_size": 32, "negatives": 8, "dim": 4}.items():
        monkeypatch.setitem(race.SETTINGS, name, value)
    monkeypatch.setattr(in_batch, "BATCH", 32)
    for changes in (graph.LIGHTGCN, gowalla.PEER_WORK[-1][2]):
        monkeypatch.setitem(changes, "batch_size", 32)
    growth = {"negatives": (4, 8), "dim": (4, 20), "interactions": (100, 200)}
    monkeypatch.setattr(variation, "GROWTH", growth)
    for module in (ials, page):
        monkeypatch.setattr(module, "IALS_DIMS", (4,))
    monkeypatch.setattr(plan, "counts_of", lambda dataset: TINY)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, pairs in (("train", small_split.train), ("test", small_split.test)):
        first = pairs.indptr()
        lines = [
            " ".join(map(str, [user, *pairs.items[first[user] : first[user + 1]]]))
            for user in range(pairs.n_users)
        ]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return argparse.Namespace(data=tmp_path, rounds=2, threads=1, part="")


def test_every_part_is_measured_and_shown(arguments, tmp_path):
    about = {"hardware": "a machine", "threads": 1, "versions": {"torch": "2"}, "commit": "abc"}
    parts = {}
    for name, part in PARTS.items():
        rows = part(arguments)
        assert all(row["seconds"]["median"] > 0 for row in rows)
        parts[name] = about | {"settings": race.SETTINGS, "rows": rows}
    ratios = page.summary(parts)
    expected = {
        "cpu_step_vs_field",
        "cpu_step_vs_tuned_torch",
        "cpu_in_batch_step_vs_field",
        "peak_extra_mb",
        "eval_over_matmul_cpu",
        "slowest_loss_over_mine_plus",
        "ials_over_irspack",
        "first_step_seconds_cpu",
        "lightgcn_step_vs_field",
        "propagation_over_floor",
    }
    assert set(ratios) | {"peak_extra_mb"} == expected  # a step this small may take no new page
    figure = tmp_path / "growth.svg"
    look.save(figures.growth_curves(parts["growth"]["rows"]), figure)
    html = page.render_bench(ratios, parts, figure)
    assert (
        f"{ratios['cpu_step_vs_field']:.1f}×" in html
        or f"{ratios['cpu_step_vs_field']:.2f}×" in html
    )
    assert html.count("<code>debiased_ccl</code>") == 1


def rows(part, **medians):
    device, tables = "cuda", "gowalla"
    return [
        {"device": device, "tables": tables, "name": name, "seconds": {"median": median}}
        for name, median in medians.items()
    ]


def test_ratios_are_those_of_medians_and_only_of_what_was_measured():
    slow = [row | {"tables": "amazon-book"} for row in rows("step", ours=2, field=10, floor=1)]
    step = rows("step", ours=1, field=15, tuned=4, floor=0.9)
    step[0]["peak_extra_mb"] = 31.5
    losses = [row | {"tables": "x"} for row in rows("losses", mine_plus=2, bpr=3, ccl=1)]
    parts = {"step": {"rows": step + slow}, "losses": {"rows": losses}}
    assert page.summary(parts) == {
        "cuda_step_vs_field": 5.0,  # the worse of 15 and 5
        "cuda_step_over_floor": 2.0,
        "peak_extra_mb": 31.5,
        "slowest_loss_over_mine_plus": 1.5,
    }


def test_the_spread_is_median_and_quartiles():
    assert race.spread([5.0, 1.0, 2.0, 3.0, 4.0]) == {
        "median": 3.0,
        "low": 2.0,
        "high": 4.0,
        "rounds": 5,
    }


def test_gowalla_is_asked_for_where_it_is_needed(arguments):
    arguments.data, arguments.part = None, "evaluation"
    with pytest.raises(ReclossError, match="the part evaluation needs --data"):
        gowalla.evaluation(arguments)


def test_the_workflow_measures_every_part():
    text = (REPO / "workflow" / "rules" / "common.smk").read_text()
    assert ast.literal_eval(re.search(r"BENCHMARKS = (\[[^]]*\])", text)[1]) == list(PARTS)
