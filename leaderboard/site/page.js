"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, scope = document) => Array.from(scope.querySelectorAll(selector));

  /* Texts of strangers only ever become text nodes. */
  const make = (tag, className, ...children) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children.filter((child) => child !== null));
    return element;
  };

  /* Theme: the system's until the reader chooses; the choice is kept where the browser allows it. */
  const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const theme = document.getElementById("theme");
  const label = () => theme.setAttribute("aria-label", isDark() ? "Use the light theme" : "Use the dark theme");
  label();
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
    try {
      localStorage.setItem("densebench-theme", root.dataset.theme);
    } catch {
      /* It holds until the page is closed. */
    }
  });

  const tabs = all("[role=tab]");
  if (!tabs.length) return;

  /* Tabs: links without script, tabs with it; the address names the open one. */
  const panels = all(".panel");
  const show = (id, focus) => {
    const chosen = tabs.find((tab) => tab.hash.slice(1) === id) || tabs[0];
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
    }
    for (const panel of panels) panel.classList.toggle("shown", panel.id === chosen.hash.slice(1));
    chosen.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (focus) chosen.focus();
    search();
  };
  /* The name in the address; one that is no text ("#%") names nothing. */
  const named = () => {
    try {
      return decodeURIComponent(location.hash.slice(1));
    } catch {
      return "";
    }
  };
  const go = (tab, focus) => {
    history.replaceState(null, "", tab.hash);
    show(tab.hash.slice(1), focus);
  };
  for (const tab of tabs) {
    tab.setAttribute("aria-controls", tab.hash.slice(1));
    tab.addEventListener("click", (event) => {
      event.preventDefault();
      go(tab, false);
    });
    tab.addEventListener("keydown", (event) => {
      const row = all("[role=tab]", tab.parentElement);
      const at = row.indexOf(tab);
      const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: row.length - 1 }[event.key];
      if (event.key === " ") go(tab, true);
      else if (next !== undefined) go(row[(next + row.length) % row.length], true);
      else return;
      event.preventDefault();
    });
  }
  for (const panel of panels) panel.setAttribute("role", "tabpanel");
  addEventListener("hashchange", () => show(named(), false));

  /* Search: every word must occur in a row's name, method, backbone or data. */
  const input = document.getElementById("search");
  const count = document.getElementById("count");
  const rows = all("tbody tr").map((row) => {
    row.classList.add("row");
    return { row, text: row.dataset.text.toLowerCase(), panel: row.closest(".panel") };
  });
  const closeDetails = (row) => {
    if (!row.nextElementSibling?.classList.contains("details")) return;
    row.nextElementSibling.remove();
    row.querySelector(".open").setAttribute("aria-expanded", "false");
  };
  function search() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    let total = 0;
    for (const { row, text, panel } of rows) {
      const hit = words.every((word) => text.includes(word));
      if (!hit) closeDetails(row);
      row.hidden = !hit;
      if (panel.classList.contains("shown")) {
        total += 1;
        shown += hit;
      }
    }
    count.textContent = words.length ? `${shown} of ${total}` : "";
  }
  document.querySelector(".find").hidden = false;
  input.addEventListener("input", search);

  /* Sorting: figures from the highest, words and ranks from the first; what is missing stays at the end. */
  const valueOf = (row, column, kind) => {
    const cell = row.cells[column];
    if (kind === "text") return (cell.querySelector(".open") || cell).textContent.trim().toLowerCase() || null;
    const figure = parseFloat(cell.dataset.value ?? cell.textContent);
    return Number.isNaN(figure) ? null : figure;
  };
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en") : a - b);
  for (const button of all(".sort")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const body = head.closest("table").tBodies[0];
      const kind = button.dataset.kind;
      const before = head.getAttribute("aria-sort");
      const direction = before ? (before === "ascending" ? "descending" : "ascending") : kind === "number" ? "descending" : "ascending";
      for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", direction);
      const list = all(":scope > tr.row", body);
      list.forEach(closeDetails);
      const keyed = list.map((row) => [valueOf(row, head.cellIndex, kind), row]);
      const sign = direction === "ascending" ? 1 : -1;
      keyed.sort(([a], [b]) => (a === null ? (b === null ? 0 : 1) : b === null ? -1 : sign * compare(a, b)));
      body.append(...keyed.map(([, row]) => row));
    });
  }

  /* Provenance: read and built when the first row is opened. No object has inherited keys: a stranger's name may be
     that of one ("constructor"). */
  const bare = (key, value) => (value !== null && typeof value === "object" && !Array.isArray(value) ? Object.assign(Object.create(null), value) : value);
  let read = null;
  const provenance = () => (read ??= JSON.parse(document.getElementById("data").textContent, bare));
  const number = (value, decimals = 2) => (value === null || value === undefined ? "–" : value.toFixed(decimals));
  const grouped = (value) => (value === null || value === undefined ? null : String(value).replace(/\B(?=(\d{3})+$)/g, "\u2009"));
  const list = (title, pairs) => {
    const dl = make("dl", "");
    for (const [term, value, className] of pairs) {
      if (value === null || value === undefined || value === "") continue;
      dl.append(make("dt", "", term), make("dd", className || "", String(value)));
    }
    return dl.children.length ? make("section", "", make("h3", "", title), dl) : null;
  };
  const heading = (text, className) => {
    const th = make("th", className, text);
    th.scope = "col";
    return th;
  };
  /* Wider than a phone: the keyboard scrolls it when it has the focus. */
  const scrolling = (title, table) => {
    const region = make("div", "scroll", table);
    region.tabIndex = 0;
    region.setAttribute("role", "region");
    region.setAttribute("aria-label", title);
    return region;
  };
  const distinct = (values) => Array.from(new Set(values.filter((value) => value !== null && value !== undefined && value !== ""))).join(", ");

  const runTable = (group, cell) => {
    const headline = group.protocol.headline;
    const names = [headline];
    for (const run of cell.runs) for (const name of Object.keys(run.metrics)) if (!names.includes(name)) names.push(name);
    const several = new Set(cell.runs.map((run) => run.checkpoint)).size > 1;
    const head = make("tr", "", ...(several ? [heading("Checkpoint", "")] : []), heading("Seed", ""), ...names.map((name) => heading(name, "num")), heading("Time, s", "num"), heading("Memory, MiB", "num"), heading("Finished", ""), heading("Result", ""));
    const body = make("tbody", "");
    for (const run of cell.runs) {
      const seed = make("th", "", String(run.seed));
      seed.scope = "row";
      const line = make("tr", "", ...(several ? [make("td", "", run.checkpoint)] : []), seed);
      if (run.failure) {
        const why = make("td", "failed", `failed: ${run.failure}`);
        why.colSpan = names.length;
        line.append(why);
      } else {
        for (const name of names) line.append(make("td", "num", number(run.metrics[name])));
      }
      line.append(make("td", "num", number(run.wall_seconds, 0)), make("td", "num", number(run.peak_memory_mib, 0)));
      line.append(make("td", "", run.finished_at), make("td", "hash", run.key));
      body.append(line);
    }
    return make("section", "", make("h3", "", "Runs"), scrolling("Runs", make("table", "", make("thead", "", head), body)));
  };

  const cardLists = (card) => {
    const seen = card.pretraining;
    const triple = (values) => values.map((value) => value.toFixed(3)).join(" ");
    return [
      list("Checkpoint", [
        ["Submission", card.name], ["Method", card.method], ["Backbone", card.architecture],
        ["Parameters", grouped(card.parameters)], ["Weights", card.sha256, "hash"],
        ["Source", card.source.file], ["Format", card.source.format], ["Key prefix", card.source.key_prefix],
        ["Source file", card.source.sha256, "hash"], ["Stem", `${card.stem}, ${card.norm}, stride as in ${card.stride_style}`],
        ["Input", `${card.color_order}, mean ${triple(card.mean)}, std ${triple(card.std)}`],
        ["License", card.license], ["Code commit", card.code_commit, "hash"],
      ]),
      list("Pretraining", [
        ["Recipe", seen.recipe], ["Data", seen.data], ["Fingerprint", seen.data_fingerprint, "hash"], ["Labels", seen.labels],
        ["Images", grouped(seen.images)], ["Epochs", seen.epochs], ["Batch", seen.effective_batch], ["Crops", seen.crops],
        ["Image views", grouped(seen.image_views)], ["Resolution", seen.resolution && `${seen.resolution} px`], ["Seed", seen.seed],
      ]),
    ];
  };

  const protocolLists = (group, cell) => {
    const { protocol, dataset } = group;
    const training = cell.runs.map((run) => run.training).filter(Boolean);
    const environments = Array.from(new Set(cell.runs.map((run) => run.environment)), (index) => provenance().environments[index]);
    const probes = cell.runs.map((run) => run.probe).filter(Boolean);
    const of = (name, reports = training) => distinct(reports.map((report) => grouped(report[name])));
    const loaded = of("backbone_tensors", [...training, ...probes]);
    const packages = distinct(environments.map((e) => Object.entries(e.packages).map(([name, version]) => `${name} ${version}`).join(", ")));
    const time = Object.create(null);
    for (const run of cell.runs) for (const [name, value] of Object.entries(run.seconds)) (time[name] ||= []).push(value);
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    return [
      list("Protocol and data", [
        ["Protocol", `${protocol.id}, version ${protocol.version}`], ["Hash", protocol.sha256, "hash"], ["Task", protocol.task],
        ["Data set", dataset.name], ["Fingerprint", dataset.fingerprint, "hash"],
        ["Images", `${grouped(dataset.train_images)} training, ${grouped(dataset.val_images)} validation`],
      ]),
      list("Execution", [
        ["Iterations", distinct(training.map((r) => r.executed_iterations === r.planned_iterations ? grouped(r.executed_iterations) : `${r.executed_iterations} of ${r.planned_iterations}`))],
        ["Batch", of("batch_size")], ["Learning rate", distinct(training.map((r) => r.learning_rate))], ["Images seen", of("images_seen")],
        ["Cells", probes.length ? `${of("training_cells", probes)} for training, of ${of("channels", probes)} channels` : ""],
        ["Chosen", distinct(probes.filter((r) => r.chosen !== null).map((r) => `${r.chosen} of ${Object.keys(r.candidates).join(", ")}, on held-out training images`))],
        ["Loaded", loaded && `${loaded} backbone tensors proven equal to the checkpoint`],
        ["Trainable", of("trainable_parameters")], ["Frozen", of("frozen_parameters")], ["Head", of("head_parameters")],
        ["Device", distinct(environments.map((e) => e.device))], ["Precision", distinct(environments.map((e) => e.precision))],
        ["Threads", distinct(environments.map((e) => e.threads))],
        ["Seconds", Object.entries(time).map(([name, values]) => `${name.replaceAll("_", " ")} ${mean(values).toFixed(0)}`).join(", ")],
        ["Python", distinct(environments.map((e) => e.python))], ["Packages", packages],
        ["Code commit", distinct(environments.map((e) => e.code_commit)), "hash"],
      ]),
    ];
  };

  const figures = (cells) => {
    const head = make("tr", "", heading("Protocol", ""), heading("Mean", "num"), heading("± 95 %", "num"), heading("Over", ""), heading("Failed", "num"));
    const body = make("tbody", "");
    for (const [id, cell] of Object.entries(cells)) {
      const group = provenance().groups[id];
      if (!group.current) continue;
      const link = make("th", "", `${group.label} ${group.protocol.headline}`);
      link.scope = "row";
      const failed = cell.runs.filter((run) => run.failure).length;
      body.append(make("tr", "", link, make("td", "num", number(cell.mean)), make("td", "num", number(cell.half)), make("td", "", cell.over ?? "–"), make("td", "num", String(failed))));
    }
    return make("section", "", make("h3", "", "Values"), scrolling("Values", make("table", "", make("thead", "", head), body)));
  };

  const sheet = (sid, gid) => {
    const { groups, cards, cells: all } = provenance();
    const cells = all[sid];
    const lists = [...(gid ? protocolLists(groups[gid], cells[gid]) : []), ...cards[sid].flatMap(cardLists)];
    const top = gid ? runTable(groups[gid], cells[gid]) : figures(cells);
    return make("div", "sheet", top, make("div", "columns", ...lists));
  };

  for (const button of all(".open")) {
    button.addEventListener("click", () => {
      const row = button.closest("tr");
      if (button.getAttribute("aria-expanded") === "true") return closeDetails(row);
      const cell = make("td", "", sheet(button.dataset.sid, button.dataset.gid));
      cell.colSpan = row.cells.length;
      row.after(make("tr", "details", cell));
      button.setAttribute("aria-expanded", "true");
    });
  }

  show(named(), false);
})();
