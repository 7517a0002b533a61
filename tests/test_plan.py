"""The plan refuses what no run can do in one line, and ends in no traceback whatever is asked."""

import psutil
import pytest
import torch
import yaml
from conftest import REPO, failure
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_own import table

from recloss.experiment import config, plan
from recloss.experiment.runs import every_run
from recloss.experiment.schema import model_schema
from recloss.files import ReclossError

TINY = yaml.safe_load((REPO / "tests/config/tiny.yaml").read_text())
QUIET = {"grids": [], "ablations": [], "inflation": {}, "tune": {}}
GB = psutil.virtual_memory().total / 1e9


def planned(tmp_path, here=True, **changes):
    return plan.describe(config.load(TINY | QUIET | changes), tmp_path, here=here)


def refused(tmp_path, **changes):
    return failure(planned, tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"batch_size": 10**9}}, "infonce on tiny needs 32,00"),
        ({"settings": {"dim": 10**12}}, "lower batch_size, negatives or dim"),
        ({"settings": {"negatives_from": "batch", "batch_size": 10**6}}, "needs 40,00"),
        (
            {
                "losses": ["debiased_ccl"],
                "loss_settings": {"debiased_ccl": {"extra_positives": 10**9}},
            },
            "debiased_ccl on tiny needs",
        ),
        (
            {"datasets": [{"name": "wide", "simulate": {"users": 10, "items": 10**6}}]},
            "ease on wide needs 5,201.2 GB of memory",
        ),
        (
            {"datasets": [{"name": "long", "simulate": {"users": 10**9, "items": 10**4}}]},
            "simulating long needs 200,000.0 GB of memory",
        ),
        (
            {"datasets": [{"name": "few", "simulate": {"items": 49, "observed": 3, "prior": 0.2}}]},
            "few has 49 items, fewer than the lists of 50",
        ),
    ],
)
def test_what_is_asked_for_but_impossible_is_refused(changes, message, tmp_path):
    said = refused(tmp_path, **changes)
    assert message in said
    assert "items" in message or f"has {GB:,.1f} GB" in said


def test_negatives_are_not_excluded_where_none_is_left(tmp_path):
    file = table(tmp_path)
    rows = [f"greedy,{item},5,0" for item in range(60)]
    file.write_text(file.read_text() + "\n".join(rows) + "\n")
    own = {"name": "own", "path": str(file), "split": {"by": "balanced"}}
    asked = {"datasets": [own], "losses": ["bpr"], "linear": [], "seeds": [0]}
    few = {"max_epochs": 1, "negatives": 5}
    assert "1 runs to train" in planned(tmp_path, **asked, settings=few)
    counts = plan.counts_of(config.load(TINY | QUIET | asked)["datasets"][0])
    assert counts["most"] < counts["n_items"]  # some of the pairs are the test set
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets/train.csv").write_text(file.read_text())
    missing = next(
        f"u1,{item},5,0" for item in range(60) if f"\nu1,{item}," not in file.read_text()
    )
    (tmp_path / "sets/test.csv").write_text(f"user_id,item_id,rating,timestamp\n{missing}\n")
    own = {"name": "own", "path": str(tmp_path / "sets")}
    said = refused(tmp_path, **asked | {"datasets": [own]}, settings={"exclude_positives": True})
    assert said.startswith("bpr on own: a user has every item")


def test_another_machine_may_hold_what_this_one_cannot(tmp_path):
    size = round(GB * 1e9 / 40 / 16)  # scores of a batch fill all of the memory
    text = planned(tmp_path, here=False, settings={"batch_size": size, "negatives": 16})
    assert "too small to measure it: infonce on tiny" in text
    assert "at most" in text and "ease on tiny" not in text  # what fits is measured


def test_the_plan_refuses_nothing_for_another_data_set_or_for_what_is_done(tmp_path):
    wide = {"name": "wide", "simulate": {"users": 10, "items": 10**6}}
    full = config.load(TINY | QUIET | {"datasets": [*TINY["datasets"], wide]})
    assert "ease on wide needs" in failure(plan.describe, full, tmp_path)
    assert "wide" not in (text := plan.describe(full, tmp_path, only=["tiny"]))
    assert "tiny: " in text
    for run in every_run(full):
        if run.dataset == "wide":
            (tmp_path / run.path).mkdir(parents=True)
            (tmp_path / run.path / "metrics.json").touch()
    assert "wide: 11 training runs, 11 done" in plan.describe(full, tmp_path)


EXTREME = st.sampled_from([0, 1, 2, 7, 1000, 10**7, 10**12, 2**63, 0.5, 1e-300, 1e300])


@st.composite
def extreme(draw):
    """Settings of losses and linear models that the schema allows, however odd."""
    losses = draw(st.lists(st.sampled_from(TINY["losses"]), min_size=1, max_size=2, unique=True))
    chosen = {}
    for model in [*losses, "ials", "ease"]:
        nodes = {k: v for k, v in model_schema(model).items() if k != "deterministic"}
        for name in draw(st.lists(st.sampled_from(sorted(nodes)), max_size=2, unique=True)):
            values = nodes[name].get("enum") or (
                [True, False] if nodes[name]["type"] == "boolean" else None
            )
            chosen.setdefault(model, {})[name] = draw(
                st.sampled_from(values) if values else EXTREME
            )
    linear = {name: chosen.pop(name) for name in ("ials", "ease") if name in chosen}
    return {"losses": losses, "loss_settings": chosen, "linear_settings": linear}


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(extreme())
def test_whatever_the_schema_allows_is_planned_or_refused_in_one_line(tmp_path, changes):
    torch.manual_seed(0)
    try:
        text = planned(tmp_path, **changes)
    except ReclossError as error:
        assert "\n" not in str(error)
        return
    assert text.startswith("Plan of 'tiny'")
