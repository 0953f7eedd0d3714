/* The page: theme, filters, selection, and what the address names. */

/* Theme: the system's until the reader chooses; the choice is kept where the browser allows it. */
const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const themeButton = document.getElementById("theme");
const nameTheme = () => themeButton.setAttribute("aria-label", isDark() ? "Use the light theme" : "Use the dark theme");
nameTheme();
themeButton.hidden = false;
themeButton.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  nameTheme();
  try {
    localStorage.setItem("densebench-theme", root.dataset.theme);
  } catch {
    /* It holds until the page is closed. */
  }
});

/* The submissions that are to be compared, in the order in which they were chosen. */
const selection = new Set();
const bar = document.getElementById("selection");
const select = (sid, on) => {
  if (on) selection.add(sid);
  else selection.delete(sid);
  showSelection();
};
const showSelection = () => {
  const rows = [...selection];
  bar.hidden = !rows.length || readAddress().place === "compare";
  if (bar.hidden) return;
  bar.replaceChildren(make("span", {}, `${rows.length} chosen`), rows.length > 1 ? link(address({ place: "compare", rows }), "Compare side by side") : make("span", {}, "Choose another to compare"), action("Clear", () => { selection.clear(); render(); }));
};

const tabs = all("[role=tab]");
const panels = all(".panel");
const page = document.getElementById("view");
const count = document.getElementById("count");
const controls = document.getElementById("filters");
const title = document.title;
let model = null;
let shown = null; /* The address that is drawn. */
let table = ""; /* The address of the table from which a page was reached. */

const trackOf = (place) => model.tracks.find((track) => place === `overall.${track.address}` || track.groups.some((group) => group.id === place));
const isTable = (place) => panels.some((panel) => panel.id === place);
/* The tables that "backbones/TRACK" names, of all tracks where it names none; of other places, no table. */
const backbonesOf = (place) => {
  const id = /^backbones\/(.*)$/s.exec(place)?.[1];
  return model.tracks.filter((track) => id === "" || id === track.id).map((track) => `overall.${track.address}`);
};

const pageFor = (state) => {
  const [, kind, id] = /^(submission|protocol)\/(.*)$/s.exec(state.place) ?? [];
  if (kind === "submission") return submissionPage(model, id);
  if (kind === "protocol") return protocolPage(model, id);
  return state.place === "compare" ? comparePage(model, state, go) : null;
};

/* Show another address: a step of the browser's history, unless it replaces the present one. */
const go = (state, replace = false) => {
  const next = address(state);
  if (next !== location.hash) history[replace ? "replaceState" : "pushState"](null, "", next);
  render(false);
};

/* What is not shown is not in the document. */
const hide = (panel) => {
  panel.classList.remove("shown");
  panel.querySelector("table").replaceChildren();
  panel.querySelector(".more")?.remove();
};

function render(focus = false) {
  shown = location.hash;
  const state = readAddress();
  const article = pageFor(state);
  root.classList.toggle("paged", article !== null);
  page.hidden = article === null;
  controls.hidden = article !== null;
  page.replaceChildren();
  if (article) showPage(article, state, focus);
  else showTables(state);
  showSelection();
}

const showPage = (article, state, focus) => {
  if (state.place === "compare") {
    selection.clear();
    for (const sid of state.rows) if (model.bySid.has(sid)) selection.add(sid);
  }
  page.append(make("p", { class: "back" }, link(table || `#${panels[0].id}`, "← Back to the table")), article);
  panels.forEach(hide);
  count.textContent = "";
  const name = article.querySelector("h2");
  document.title = `${name.textContent}, ${title}`;
  if (!focus) return;
  scrollTo(0, 0);
  name.focus({ preventScroll: true });
};

const showTables = (state) => {
  table = location.hash;
  const backbones = backbonesOf(state.place);
  const several = backbones.length > 0;
  /* A place that is nothing is the first table. */
  if (!several && !isTable(state.place)) state.place = panels[0].id;
  const places = several ? backbones : [state.place];
  const drawn = { shown: 0, total: 0 };
  for (const panel of panels) {
    if (!places.includes(panel.id)) {
      hide(panel);
      continue;
    }
    panel.classList.add("shown");
    const result = fillTable(panel, viewOf(panel.id, state), state, go);
    drawn.shown += result.shown;
    drawn.total += result.total;
    /* Diagrams are of the whole table. */
    for (const diagram of all("figure", panel)) diagram.hidden = isFiltered(state) || state.protocols.length > 0;
  }
  showTabs(state, places, several);
  const track = trackOf(places[0]);
  showFilters(state, track, several);
  count.textContent = drawn.shown === drawn.total ? plural(drawn.total, "row") : `${grouped(drawn.shown)} of ${plural(drawn.total, "row")}`;
  const name = document.getElementById(places[0]).querySelector("h2").textContent.replace(/\s+/g, " ");
  document.title = several ? title : `${name}, ${title}`;
};

/* The tabs of the shown tables' tracks; in each row, one is reached by the Tab key and the others by arrows. */
const showTabs = (state, places, several) => {
  for (const tab of tabs) {
    const id = decoded(tab.hash.slice(1).split("?")[0]);
    const chosen = !several && id === places[0];
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    tab.setAttribute("href", address({ ...state, place: id, sort: "", protocols: [] }));
    tab.closest(".tabrow").hidden = id !== "published" && places[0] !== "published" && !places.some((one) => trackOf(one) === trackOf(id));
    if (chosen) tab.parentElement.scrollLeft = tab.offsetLeft - tab.parentElement.offsetLeft - 40;
  }
  for (const row of all("[role=tablist]")) row.querySelector("[tabindex='0']") ?? (row.querySelector("[role=tab]").tabIndex = 0);
};

const viewOf = (id, state) => {
  if (id === "published") return publishedTable(model, state);
  const track = model.tracks.find((one) => id === `overall.${one.address}`);
  return track ? overallTable(model, track, state) : groupTable(model, model.groups[id], state);
};

/* Filters: selects with the values that occur. */
const option = (value, text, chosen) => {
  const element = make("option", { value }, text);
  element.selected = chosen;
  return element;
};
const field = (name, label, options, chosen, change) => {
  const id = `filter-${name}`;
  const box = make("select", { id }, options.map(([value, text]) => option(value, text, value === chosen)));
  if (!options.some(([value]) => value === chosen)) box.prepend(option(chosen, chosen, true));
  box.addEventListener("change", () => {
    change(box.value);
    document.getElementById(id)?.focus();
  });
  return make("div", { class: "field" }, make("label", { for: id }, label), box);
};
const occurring = (name) => {
  const values = new Set(model.entries.filter((entry) => !entry.random).map((entry) => entry[name]));
  if (name === "data") for (const value of model.published) values.add(value.data);
  const stated = [...values].filter((value) => value !== null).sort();
  return [["", "any"], ...stated.map((value) => [value, value]), ...(values.has(null) ? [["unstated", "not stated"]] : [])];
};
/* At most eight steps of each kind of budget. */
const budgets = () => {
  const steps = (kind) => {
    const values = [...new Set(model.entries.filter((entry) => !entry.random && entry[kind] !== null).map((entry) => entry[kind]))].sort((a, b) => a - b);
    const every = Math.ceil(values.length / 8);
    return values.filter((_, at) => (values.length - 1 - at) % every === 0).map((value) => `${kind}:${value}`);
  };
  return [["", "any"], ...[...steps("views"), ...steps("epochs"), "unstated"].map((value) => [value, budgetText(value)])];
};
const VALUES = [["", "any"], ["measured", "measured"], ["logs", "with logs, or re-run"], ["rerun", "re-run by others"], ["reported", "reported"]];

const showFilters = (state, track, several) => {
  const filter = (name) => (value) => go({ ...state, [name]: value });
  const jump = (find, fallback) => {
    const kind = track && state.place !== `overall.${track.address}` ? model.groups[state.place]?.protocol : null;
    const next = model.tracks.find(find) ?? model.tracks.find(fallback ?? (() => true));
    const same = kind && next.groups.find((group) => group.protocol === kind);
    go({ ...state, place: same ? same.id : `overall.${next.address}`, sort: "", protocols: [] });
  };
  const ids = [...new Set(model.tracks.map((one) => one.id))];
  const here = state.place === "backbones/" ? "*" : track ? track.id : "";
  const architectures = [...new Set(model.tracks.filter((one) => here === "*" || one.id === here).map((one) => one.architecture))];
  const where = [
    field("track", "Track", [...ids.map((id) => [id, id]), ...(ids.length > 1 ? [["*", "all tracks"]] : [])], here, (id) =>
      id === "*" ? go({ ...state, place: "backbones/", sort: "", protocols: [] }) : jump((one) => one.id === id && one.architecture === track?.architecture, (one) => one.id === id)),
    field("backbone", "Backbone", [...architectures.map((name) => [name, name]), ...(architectures.length > 1 || several ? [["*", "all, each by itself"]] : [])], several ? "*" : (track?.architecture ?? ""), (name) =>
      name === "*" ? go({ ...state, place: `backbones/${here === "*" ? "" : here}`, sort: "", protocols: [] }) : jump((one) => one.architecture === name && (here === "*" || one.id === here))),
  ];
  const what = [
    field("data", "Pretrained on", occurring("data"), state.data, filter("data")),
    field("budget", "Budget", budgets(), state.budget, filter("budget")),
    field("license", "License", occurring("license"), state.license, filter("license")),
    field("values", "Values", VALUES, state.values, filter("values")),
  ];
  const choose = !several && track && state.place === `overall.${track.address}` && track.current.length > 1 ? protocolChoice(state, track) : null;
  const active = FILTERS.some((name) => state[name]) || state.protocols.length;
  const focused = document.activeElement?.id;
  controls.querySelector(".fields").replaceChildren(...(track || several ? where : []), ...what, choose ?? "", active ? action("Clear filters", () => go({ ...cleared(state), q: state.q })) : "");
  controls.querySelector("summary").textContent = active ? "Filters (active)" : "Filters";
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  if (search.value !== state.q && document.activeElement !== search) search.value = state.q;
};
const protocolChoice = (state, track) => {
  const box = make("fieldset", { class: "protocols" }, make("legend", {}, "Protocols that count"));
  for (const group of track.current) {
    const id = `protocol-${group.id}`;
    const input = make("input", { type: "checkbox", id });
    input.checked = !state.protocols.length || state.protocols.includes(group.id);
    input.addEventListener("change", () => {
      const chosen = track.current.filter((one) => (one === group ? input.checked : !state.protocols.length || state.protocols.includes(one.id))).map((one) => one.id);
      go({ ...state, protocols: chosen.length === track.current.length ? [] : chosen, sort: "" });
    });
    box.append(make("span", { class: "box" }, input, make("label", { for: id }, ` ${group.label}`)));
  }
  return box;
};

const search = document.getElementById("search");
search.addEventListener("input", () => go({ ...readAddress(), q: search.value }, true));

/* Links within the page: the browser would scroll to the element of that name. */
document.addEventListener("click", (event) => {
  const anchor = event.target.closest?.("a[href^='#']");
  if (!anchor || anchor.classList.contains("skip") || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  if (anchor.hash !== location.hash) history.pushState(null, "", anchor.hash || "#");
  render(true);
});
for (const tab of tabs) {
  tab.setAttribute("aria-controls", decoded(tab.hash.slice(1)));
  tab.addEventListener("keydown", (event) => {
    const row = all("[role=tab]", tab.parentElement);
    const at = row.indexOf(tab);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: row.length - 1, " ": at }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const chosen = row[(next + row.length) % row.length];
    chosen.click();
    chosen.focus();
  });
}
for (const panel of panels) panel.setAttribute("role", "tabpanel");
for (const name of ["popstate", "hashchange"]) {
  addEventListener(name, () => {
    if (location.hash === shown) return;
    search.value = readAddress().q;
    render(true);
  });
}

if (panels.length) {
  model = readModel(embedded("rows"));
  controls.querySelector("details").open = !matchMedia("(max-width: 860px)").matches;
  controls.hidden = false;
  search.value = readAddress().q;
  render();
  root.classList.add("started");
}
