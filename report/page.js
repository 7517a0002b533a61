"use strict";
// What a reader does with the page: sort, filter, copy, open runs. Without it all is there to read.
const make = (tag, attributes = {}, ...content) => {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...content);
  return element;
};
const text = (cell) => cell.textContent.trim();
const numberOf = (said) => parseFloat(said.replace(/−/g, "-").replace(/,/g, ""));

// ---- theme: that of the system until the button says otherwise
const root = document.documentElement;
const theme = document.getElementById("theme");
const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const label = () => { theme.textContent = dark() ? "Light" : "Dark"; };
theme.hidden = false;
theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; label(); });
label();

// ---- contents: folded on narrow screens, the section in view marked
const contents = document.querySelector("nav details");
const narrow = matchMedia("(max-width: 68rem)");
const fold = () => { contents.open = !narrow.matches; };
if (contents) {
  narrow.addEventListener("change", fold);
  fold();
}
const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    links.forEach((a) => a.removeAttribute("aria-current"));
    links.get(target.id).setAttribute("aria-current", "true");
  }
}, { rootMargin: "-10% 0px -80% 0px" });
links.forEach((_, id) => seen.observe(document.getElementById(id)));

// A link to what is folded away unfolds it.
const unfold = () => {
  const target = document.getElementById(location.hash.slice(1));
  for (let e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
  target?.scrollIntoView();
};
addEventListener("hashchange", unfold);
if (location.hash) unfold();

// ---- runs, embedded
const runs = JSON.parse(document.getElementById("runs-data")?.textContent ?? "null");
const dialog = document.getElementById("run");

// ---- tables
Tablesort.extend("number", (item) => /^[-+−]?[\d.]/.test(item), (a, b) => (numberOf(b) || 0) - (numberOf(a) || 0));
const FILTERED = ["data set", "dataset", "model", "loss", "family", "metric", "claim", "verdict", "protocol", "variant", "source"];

const rowsOf = (table) => [...table.tBodies[0].rows];
const hide = (cells, hidden) => cells.forEach((cell) => { cell.hidden = hidden; });

function filters(table, tools) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const chosen = new Map();
  const apply = () => rowsOf(table).forEach((row) => {
    row.hidden = [...chosen].some(([column, value]) => value && text(row.cells[column]) !== value);
  });
  heads.forEach((head, column) => {
    if (!FILTERED.includes(text(head)) || rowsOf(table).length < 6) return;
    const values = [...new Set(rowsOf(table).map((row) => text(row.cells[column])))].filter(Boolean);
    if (values.length < 2 || values.length > 40) return;
    const select = make("select", {}, make("option", { value: "" }, "all"), ...values.map((v) => make("option", { value: v }, v)));
    select.addEventListener("change", () => { chosen.set(column, select.value); apply(); });
    tools.append(make("label", {}, `${text(head)} `, select));
  });
}

function groups(table, tools) {
  if (!table.dataset.groups) return;
  const found = Object.entries(JSON.parse(table.dataset.groups)).filter(([, columns]) => columns.length);
  const show = (name) => found.forEach(([group, columns]) => columns.forEach((column) => {
    hide([...table.rows].map((row) => row.cells[column]), name !== "" && group !== name);
  }));
  const select = make("select", {}, ...found.map(([name]) => make("option", { value: name }, name)), make("option", { value: "" }, "all columns"));
  select.addEventListener("change", () => show(select.value));
  show(found[0][0]);
  tools.append(make("label", {}, "columns ", select));
}

const WRITTEN = {
  CSV: (rows) => rows.map((row) => row.map((c) => (/[",\n]/.test(c) ? `"${c.replace(/"/g, '""')}"` : c)).join(",")).join("\n"),
  Markdown: ([head, ...rows]) => [head, head.map(() => "---"), ...rows].map((row) => `| ${row.map((c) => c.replace(/\|/g, "\\|")).join(" | ")} |`).join("\n"),
  LaTeX: ([head, ...rows]) => {
    const tex = (c) => c.replace(/[\\&%$#_{}~^]/g, (s) => ({ "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" }[s] ?? `\\${s}`)).replace(/±/g, "$\\pm$").replace(/−/g, "$-$");
    const line = (row) => `${row.map(tex).join(" & ")} \\\\`;
    const sides = (rows[0] ?? head).map((c) => (Number.isNaN(numberOf(c)) ? "l" : "r")).join("");
    return [`\\begin{tabular}{${sides}}`, "\\toprule", line(head), "\\midrule", ...rows.map(line), "\\bottomrule", "\\end{tabular}"].join("\n");
  },
};

async function toClipboard(said) {
  try { await navigator.clipboard.writeText(said); } catch {
    const area = make("textarea", { value: said });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

function copies(table, tools) {
  const said = make("span", { className: "quiet", role: "status" });
  const buttons = Object.entries(WRITTEN).map(([format, write]) => {
    const button = make("button", { type: "button" }, format);
    button.addEventListener("click", async () => {
      const shown = [...table.rows].filter((row) => !row.hidden && !(row.parentElement === table.tHead && row !== table.tHead.rows[table.tHead.rows.length - 1]));
      await toClipboard(write(shown.map((row) => [...row.cells].filter((c) => !c.hidden).map(text))));
      said.textContent = `copied as ${format}`;
    });
    return button;
  });
  tools.append(make("span", { className: "copy" }, said, "copy as", ...buttons));
}

for (const box of document.querySelectorAll(".table")) {
  const table = box.querySelector("table");
  if (!table?.tBodies.length || !table.tHead) continue;
  const tools = make("div", { className: "tools" });
  filters(table, tools);
  groups(table, tools);
  copies(table, tools);
  box.prepend(tools);
  for (const cell of table.tBodies[0].querySelectorAll("td.text")) {
    if (text(cell).length < 90) continue;
    cell.replaceChildren(make("span", { title: "Click to see it whole or cut" }, ...cell.childNodes));
    cell.classList.add("long");
    cell.addEventListener("click", () => cell.classList.toggle("whole"));
  }
  new Tablesort(table, { descending: true });
  for (const cell of table.querySelectorAll("[data-run]")) {
    const button = make("button", { type: "button", className: "opens" }, ...cell.childNodes);
    button.addEventListener("click", () => open(cell.dataset.run));
    if (runs.models[cell.dataset.run]) cell.replaceChildren(button);
    else cell.append(...button.childNodes);
  }
}

// ---- the dialog of runs
function curve(model) {
  const lines = model.runs.map((run) => run.curve).filter((points) => points.length > 1);
  if (!lines.length) return "";
  const all = lines.flat();
  const [right, top] = [Math.max(...all.map((p) => p[0])), Math.max(...all.map((p) => p[1]))];
  const bottom = Math.min(...all.map((p) => p[1]));
  const [x, y] = [(e) => 40 + (540 * e) / right, (v) => 170 - (150 * (v - bottom)) / (top - bottom || 1)];
  const paths = lines.map((points) => `<polyline fill="none" stroke="var(--${model.family})" stroke-width="1.6" points="${points.map(([e, v]) => `${x(e).toFixed(1)},${y(v).toFixed(1)}`).join(" ")}"/>`);
  const words = (at, v) => `<text x="0" y="${at}" font-size="11" fill="var(--quiet)">${v.toFixed(3)}</text>`;
  return `<svg viewBox="0 0 600 200" role="img" aria-label="Recall@20 by epoch, a line per seed">${words(24, top)}${words(174, bottom)}` +
    `<line x1="40" x2="580" y1="175" y2="175" stroke="var(--line)"/>${paths.join("")}` +
    `<text x="580" y="194" font-size="11" text-anchor="end" fill="var(--quiet)">epoch ${right}</text></svg>`;
}

function pairs(values, className = "") {
  return make("dl", { className }, ...Object.entries(values).map(([key, value]) => make("div", {}, make("dt", {}, key), make("dd", {}, String(value)))));
}

function open(key) {
  const model = runs.models[key];
  const close = make("button", { type: "button", className: "close" }, "Close");
  close.addEventListener("click", () => dialog.close());
  const table = make("table");
  const head = table.createTHead().insertRow();
  ["seed", ...runs.columns].forEach((name) => head.append(make("th", { scope: "col" }, name)));
  const body = table.createTBody();
  for (const run of model.runs) {
    const row = body.insertRow();
    [run.seed, ...run.values].forEach((value) => row.append(make("td", {}, String(value))));
  }
  const drawn = make("div");
  drawn.innerHTML = curve(model);
  const command = `snakemake --cores all --configfile ${runs.folder}/config.yaml -- ${model.runs.map((run) => `results/${runs.run}/${run.path}/metrics.json`).join(" ")}`;
  const copy = make("button", { type: "button" }, "Copy");
  copy.addEventListener("click", () => toClipboard(command));
  dialog.firstElementChild.replaceChildren(
    close,
    make("h2", { id: "run-title" }, `${model.model} on ${model.dataset}`),
    make("p", { className: "quiet" }, `variant ${model.variant}, protocol ${model.protocol}`),
    make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Runs" }, table),
    drawn,
    make("h3", {}, "Settings"), pairs(runs.settings[model.settings], "many"),
    make("h3", {}, "Made again by"), make("pre", { tabIndex: 0 }, command), copy,
    make("p", { className: "quiet" }, `Log: logs/${runs.run}/${model.runs[0].path}.log`),
    make("h3", {}, "Made with"),
    ...[...new Set(model.runs.map((run) => run.made))].map((index) => pairs(runs.made[index])),
  );
  dialog.showModal();
}
dialog?.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
