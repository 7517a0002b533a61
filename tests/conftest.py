"""Fixtures, and what CI must have although a user may lack it."""

import contextlib
import importlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, sync_playwright

from recloss.data.interactions import Interactions, Split
from recloss.data.split import split
from recloss.engine import device as dispatch
from recloss.files import ReclossError

REPO = Path(__file__).resolve().parents[1]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # of the backend "cuda"
BACKENDS = ("plain", "cpu", "cuda")

if DEVICE.type == "cpu":  # Triton's kernels run in its interpreter, on CPU tensors
    os.environ["TRITON_INTERPRET"] = "1"


# Whole workflows, minutes of them: by which of two workers begin.
LONG = (
    ("test_cluster", "test_workflow"),
    ("test_docs", "test_slurm", "test_own", "test_bench", "test_shown"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have either of two workers begin with its share of the long tests: none is the last."""
    one, other = ([item for item in items if item.path.stem in files] for files in LONG)
    rest = [item for item in items if item.path.stem not in LONG[0] + LONG[1]]
    half = max(0, len(items) // 2 - len(one))
    items[:] = [*one, *rest[:half], *other, *rest[half:]]


def missing(what: str) -> None:
    """Skip a test for want of something optional; in CI, where all must be there, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}: required in CI", pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder with the real data: $RECLOSS_MIRROR, or ../shared/data beside the checkout."""
    folder = Path(os.environ.get("RECLOSS_MIRROR") or REPO.parent / "shared" / "data")
    if not (folder / "gowalla" / "train.txt").exists():
        missing(f"no data mirror at {folder}")
    return folder


def wait_for(condition: Callable, seconds: float = 30) -> object:
    """Return what a condition gives as soon as that is true of it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def failure(function: Callable, *args: object, **kwargs: object) -> str:
    """Return the message of the `ReclossError` that a call must raise; it must be one line."""
    with pytest.raises(ReclossError) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


@contextlib.contextmanager
def backend(name: str) -> Iterator[torch.device]:
    """Let plain PyTorch, the CPU kernels or the CUDA kernels do the work; yield their device."""
    try:
        module = (
            None if name == "plain" else importlib.import_module(f"recloss.engine.kernels.{name}")
        )
    except ImportError as error:
        missing(f"no {name} kernels: {error}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "_load", lambda device: module)
        yield DEVICE if name == "cuda" else torch.device("cpu")


def interactions(pairs, n_users: int, n_items: int) -> Interactions:
    """Return the distinct (user, item) pairs as `Interactions`."""
    array = np.array(sorted(set(map(tuple, pairs))), dtype=np.int32).reshape(-1, 2)
    return Interactions(array[:, 0].copy(), array[:, 1].copy(), n_users, n_items)


@pytest.fixture(scope="session")
def small_split() -> Split:
    """60 users x 40 items in two tastes: users like items of their own half."""
    rng = np.random.default_rng(0)
    train, test = [], []
    for user in range(60):
        liked = rng.permutation(20)[:10] + 20 * (user % 2)
        train += [(user, item) for item in liked[:7]]
        test += [(user, item) for item in liked[7:]]
    return split(interactions(train, 60, 40), interactions(test, 60, 40), "published")


@pytest.fixture(autouse=True)
def one_thread():
    """The same results on every machine, and no fight for the cores between parallel tests."""
    dispatch.use_threads(1)


@pytest.fixture(scope="session")
def chromium():
    """Debian's Chromium, driven by Playwright."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        missing("Chromium is not installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium):
    """Open files in the browser; at the end nothing may have failed and no request left them."""
    contexts, faults, requests, files = [], [], set(), set()

    def opened(file, width=1280, scheme="light"):
        viewport = {"width": width, "height": 900}
        context = chromium.new_context(viewport=viewport, color_scheme=scheme)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: requests.add(request.url))
        files.add(file.as_uri())
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []
    assert requests == files


def unfold(page: Page) -> None:
    """Open everything that is folded away."""
    for fold in page.locator("main details").all():
        fold.evaluate("fold => { fold.open = true; }")
