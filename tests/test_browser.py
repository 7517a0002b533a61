"""The report in a real browser: what a reader sees and does, on the page of the reference run."""

import re
from collections import Counter

import html5lib
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import REPO, unfold

from recloss.report.page import render

pytestmark = pytest.mark.browser
GOWALLA = REPO / "results/published/gowalla"
WIDTHS, SCHEMES = (1280, 800, 400), ("light", "dark")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The rendered page of the reference run on Gowalla, as a file."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render(GOWALLA, REPO / "report"), encoding="utf-8")
    return file


@pytest.fixture
def open_page(browse, report):
    """Open the page of the reference run, or another file, as `conftest.browse` does."""
    return lambda width=1280, scheme="light": browse(report, width, scheme)


def column(page, table, name):
    """Return the texts of a column's cells that are shown."""
    heads = page.locator(f"#T_{table} thead tr:last-child th").all_inner_texts()
    cells = page.locator(f"#T_{table} tbody tr:visible td:nth-child({heads.index(name) + 1})")
    return cells.all_inner_texts()


def numbers(texts):
    return [float(text.split()[0]) for text in texts]


def test_it_opens_and_paints_within_a_second(open_page):
    page = open_page()
    assert page.title() == "recloss: gowalla"
    script = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    page.wait_for_function(script)
    assert page.evaluate(script) < 1000
    assert page.locator("#main .panels svg").count() == 2


def test_it_is_valid_html_with_every_id_once(report):
    text = report.read_text(encoding="utf-8")
    html5lib.HTMLParser(strict=True).parse(text)
    ids = Counter(re.findall(r'\sid="([^"]*)"', text))
    assert {name: count for name, count in ids.items() if count > 1} == {}
    targets = set(re.findall(r'href="#([^"]*)"', text))
    assert targets <= set(ids)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_never_scrolls_sideways(open_page, width, scheme):
    page = open_page(width, scheme)
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("nav details").evaluate("fold => fold.open") == (width == 1280)


def test_a_column_sorts_by_its_numbers_by_mouse_and_by_keyboard(open_page):
    page = open_page()
    head = page.locator("#T_models thead th", has_text="NDCG@20")
    head.click()
    falling = numbers(column(page, "models", "NDCG@20"))
    assert falling == sorted(falling, reverse=True)
    head.press("Enter")
    assert numbers(column(page, "models", "NDCG@20")) == falling[::-1]
    assert head.get_attribute("aria-sort") == "ascending"


def test_a_table_is_filtered_by_family_and_by_metric(open_page):
    page = open_page()
    tools = page.locator("#main .tools").first
    everyone = column(page, "models", "model")
    tools.get_by_label("family").select_option("linear")
    assert sorted(column(page, "models", "model")) == ["EASE", "iALS"]
    tools.get_by_label("family").select_option("")
    assert column(page, "models", "model") == everyone
    assert page.locator("#T_models thead th:visible", has_text="Recall@50").count() == 0
    tools.get_by_label("columns").select_option("at 50")
    assert all(value > 0 for value in numbers(column(page, "models", "Recall@50")))
    tools.get_by_label("columns").select_option("cost")
    assert page.locator("#T_models thead th:visible", has_text="peak memory").count() == 1


def test_a_model_opens_its_runs_and_the_keyboard_leaves_them(open_page):
    page = open_page()
    opens = page.locator("#T_models").get_by_role("button", name="MINE+", exact=True)
    opens.press("Enter")
    dialog = page.get_by_role("dialog")
    text = dialog.inner_text()
    assert "MINE+ on Gowalla" in text
    assert dialog.locator("tbody tr").count() == 3  # seeds
    assert dialog.locator("polyline").count() == 3
    metrics = pd.read_csv(GOWALLA / "metrics.csv").set_index("path")
    run = metrics.loc["train/gowalla/mf/mine_plus/base/seed0"]
    assert re.search(r"lambda\s+1\.2", text) and f"hardware\n{run['hardware']}" in text
    command = "snakemake --cores all --configfile results/published/gowalla/config.yaml -- "
    assert f"{command}results/gowalla/train/gowalla/mf/mine_plus/base/seed0/metrics.json" in text
    assert "Log: logs/gowalla/train/gowalla/mf/mine_plus/base/seed0.log" in text
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert opens.evaluate("button => document.activeElement === button")


def test_the_keyboard_alone_opens_a_claim(open_page):
    page = open_page()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.parentElement.id") == "C1":
            break
    page.keyboard.press("Enter")
    assert page.locator("#C1 li").first.is_visible()
    assert "printed +12.6%" in page.locator("#C1").inner_text()


def test_a_link_to_a_claim_unfolds_it(open_page):
    page = open_page()
    page.locator(".lede").get_by_role("link", name="C5").click()
    assert page.locator("#C5 li").first.is_visible()


@pytest.mark.parametrize(
    ("form", "first", "second"),
    [
        ("CSV", "data set,model,family,Recall@20,NDCG@20,seeds", "Gowalla,EASE,linear,0.1765,"),
        ("Markdown", "| data set | model |", "| --- | --- |"),
        ("LaTeX", "\\begin{tabular}{lllrrr}", "\\toprule"),
    ],
)
def test_what_is_shown_of_a_table_is_copied(open_page, form, first, second):
    page = open_page()
    tools = page.locator("#main .tools").first
    tools.get_by_label("family").select_option("linear")
    tools.get_by_role("button", name=form).click()
    tools.get_by_text(f"copied as {form}").wait_for()
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[0].startswith(first) and lines[1].startswith(second)
    rows = [line for line in lines if "EASE" in line or "iALS" in line]
    assert len(rows) == 2


def test_light_and_dark_are_the_systems_until_the_button_says_otherwise(open_page):
    background = "getComputedStyle(document.body).backgroundColor"
    bar = "getComputedStyle(document.querySelector('#main svg path[style*=\"listwise\"]')).fill"
    page = open_page(scheme="dark")
    dark = page.evaluate(background), page.evaluate(bar)
    page.get_by_role("button", name="Light").click()
    light = page.evaluate(background), page.evaluate(bar)
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] != light[0] and dark[1] != light[1]
    assert open_page(scheme="light").evaluate(background) == light[0]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_serious(open_page, scheme):
    page = open_page(scheme=scheme)
    unfold(page)
    found = Axe().run(page).response["violations"]
    serious = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    assert [(fault["id"], fault["nodes"][0]["html"][:200]) for fault in serious] == []


def test_it_prints(open_page):
    page = open_page()
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page\n") >= 3
