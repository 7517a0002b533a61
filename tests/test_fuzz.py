"""Any edit of a valid configuration is accepted or refused in one line."""

import copy

import pytest
import yaml
from conftest import REPO
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recloss.experiment import config
from recloss.experiment.runs import every_run, studies
from recloss.files import ReclossError

FILES = ["config.yaml", "config/demo.yaml", "config/more.yaml", "tests/config/tiny.yaml"]
WHOLE = [
    {
        **yaml.safe_load((REPO / "config.yaml").read_text()),
        **yaml.safe_load((REPO / name).read_text()),
    }
    for name in FILES
]
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([0, 1, -1, 64.0, 1e3, float("nan"), float("inf"), 2**63, 1e300, "", "nan"])
    | st.text(max_size=20)
    | st.dates()
)
keys = st.text(max_size=8) | st.integers() | st.none() | st.booleans()
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


def places(node, path=()):
    """Yield the path of everything in a configuration."""
    yield path
    if isinstance(node, dict):
        for key, entry in node.items():
            yield from places(entry, (*path, key))
    if isinstance(node, list):
        for index, entry in enumerate(node):
            yield from places(entry, (*path, index))


def at(node, path):
    """Return what lies at a path of a configuration."""
    for key in path:
        node = node[key]
    return node


@st.composite
def edited(draw):
    """A configuration in which one to three things are replaced, removed or added."""
    raw = copy.deepcopy(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from([path for path in places(raw) if path]))
        node = at(raw, path)
        edit = draw(st.sampled_from(["replace", "remove", "add", "move"]))
        if edit == "remove":
            del node[last]
        elif edit == "add" and isinstance(node, dict):
            node[draw(keys)] = draw(anything)
        elif edit == "move":
            node[last] = copy.deepcopy(at(raw, draw(st.sampled_from(list(places(raw))))))
        else:
            node[last] = draw(anything)
    return raw


@pytest.mark.filterwarnings("ignore:.*is unbounded")
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(edited())
def test_any_edit_is_accepted_or_refused_in_one_line(raw):
    try:
        full = config.load(raw)
    except ReclossError as error:
        assert "\n" not in str(error)
        return
    paths = [run.path for run in [*every_run(full), *studies(full)]]
    assert all(".." not in path.split("/") and path.isprintable() for path in paths)
    assert config.load(full) == full
