"""The page of what was tried."""

from page import PAGE, RESULTS, filled


def test_the_page_has_the_last_results_and_nothing_differed():
    text = PAGE.read_text("utf-8")
    assert text == filled(text, RESULTS), "run: make faults"
    assert "; bytes that differ: 0." in text
