/* The tables of values: columns, filters, and the rows that are drawn. Only the first rows are in the document. */
const MOST_DRAWN = 100;

const budgetText = (budget) => {
  const [kind, value] = budget.split(":");
  return kind === "unstated" ? "not stated" : kind === "views" ? `at most ${grouped(value)} image views` : `at most ${grouped(value)} epochs`;
};
const LEVELS = ["self-reported", "logs", "re-run"];
const CHECKED = { logs: 1, rerun: 2 };

/* Whether the filters admit what an entry or a published value says of its pretraining. */
const admitsFacts = (facts, state) => {
  const said = (name) => state[name] === "" || (facts[name] ?? "unstated") === state[name];
  if (!said("data") || !said("license")) return false;
  if (state.budget === "") return true;
  const [kind, value] = state.budget.split(":");
  if (kind === "unstated") return facts.views === null && facts.epochs === null;
  return facts[kind] !== null && facts[kind] !== undefined && facts[kind] <= Number(value);
};
/* Random initialization has no pretraining to filter: it stays, as the zero of the score. */
const admits = (entry, state) => entry.random || admitsFacts(entry, state);
const admitsCell = (cell, state) => admits(cell.entry, state) && cell.check >= (CHECKED[state.values] ?? 0) && state.values !== "reported";
const found = (words, state) => state.q.toLowerCase().split(/\s+/).filter(Boolean).every((word) => words.includes(word));
const isFiltered = (state) => FILTERS.some((name) => state[name] !== "");

/* What a value's interval is over, where it is not that of most of the table. */
const figure = (one, source) => {
  if (one.mean === null) return [make("span", { class: "failed" }, "failed")];
  const reach = half(one);
  return [
    fixed(one.mean),
    reach === null ? null : make("span", { class: "half" }, ` ± ${fixed(reach)}`),
    source ? " " : null, source ? make("span", { class: "interval" }, source) : null,
  ];
};
const copiesText = (cell) => (cell.copies ? `copies of ${cell.copies} of ${cell.copiesOf} test images among the pretraining images` : null);
const nothing = () => make("span", { class: "missing" }, "–");
const ranksText = (cell) => (cell.best === null ? "–" : cell.best === cell.worst ? String(cell.best) : `${cell.best}–${cell.worst}`);
const ends = (one) => (one === null ? [null, null] : (interval(one) ?? [null, null]));

/* What the values of a row are over if that is several pretraining runs or random networks ("3 networks"), or null. */
const severalOf = (cells) => {
  const counts = cells.map((cell) => [Number(/^(\d+) (?:pretraining runs|networks)$/.exec(cell?.over)?.[1]), cell?.over]);
  return counts.reduce((one, other) => (other[0] > one[0] ? other : one), [1, null])[1];
};
const nameCell = ({ entry, cells = null, ...cell }) => {
  const several = severalOf(cells ?? [cell]);
  return make("th", { scope: "row", class: "name" }, link(pageOf("submission", entry.sid), entry.label),
    make("span", { class: "method" }, entry.method, several ? [" ", make("span", { class: "runs" }, `· ${several}`)] : null));
};
const selectCell = (entry) => {
  const box = make("input", { type: "checkbox", "aria-label": `Compare ${entry.label}` });
  box.checked = selection.has(entry.sid);
  box.addEventListener("change", () => select(entry.sid, box.checked));
  return make("td", { class: "select" }, box);
};
const SELECT = { key: "select", label: "", kind: null, cls: "select", cell: (row) => selectCell(row.entry), csv: [] };
const NAME = {
  key: "name", label: "Submission", kind: "text", cls: "name", value: (row) => row.entry.label.toLowerCase(), cell: nameCell,
  csv: [["submission", (row) => row.entry.label], ["method", (row) => row.entry.method], ["architecture", (row) => row.entry.architecture]],
};
const FACTS = [
  ["pretraining_data", (row) => row.entry.data], ["pretraining_epochs", (row) => row.entry.epochs],
  ["pretraining_image_views", (row) => row.entry.views], ["license", (row) => row.entry.license],
];

/* The overall table of a track: `groups` are the protocols that count. */
const overallTable = (model, track, state) => {
  const chosen = track.current.filter((group) => state.protocols.includes(group.id));
  const groups = chosen.length ? chosen : track.current;
  const ranked = isFiltered(state) || groups.length < track.current.length;
  let [rows, total] = [track.standings, track.protocols];
  if (ranked) {
    const cells = new Map(groups.map((group) => [group, rankCells(group, group.cells.filter((cell) => admitsCell(cell, state)))]));
    ({ rows, total } = rankStandings(track, groups, cells));
  }
  const scale = scaleOf(rows.map((row) => row.score).filter((score) => score !== null));
  const columns = [
    SELECT,
    { key: "place", label: "#", kind: "rank", cls: "rank", first: true, value: (row) => row.place, cell: (row) => make("td", { class: "rank" }, String(row.place)), csv: [["place", (row) => row.place]] },
    NAME,
    {
      key: "rank", label: "Mean rank", kind: "rank", cls: "num", value: (row) => row.meanRank,
      cell: (row) => make("td", { class: "num figure" }, row.meanRank === null ? null : fixed(row.meanRank),
        row.meanRank !== null && row.low !== null ? [" ", make("span", { class: "interval" }, span([row.low, row.high]))] : null,
        row.count < total ? [" ", make("span", { class: "missing" }, `${total - row.count} missing`)] : null),
      csv: [["mean_rank", (row) => row.meanRank], ["mean_rank_low", (row) => row.low], ["mean_rank_high", (row) => row.high]],
    },
    {
      key: "score", label: "Score", kind: "number", cls: "fig", value: (row) => row.score?.mean ?? null,
      cell: (row) => make("td", { class: "fig figure" }, row.score === null ? nothing() : [make("span", { class: "text" }, figure(row.score)), mark(row.score, scale, 0)]),
      csv: [["overall_score", (row) => row.score?.mean], ["overall_score_low", (row) => ends(row.score)[0]], ["overall_score_high", (row) => ends(row.score)[1]]],
    },
    { key: "tier", label: "Tier", kind: "rank", cls: "num", value: (row) => row.tier, cell: (row) => make("td", { class: "num" }, row.tier === null ? "–" : String(row.tier)), csv: [["overall_tier", (row) => row.tier]] },
    ...groups.map((group, at) => ({
      key: group.id, label: group.label, unit: group.headline, kind: "number", cls: "num", href: pageOf("protocol", group.id),
      value: (row) => row.cells[at]?.mean ?? null,
      cell: (row) => protocolCell(row.cells[at], [track.usual, severalOf(row.cells)]),
      csv: [[`${group.id} ${group.headline}`, (row) => row.cells[at]?.mean], [`${group.id} low`, (row) => ends(row.cells[at])[0]], [`${group.id} high`, (row) => ends(row.cells[at])[1]]],
    })),
    { key: "facts", hidden: true, csv: FACTS },
  ];
  return { columns, rows, all: track.standings.length, ranked, unpaired: ranked && !groups.every((one) => one.paired), tierOf: (row) => row.tier };
};
/* The marks beside a value: some of its runs failed (†), copies of its test images were pretrained on (‡). */
const marks = (cell) => [
  cell.failed && cell.mean !== null ? make("span", { class: "flag", title: `${cell.failed} of ${cell.n + cell.failed} runs failed` }, "†") : null,
  cell.copies ? make("span", { class: "flag", title: copiesText(cell) }, "‡") : null,
];
/* `told` holds what a value's interval may be over without being said beside it. */
const protocolCell = (cell, told) =>
  cell === null
    ? make("td", { class: "num figure" }, nothing())
    : make("td", { class: `num figure${cell.leads ? " leads" : ""}` }, figure(cell, told.includes(cell.over) ? null : cell.over), marks(cell));

/* A protocol's table, with the values that others report under the same protocol below it. */
const groupTable = (model, group, state) => {
  const ranked = isFiltered(state);
  const rows = ranked ? rankCells(group, group.cells.filter((cell) => admitsCell(cell, state))) : group.cells;
  const scale = scaleOf(rows.filter((cell) => cell.mean !== null));
  const columns = [
    SELECT,
    { key: "rank", label: "Rank", kind: "rank", cls: "rank", first: true, value: (cell) => cell.position, cell: (cell) => make("td", { class: "rank" }, cell.position === null ? "–" : ranksText(cell)), csv: [["rank", (cell) => cell.position], ["rank_best", (cell) => cell.best], ["rank_worst", (cell) => cell.worst]] },
    NAME,
    {
      key: "value", label: group.headline, unit: "%", kind: "number", cls: "fig", value: (cell) => cell.mean,
      cell: (cell) => make("td", { class: "fig figure" },
        make("span", { class: "text" }, figure(cell, cell.over), cell.failed ? [" ", make("span", { class: "flag" }, `${cell.failed} of ${cell.n + cell.failed} failed`)] : null,
          cell.copies ? [" ", make("span", { class: "flag" }, copiesText(cell))] : null),
        cell.mean === null ? null : mark(cell, scale, group.anchor)),
      csv: [[group.headline, (cell) => cell.mean], ["ci95_low", (cell) => ends(cell)[0]], ["ci95_high", (cell) => ends(cell)[1]], ["interval_over", (cell) => cell.over]],
    },
    { key: "tier", label: "Tier", kind: "rank", cls: "num", value: (cell) => cell.tier, cell: (cell) => make("td", { class: "num" }, cell.tier === null ? "–" : String(cell.tier)), csv: [["tier", (cell) => cell.tier]] },
    { key: "images", label: "Images ±", kind: "number", cls: "num", value: (cell) => cell.imagesHalf, cell: (cell) => make("td", { class: "num" }, cell.imagesHalf === null ? "–" : fixed(cell.imagesHalf)), csv: [["images_half", (cell) => cell.imagesHalf]] },
    { key: "runs", label: "Runs", kind: "number", cls: "num", value: (cell) => cell.n, cell: (cell) => make("td", { class: "num" }, String(cell.n), cell.check ? [" ", make("span", { class: "interval" }, LEVELS[cell.check])] : null), csv: [["finished", (cell) => cell.n], ["failed", (cell) => cell.failed], ["test_copies", (cell) => cell.copies], ["checked", (cell) => LEVELS[cell.check]]] },
    {
      key: "score", label: "Score", kind: "number", cls: "num", value: (cell) => cell.score?.mean ?? null, cell: (cell) => make("td", { class: "num" }, cell.score === null ? "–" : figure(cell.score)),
      csv: [["score", (cell) => cell.score?.mean], ["score_low", (cell) => ends(cell.score)[0]], ["score_high", (cell) => ends(cell.score)[1]]],
    },
    ...group.metrics.map((name, at) => ({
      key: `metric:${name}`, label: name, unit: "%", kind: "number", cls: "num", value: (cell) => cell.metrics[at],
      cell: (cell) => make("td", { class: "num" }, cell.metrics[at] === null ? "–" : fixed(cell.metrics[at])), csv: [[name, (cell) => cell.metrics[at]]],
    })),
    { key: "data", label: "Pretrained on", kind: "text", cls: "data", value: (cell) => cell.entry.data, cell: (cell) => dataCell(cell.entry), csv: FACTS },
  ];
  const reported = state.values === "" || state.values === "reported" ? reportedRows(model, group, state) : [];
  return { columns, rows, all: group.cells.length, ranked, unpaired: ranked && !group.paired, tierOf: (cell) => cell.tier, reported };
};
const dataCell = (entry) =>
  make("td", { class: "data" }, entry.random ? "nothing" : entry.data || "–", entry.epochs !== null && !entry.random ? make("span", { class: "method" }, `${entry.epochs} epochs`) : null);

/* Values that others report under the group's protocol with its backbone. */
const reportedRows = (model, group, state) => model.published.filter((value) => value.protocol === group.protocol && value.architecture === group.architecture && admitsReported(value, state));
const admitsReported = (value, state) => admitsFacts({ data: value.data, license: null, views: null, epochs: value.epochs }, state) && found(value.words, state);
const reportedRow = (value, columns) => {
  const cells = { name: make("th", { scope: "row", class: "name" }, value.method, make("span", { class: "method" }, sourceLink(value.source))), value: make("td", { class: "fig figure" }, make("span", { class: "text" }, value.value, " ", make("span", { class: "interval" }, value.metric))), data: dataCell(value) };
  return make("tr", { class: "reported" }, columns.map(({ key }) => cells[key] ?? make("td")));
};

const publishedTable = (model, state) => {
  const text = (key, label, cls, name = key) => ({ key, label, kind: "text", cls, value: (row) => row[name]?.toLowerCase() ?? null, cell: (row) => make("td", { class: cls }, row[name] ?? "–"), csv: [[name, (row) => row[name]]] });
  const columns = [
    { ...text("protocol", "Protocol", ""), first: true, cell: (row) => make("th", { scope: "row", title: row.about }, row.protocol) },
    text("metric", "Metric", ""), text("method", "Method", ""), text("backbone", "Backbone", "", "architecture"), text("data", "Pretrained on", ""),
    { key: "epochs", label: "Epochs", kind: "number", cls: "num", value: (row) => row.epochs, cell: (row) => make("td", { class: "num" }, row.epochs === null ? "–" : String(row.epochs)), csv: [["epochs", (row) => row.epochs]] },
    { key: "value", label: "Value", unit: "%", kind: "number", cls: "num", value: (row) => Number(row.value), cell: (row) => make("td", { class: "num" }, row.value), csv: [["value", (row) => row.value]] },
    { key: "runs", label: "Runs", kind: "number", cls: "num", value: (row) => row.runs, cell: (row) => make("td", { class: "num" }, row.runs === null ? "–" : String(row.runs)), csv: [["runs", (row) => row.runs]] },
    { ...text("source", "Source", "source"), cell: (row) => make("td", { class: "source" }, sourceLink(row.source)) },
  ];
  const rows = state.values === "" || state.values === "reported" ? model.published.filter((value) => admitsReported(value, { ...state, q: "" })) : [];
  return { columns, rows, all: model.published.length, ranked: false, unpaired: false, words: (row) => row.words, tierOf: () => null };
};

/* Sorting: values from the highest, words and ranks from the first; what is missing stays at the end. */
const sorting = (state, columns) => {
  const key = state.sort.replace(/^-/, "");
  const column = columns.find((one) => one.key === key && one.kind);
  if (column) return { column, sign: state.sort.startsWith("-") ? -1 : 1 };
  return { column: columns.find((one) => one.first), sign: 1, usual: true };
};
const sorted = (rows, { column, sign, usual }) => {
  if (usual && column.kind === "rank") return rows;
  const keyed = rows.map((row) => [column.value(row) ?? null, row]);
  const compare = (a, b) => (typeof a === "string" ? (a < b ? -1 : Number(a > b)) : a - b);
  keyed.sort(([a], [b]) => (a === null ? (b === null ? 0 : 1) : b === null ? -1 : sign * compare(a, b)));
  return keyed.map(([, row]) => row);
};

/* Fill a panel's table; `go` shows another address. */
const fillTable = (panel, view, state, go) => {
  const columns = view.columns.filter((column) => !column.hidden);
  const order = sorting(state, columns);
  const words = view.words ?? ((row) => row.entry.words);
  const rows = sorted(state.q.trim() ? view.rows.filter((row) => found(words(row), state)) : view.rows, order);
  const next = (column) => {
    if (column === order.column) return order.sign > 0 ? `-${column.key}` : column.key;
    return column.kind === "number" ? `-${column.key}` : column.key;
  };
  const head = columns.map((column) => {
    if (!column.kind) return make("td", { class: column.cls });
    const button = make("button", { type: "button", class: "sort" }, column.label, column.unit ? [" ", make("span", { class: "unit" }, column.unit)] : null, make("span", { class: "arrow", "aria-hidden": "true" }));
    button.dataset.key = column.key;
    button.addEventListener("click", () => go({ ...state, sort: next(column) }));
    return heading(button, { class: column.cls || null, "aria-sort": column === order.column ? (order.sign > 0 ? "ascending" : "descending") : null });
  });
  const body = make("tbody");
  const more = make("div", { class: "more" });
  const table = panel.querySelector("table");
  const append = (count) => {
    const at = body.rows.length;
    rows.slice(at, at + count).forEach((row, i) => {
      const before = rows[at + i - 1];
      const tier = order.usual && before && view.tierOf(row) !== view.tierOf(before);
      const kinds = [row.entry?.random ? "random" : "", row.leads ? "leads" : "", row.tier === 1 ? "ties" : "", tier ? "newtier" : ""].filter(Boolean).join(" ");
      body.append(make("tr", { class: kinds || null }, columns.map((column) => column.cell(row))));
    });
    const left = rows.length - body.rows.length;
    more.replaceChildren(...[
      left > 0 ? `The first ${grouped(body.rows.length)} of ${grouped(rows.length)} rows.` : null,
      left > 0 ? action(`Show ${grouped(Math.min(left, MOST_DRAWN))} more`, () => append(MOST_DRAWN)) : null,
      left > MOST_DRAWN ? action(`Show all ${grouped(rows.length)}`, () => append(left)) : null,
      rows.length ? action(`Download ${rows.length === 1 ? "this row" : `these ${grouped(rows.length)} rows`} as CSV`, () => download(`densebench-${panel.id}.csv`, tableCsv(view.columns, rows))) : null,
    ].filter(Boolean));
  };
  append(MOST_DRAWN);
  const bodies = [body];
  if (!rows.length) body.append(make("tr", {}, make("td", { class: "empty", colspan: columns.length }, emptyText(state, view), " ", action("Clear search and filters", () => go(cleared(state))))));
  if (view.reported?.length) {
    bodies.push(make("tbody", { class: "literature" }, make("tr", {}, make("th", { scope: "rowgroup", colspan: columns.length }, "Reported by others under this protocol: not measured here and not ranked")), view.reported.map((value) => reportedRow(value, columns))));
  }
  const focused = table.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  table.replaceChildren(make("thead", {}, make("tr", {}, head)), ...bodies);
  if (focused) table.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  panel.querySelector(".more")?.remove();
  panel.querySelector(".scroll").after(more);
  const notes = [];
  if (view.ranked) notes.push(`Ranks, tiers and scores are those among the ${grouped(view.rows.length)} of ${grouped(view.all)} rows and the protocols that the filters leave.`);
  if (view.unpaired) notes.push("With so many rows on the same images, the differences are tested without pairing images, so that fewer are found.");
  panel.querySelector(".filtered")?.remove();
  if (notes.length) panel.querySelector(".scroll").before(make("p", { class: "state filtered" }, notes.join(" ")));
  return { shown: rows.length, total: view.all };
};
const tableCsv = (columns, rows) => {
  const fields = columns.flatMap((column) => column.csv);
  return csvText([fields.map(([name]) => name), ...rows.map((row) => fields.map(([, value]) => value(row) ?? null))]);
};
const emptyText = (state, view) => {
  if (!view.all) return "No results yet.";
  if (state.values === "reported") return "Nothing here was only reported: values of papers stand in the table “Published values”.";
  return state.q.trim() ? `No row matches “${state.q.trim()}”${isFiltered(state) ? " and the filters" : ""}.` : "No row passes the filters.";
};
const action = (label, act) => {
  const button = make("button", { type: "button", class: "action" }, label);
  button.addEventListener("click", act);
  return button;
};
const cleared = (state) => ({ place: state.place, sort: state.sort, data: "", budget: "", license: "", values: "", q: "", protocols: [], rows: [] });
