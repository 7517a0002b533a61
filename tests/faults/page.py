"""Write the table of the last results into docs/reliability.md: python tests/faults/page.py."""

import csv
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
RESULTS = Path(__file__).with_name("results.csv")
HEAD = {
    "fault": "fault",
    "tried": "what was tried",
    "moments": "times",
    "bytes": "bytes that differ",
    "seen": "what the user sees",
}


def filled(page, results):
    """Return the page with the table of the results between its marks."""
    rows = list(csv.DictReader(results.read_text("utf-8").splitlines()))
    cells = [[_cell(name, row[name]) for name in HEAD] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in (list(HEAD.values()), ["---"] * len(HEAD), *cells)]
    times = sum(int(row["moments"]) for row in rows)
    differ = sum(int(row["bytes"] or 0) for row in rows)
    said = f"{len(rows)} faults, {times} times in all; bytes that differ: {differ}."
    table = "\n".join([said, "", *lines])
    begin, _, rest = page.partition("<!-- faults -->\n")
    return f"{begin}<!-- faults -->\n\n{table}\n\n<!-- end -->{rest.partition('<!-- end -->')[2]}"


def _cell(name, text):
    shown = text.replace("|", r"\|")
    return f"`{shown}`" if name == "seen" and shown else shown


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8"), RESULTS), "utf-8")
