"""The report: one HTML file that needs neither network nor the files beside it."""

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from pandas.io.formats.style import Styler

import recloss
from recloss.analysis.names import header, name_of
from recloss.experiment.schema import label_of
from recloss.report import look, tables
from recloss.report.board import css_class, icon
from recloss.report.items import RULES, Item, rows_of
from recloss.report.runs import embedded, folder_name
from recloss.report.sections import SECTIONS, Report, Section


def render(results: Path, template: Path) -> str:
    """Return the report as HTML.

    results: a folder with config.yaml, metrics.csv, history.csv and tables/*.csv; template: that
    with page.html.j2, its sections, style and script.
    """
    report = Report(results)
    jinja, exhibits = environment(template), Exhibits(report)
    jinja.globals |= {"table": exhibits.table, "figure": exhibits.figure}
    jinja.globals |= {"origin": exhibits.origin, "config": report.config, "items": report.items}
    found = ((section, section.data(report)) for section in order(report))
    there = [(section, data) for section, data in found if data is not None]
    bodies = [
        (section, jinja.get_template(f"sections/{section.name}.html.j2").render(data))
        for section, data in there
    ]
    said = {section.name: data for section, data in there}
    return jinja.get_template("page.html.j2").render(
        bodies=bodies,
        said=said,
        own=report.own,
        made=said["provenance"]["made"],
        styles="\n".join(exhibits.styles),
        runs=_script(embedded(report)),
        version=recloss.__version__,
    )


def order(report: Report) -> list[Section]:
    """Return the sections; who has data of their own asks first which loss to use."""
    first = ("summary", "claims") if report.own else ("claims", "summary")
    return sorted(SECTIONS, key=lambda s: first.index(s.name) if s.name in first else len(first))


class Exhibits:
    """The tables and figures of a report as HTML, and where each of them comes from."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.styles: list[str] = []  # of tables, for the head of the page
        folder = report.folder / "seconds"
        self.seconds: dict[str, float] = {}
        for path in sorted(folder.glob("*.json")):
            self.seconds |= json.loads(path.read_text("utf-8"))

    def table(self, name: str, display: Styler | None = None) -> Markup:
        """Return an item's table, or a display of that name."""
        if display is None:
            item = self.report.items[name]
            display = item.table(rows_of(self.report, name))
        return table_html(name, display, self.styles)

    def figure(self, name: str, label: str) -> Markup:
        """Return an item's panels; label: what is read out, beside the panel's title."""
        item = self.report.items[name]
        panels = item.figure(rows_of(self.report, name))
        said = [html.escape(f"{label}. {panel.title}.", quote=True) for panel in panels]
        drawn = (look.inline(*pair) for pair in zip(panels, said, strict=True))
        return Markup("\n".join(drawn))

    def origin(self, name: str) -> dict[str, Any]:
        """Return where an item comes from: rule, script, inputs, settings, files, command."""
        item: Item = self.report.items[name]
        folder, rule = folder_name(self.report), RULES[item.rule]
        there = [f"tables/{name}.{kind}" for kind in ("csv", "html", "tex") if item.table]
        there += [f"figures/{name}.svg"] if item.figure else []
        keys = list(item.keys)
        values = {key: self.report.config[key] for key in keys if key in self.report.config}
        for grid in self.report.config["grids"]:
            if name == f"grid_{grid['name']}":
                values["grids"] = [grid]
        run = f"results/{self.report.config['run']}"
        target = f"{run}/{there[0]}"
        return {
            "rule": item.rule,
            "script": f"workflow/scripts/{rule.script}",
            "inputs": rule.inputs,
            "values": values,
            "files": [f"{run}/{file}" for file in there],
            "command": f"snakemake --cores all --configfile {folder}/config.yaml -- {target}",
            "seconds": self.seconds.get(name),
        }


def table_html(name: str, display: Styler, styles: list[str]) -> Markup:
    """Return a table as HTML with the id `T_NAME`; its style, for the head, goes to `styles`."""
    text = tables.readable(display).set_uuid(name).to_html()
    style = re.search(r"<style.*?>\n?(.*?)</style>", text, re.S)
    if style and style[1].strip():
        styles.append(style[1].strip())
    return Markup(_lean(re.sub(r"<style.*?</style>\n?", "", text, flags=re.S)))


def _lean(text: str) -> str:
    """Return a Styler's table with what the page needs: scopes, and which columns are text."""
    words = set()  # columns with a cell that is no number

    def bare(content: str) -> str:
        return html.unescape(re.sub("<.*?>", "", content)).strip()

    def cell(match: re.Match[str]) -> str:
        tag, attributes, content = match.groups()
        kept = re.findall(r"\b(?:col\d+|family-\w+)\b", attributes)
        if words.intersection(kept):
            kept.append("text")
        parts = "".join(re.findall(r' (?:id|title|colspan|rowspan)="[^"]*"', attributes))
        parts += f' class="{" ".join(kept)}"' if kept else ""
        if opens := re.search(r"run:([^\s\"]*)", attributes):
            parts += f' data-run="{opens[1]}"'
        if tag == "th" and "row_heading" in attributes:
            parts += ' scope="row"'
        elif tag == "th" and "blank" in attributes and not bare(content):
            tag = "td"
        elif tag == "th":
            parts += ' scope="col"'
        return f"<{tag}{parts}>{content}</{tag}>"

    for attributes, content in re.findall(r"<td\b([^>]*)>(.*?)</td>", text, re.S):
        if bare(content) and not re.match(r"[-+−±]?[\d.]", bare(content)):
            words.update(re.findall(r"\bcol\d+\b", attributes))
    return re.sub(r"<(t[hd])\b([^>]*)>(.*?)</t[hd]>", cell, text, flags=re.S)


def _script(value: Any) -> Markup:
    """Return JSON as it may stand within a <script> element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c"))


def environment(template: Path | Sequence[Path]) -> jinja2.Environment:
    """Return what renders the pages of a folder, or of several, searched in turn."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"svg": _svg, "name": name_of, "header": header, "label": label_of}
    found.filters |= {"icon": icon, "css_class": css_class}
    return found


def _svg(path: str | Path) -> str:
    """Return the <svg> element of a file, without the XML head that HTML does not allow."""
    text = Path(path).read_text("utf-8")
    return text[text.index("<svg") :]
