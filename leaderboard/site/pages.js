/* The pages of a submission and of a protocol, and submissions side by side. Provenance is read when the first is opened. */
let read = null;
const provenance = () => (read ??= embedded("data"));

const list = (title, pairs) => {
  const dl = make("dl");
  for (const [term, value, className] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    dl.append(make("dt", {}, term), make("dd", { class: className ?? null }, value instanceof Node || Array.isArray(value) ? value : String(value)));
  }
  return dl.children.length ? make("section", { class: "facts-of" }, title && make("h4", {}, title), dl) : null;
};
const simpleTable = (title, headings, rows) =>
  scrolling(title, make("table", {}, make("thead", {}, make("tr", {}, headings.map(([text, cls]) => heading(text, { class: cls ?? null })))), make("tbody", {}, rows)));
const titled = (text, of) => make("h2", { tabindex: "-1" }, text, of ? make("span", { class: "of" }, ` ${of}`) : null);

/* Links leave the page only when they are followed, and only to addresses that are built here. */
const outside = (href, ...text) => make("a", { href, rel: "noreferrer" }, ...text);
const sourceLink = (source) => {
  const found = /^([A-Za-z0-9-]+\/[A-Za-z0-9._-]+)(?:@([0-9a-f]{7,40}))?( |$)/.exec(source);
  return found ? outside(`https://github.com/${found[1]}${found[2] ? `/tree/${found[2]}` : ""}`, source) : source;
};
const paperLinks = (paper) => paper.split(/(\d{4}\.\d{4,5})/).map((part, at) => (at % 2 ? outside(`https://arxiv.org/abs/${part}`, part) : part));
const SPDX = /^(Apache-2\.0|MIT|BSD-[23]-Clause|ISC|MPL-2\.0|Unlicense|(L|A)?GPL-[123]\.[01](-only|-or-later)?|CC0-1\.0|CC-BY(-NC)?(-SA|-ND)?-[1-4]\.0)$/;
const licenseLink = (license) => (license !== null && SPDX.test(license) ? outside(`https://spdx.org/licenses/${license}.html`, license) : license);

const cardLists = (card) => {
  const seen = card.pretraining;
  const triple = (values) => values.map((value) => value.toFixed(3)).join(" ");
  return [
    list("Checkpoint", [
      ["Name", card.name], ["Method", card.method], ["Backbone", card.architecture], ["Parameters", grouped(card.parameters)], ["Weights", card.sha256, "hash"],
      ["Source", card.source.file], ["Format", card.source.format], ["Key prefix", card.source.key_prefix], ["Source file", card.source.sha256, "hash"],
      ["Stem", `${card.stem}, ${card.norm}, stride as in ${card.stride_style}`], ["Input", `${card.color_order}, mean ${triple(card.mean)}, std ${triple(card.std)}`],
      ["License", licenseLink(card.license)], ["Code commit", card.code_commit, "hash"],
    ]),
    list("Pretraining", [
      ["Recipe", seen.recipe], ["Recipe hash", seen.recipe_sha256, "hash"], ["Data", seen.data], ["Fingerprint", seen.data_fingerprint, "hash"], ["Labels", seen.labels],
      ["Images", grouped(seen.images)], ["Epochs", seen.epochs], ["Batch", grouped(seen.effective_batch)], ["Crops", seen.crops],
      ["Image views", grouped(seen.image_views)], ["Resolution", seen.resolution && `${seen.resolution} px`], ["Seed", seen.seed],
      ["Started from", seen.init && `${seen.init.name} (${seen.init.sha256.slice(0, 12)})`], ["Stages", seen.stages.map((stage) => `${stage.name} (${grouped(Math.round(stage.seconds))} s)`).join(", ")],
      ["Copies", (seen.copies ?? []).map((found) => `of ${found.copies} of the ${found.tested} test images of ${found.dataset}`).join(", ")],
      ["Cost", seen.cost && `${grouped(Math.round(seen.cost.seconds))} s, ${seen.cost.images_per_second} images/s on ${seen.cost.processes} × ${seen.cost.device}, ${grouped(Math.round(seen.cost.peak_memory_mib))} MiB`],
    ]),
  ];
};

const gflop = (operations) => `${fixed(operations / 1e9)} GFLOP`;
const executionList = (runs) => {
  const training = runs.map((run) => run.training).filter(Boolean);
  const probes = runs.map((run) => run.probe).filter(Boolean);
  const environments = Array.from(new Set(runs.map((run) => run.environment)), (index) => provenance().environments[index]);
  const of = (name, reports = training) => distinct(reports.map((report) => grouped(report[name])));
  const loaded = of("backbone_tensors", [...training, ...probes]);
  const time = Object.create(null);
  for (const run of runs) for (const [name, value] of Object.entries(run.seconds)) (time[name] ||= []).push(value);
  return list("", [
    ["Iterations", distinct(training.map((r) => (r.executed_iterations === r.planned_iterations ? grouped(r.executed_iterations) : `${r.executed_iterations} of ${r.planned_iterations}`)))],
    ["Batch", of("batch_size")], ["Learning rate", distinct(training.map((r) => r.learning_rate))], ["Images seen", of("images_seen")],
    ["Cells", probes.length ? `${of("training_cells", probes)} for training, of ${of("channels", probes)} channels` : ""],
    ["Chosen", distinct(probes.filter((r) => r.chosen !== null).map((r) => `${r.chosen} of ${Object.keys(r.candidates).join(", ")}, on held-out training images`))],
    ["Loaded", loaded && `${loaded} backbone tensors proven equal to the checkpoint`],
    ["Trainable", of("trainable_parameters")], ["Frozen", of("frozen_parameters")], ["Head", of("head_parameters", [...training, ...probes])],
    ["Operations", distinct(runs.map((r) => r.operations && `${gflop(r.operations.backbone)} of the backbone${r.operations.head === null ? "" : ` and ${gflop(r.operations.head)} of the head`}, for an image of ${r.operations.height} × ${r.operations.width}`))],
    ["Device", distinct(environments.map((e) => e.device))], ["Precision", distinct(environments.map((e) => e.precision))], ["Threads", distinct(environments.map((e) => e.threads))],
    ["Seconds", Object.entries(time).map(([name, values]) => `${name.replaceAll("_", " ")} ${(sum(values) / values.length).toFixed(0)}`).join(", ")],
    ["Python", distinct(environments.map((e) => e.python))],
    ["Packages", distinct(environments.map((e) => Object.entries(e.packages).map(([name, version]) => `${name} ${version}`).join(", ")))],
    ["Code commit", distinct(environments.map((e) => e.code_commit)), "hash"],
  ]);
};

const runTable = (headline, runs) => {
  const names = [headline];
  for (const run of runs) for (const name of Object.keys(run.metrics)) if (!names.includes(name)) names.push(name);
  const several = new Set(runs.map((run) => run.checkpoint)).size > 1;
  const headings = [...(several ? [["Checkpoint"]] : []), ["Seed"], ...names.map((name) => [name, "num"]), ["Time, s", "num"], ["Memory, MiB", "num"], ["Checked"], ["Finished"], ["Result"]];
  const rows = runs.map((run) => make("tr", {},
    several ? make("td", {}, run.checkpoint) : null, make("th", { scope: "row" }, String(run.seed)),
    run.failure ? make("td", { class: "failed", colspan: names.length }, `failed: ${run.failure}`) : names.map((name) => make("td", { class: "num" }, number(run.metrics[name]))),
    make("td", { class: "num" }, number(run.wall_seconds, 0)), make("td", { class: "num" }, number(run.peak_memory_mib, 0)),
    make("td", {}, run.verification), make("td", {}, run.finished_at), make("td", { class: "hash" }, run.key)));
  return simpleTable("Runs", headings, rows);
};

/* The commands that make the same results: of the pretraining where its recipe is ours, and of the transfer. */
const quoted = (word) => (/^[A-Za-z0-9_./:+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
const IMAGENET = "0.485,0.456,0.406 0.229,0.224,0.225";
const commands = (model, entry, cards) => {
  const groups = model.tracks.flatMap((track) => track.groups).filter((group) => group.byEntry.has(entry.index));
  const protocols = [...new Set(groups.map((group) => ` \\\n  --protocol ${group.protocol}`))].join("");
  return cards.flatMap((card) => {
    const submit = (source, options) => `densebench submit ${source} --name ${card.name}${options} --data DATA${protocols}`;
    const { recipe, seed, init } = card.pretraining;
    if (entry.random) return [submit(`random:${card.architecture}${seed === null ? "" : `:${seed}`}`, "")];
    const name = /^densebench/.test(card.source.format) && recipe ? /^[A-Za-z0-9][A-Za-z0-9._+-]*/.exec(recipe) : null;
    if (name) {
      /* A method of somebody's own is in a file, which the recipe names. */
      const file = /, file (\S+) [0-9a-f]{12}/.exec(recipe);
      const what = file ? quoted(`./${file[1]}:${name[0]}`) : name[0];
      const run = `runs/${card.name}`;
      return [
        `# recipe ${recipe}`, `densebench pretrain ${what} --data IMAGES --seed ${seed ?? 0}${init ? ` --init ${quoted(`./${init.name}`)}` : ""} --out ${run}`,
        `densebench export ${run} --name ${card.name}`, submit(`${run}/export`, ""),
      ];
    }
    const options = [`--method ${quoted(card.method)}`];
    if (card.license) options.push(`--license ${quoted(card.license)}`);
    if (card.color_order === "BGR") options.push("--color-order BGR");
    if (`${card.mean} ${card.std}` !== IMAGENET) options.push(`--mean ${card.mean.join(" ")} --std ${card.std.join(" ")}`);
    return [submit(quoted(`./${card.source.file}`), ` ${options.join(" ")}`)];
  });
};

const valuesTable = (model, entry) => {
  const cells = provenance().cells[entry.sid];
  const rows = Object.keys(cells).map((id) => {
    const group = model.groups[id];
    const cell = group.byEntry.get(entry.index);
    return make("tr", {},
      make("th", { scope: "row" }, link(address({ place: id }), group.label), make("span", { class: "method" }, `${group.headline}${group.current ? "" : ", not current"}`)),
      make("td", { class: "num figure" }, figure(cell, cell.over), cell.copies ? [" ", make("span", { class: "flag" }, copiesText(cell))] : null),
      make("td", { class: "num" }, cell.best === null ? "–" : `${ranksText(cell)} of ${group.cells.length}`),
      make("td", { class: "num" }, cell.tier === null ? "–" : String(cell.tier)),
      make("td", { class: "num" }, cell.score === null ? "–" : figure(cell.score)),
      make("td", { class: "num" }, String(cell.n)), make("td", { class: "num" }, String(cell.failed)));
  });
  return simpleTable("Values", [["Protocol"], ["Value, %", "num"], ["Rank", "num"], ["Tier", "num"], ["Score", "num"], ["Runs", "num"], ["Failed", "num"]], rows);
};

const submissionPage = (model, sid) => {
  const entry = model.bySid.get(sid);
  if (!entry) return null;
  const { cards, cells, methods } = provenance();
  const about = methods[entry.method];
  const [card] = cards[sid];
  const facts = [
    entry.method, `${entry.architecture}, ${grouped(card.parameters)} parameters`, entry.random ? null : `pretrained on ${entry.data ?? "data that its card does not name"}`,
    entry.epochs === null || entry.random ? null : `${entry.epochs} epochs`, entry.checkpoints > 1 ? `${entry.checkpoints} ${entry.random ? "networks" : "pretraining runs"}` : null,
  ].filter(Boolean).join(" · ");
  const links = [];
  if (about) links.push(make("li", {}, "Paper: ", paperLinks(about.paper)));
  for (const code of about?.code ?? []) links.push(make("li", {}, "Authors' code: ", sourceLink(code)));
  if (entry.license !== null) links.push(make("li", {}, "License of the weights: ", licenseLink(entry.license)));
  const standings = model.tracks.flatMap((track) => track.standings.filter((row) => row.entry === entry).map((row) => make("li", {},
    "Track ", link(address({ place: `overall.${track.address}` }), `${track.id}, ${track.architecture}`), `: place ${row.place} of ${track.standings.length}`,
    row.meanRank === null ? "" : `, mean rank ${fixed(row.meanRank)}`, row.score === null ? "" : [", score ", figure(row.score)], row.tier === null ? "" : `, tier ${row.tier}`)));
  const box = make("input", { type: "checkbox", id: "compare-this" });
  box.checked = selection.has(sid);
  box.addEventListener("change", () => select(sid, box.checked));
  return make("article", { class: "page" },
    titled(entry.label, "submission"), make("p", { class: "facts" }, facts),
    make("ul", { class: "links" }, links, standings), make("p", { class: "choice" }, box, make("label", { for: "compare-this" }, " Compare with others")),
    make("h3", {}, "Values"), valuesTable(model, entry), extrasOf(cards[sid]),
    make("h3", {}, "Reproduce"), make("p", { class: "reading" }, "IMAGES is the folder of pretraining images, DATA the data root; their fingerprints stand below. The pretraining is the same where the hash of its settings is that of the recipe: what was set in addition (--set) stands in its run.json, which --config reads."),
    make("pre", { tabindex: "0" }, make("code", {}, commands(model, entry, cards[sid]).join("\n"))),
    make("h3", {}, "Card"), make("div", { class: "columns" }, cards[sid].flatMap(cardLists)),
    make("h3", {}, "Runs"),
    Object.entries(cells[sid]).map(([id, runs]) => make("section", { class: "runs-of" }, make("h4", {}, link(pageOf("protocol", id), model.groups[id].label)), runTable(model.groups[id].headline, runs), make("details", {}, make("summary", {}, "Execution"), executionList(runs)))));
};

const protocolPage = (model, id) => {
  const group = model.groups[id];
  if (!group) return null;
  const { groups, definitions } = provenance();
  const { protocol, dataset } = groups[id];
  const same = model.tracks.flatMap((track) => track.groups).filter((other) => groups[other.id].protocol.sha256 === protocol.sha256 && groups[other.id].dataset.fingerprint === dataset.fingerprint);
  const others = model.tracks.flatMap((track) => track.groups).filter((other) => other.protocol === group.protocol && !same.includes(other));
  const tableLink = (other) => make("li", {}, link(address({ place: other.id }), `${other.label}, ${other.architecture}`), ` (${plural(other.cells.length, "row")})`);
  const published = model.published.filter((value) => value.protocol === group.protocol);
  const definition = definitions[protocol.sha256];
  return make("article", { class: "page" },
    titled(protocol.title, protocol.id),
    make("p", { class: "facts" }, `Track ${protocol.track} · ${protocol.task} · ${dataset.name} · ranks by ${protocol.headline} · version ${protocol.version}`),
    list("", [["Protocol hash", protocol.sha256, "hash"], ["Data fingerprint", dataset.fingerprint, "hash"], ["Images", `${grouped(dataset.train_images)} training, ${grouped(dataset.val_images)} validation`],
      ["Classes", dataset.classes && dataset.classes.join(", ")]]),
    make("h3", {}, "Who can be compared"),
    make("p", { class: "reading" }, "Results with this protocol hash, this data fingerprint and the same backbone are ranked with each other. Tables of other backbones used the same protocol and data, but the network differs, so they are never ranked together:"),
    make("ul", { class: "links" }, same.map(tableLink)),
    others.length ? [make("p", { class: "reading" }, "Not comparable, because the protocol's version or hash, its plan or the data differ:"), make("ul", { class: "links" }, others.map(tableLink))] : null,
    make("h3", {}, "Published values"),
    published.length
      ? [make("p", { class: "reading" }, `${published[0].about}. Details that no paper mentions move such values by points: they are not ranked with measured ones.`),
         simpleTable("Published values", [["Method"], ["Metric"], ["Backbone"], ["Pretrained on"], ["Epochs", "num"], ["Value", "num"], ["Source"]], published.map((value) => make("tr", {},
           make("th", { scope: "row" }, value.method), make("td", {}, value.metric), make("td", {}, value.architecture), make("td", {}, value.data), make("td", { class: "num" }, value.epochs === null ? "–" : String(value.epochs)), make("td", { class: "num" }, value.value), make("td", {}, sourceLink(value.source)))))]
      : make("p", { class: "reading" }, "None that we know of stands beside this protocol's own values."),
    make("h3", {}, "Run it"), make("pre", { tabindex: "0" }, make("code", {}, `densebench submit CHECKPOINT --name NAME --data DATA --protocol ${protocol.id}`)),
    definition ? [make("h3", {}, "Definition"), make("pre", { tabindex: "0" }, make("code", {}, definition))] : null);
};

/* Submissions side by side: every protocol that two of them have, each against the first. */
const differenceCells = (contest, others) => {
  const differences = others.map((row) => (contest && row !== null ? contest.difference(row, 0) : null));
  const scale = scaleOf([{ mean: 0, error: null }, ...differences.filter(Boolean)]);
  return differences.map((difference, at) => {
    if (!difference) return make("td", { class: "num" }, nothing());
    const different = contest.different(others[at], 0);
    return make("td", { class: `num figure${different ? " leads" : ""}` }, difference.mean > 0 ? "+" : "", fixed(difference.mean), make("span", { class: "half" }, ` ± ${fixed(half(difference))}`),
      make("span", { class: "interval" }, different ? (difference.mean > 0 ? "better" : "worse") : "not told apart"), mark(difference, scale, 0));
  });
};
/* The contest of the first cell and those others that take part in tests; each other's row in it, or null. */
const against = (cells, make_) => {
  if (!cells[0]?.tested) return [null, cells.slice(1).map(() => null)];
  const rows = [];
  const tested = [cells[0]];
  for (const cell of cells.slice(1)) rows.push(cell?.tested ? tested.push(cell) - 1 : null);
  return [tested.length > 1 ? make_(tested) : null, rows];
};
const comparisonRow = (label, unit, cells, contest, others) =>
  make("tr", {}, make("th", { scope: "row" }, label, make("span", { class: "method" }, unit)),
    cells.map((cell) => make("td", { class: "num figure" }, cell === null || cell === undefined ? nothing() : [figure(cell, cell.over), marks(cell)])), differenceCells(contest, others));

const comparePage = (model, state, go) => {
  const entries = state.rows.map((sid) => model.bySid.get(sid)).filter(Boolean);
  const others = entries.slice(1);
  const named = (button, name) => {
    button.setAttribute("aria-label", name);
    return button;
  };
  const remove = (entry) => named(action("Remove", () => { select(entry.sid, false); go({ ...state, rows: state.rows.filter((sid) => sid !== entry.sid) }); }), `Remove ${entry.label}`);
  const first = (entry) => named(action("Give differences from this", () => go({ ...state, rows: [entry.sid, ...state.rows.filter((sid) => sid !== entry.sid)] })), `Give differences from ${entry.label}`);
  const article = make("article", { class: "page" }, titled("Side by side", entries.length > 1 ? `differences from ${entries[0].label}` : ""));
  if (entries.length < 2) {
    article.append(make("p", { class: "state" }, "Choose two or more submissions by the boxes at the left of a table."));
    return article;
  }
  article.append(make("ul", { class: "links chosen" }, entries.map((entry, at) => make("li", {}, link(pageOf("submission", entry.sid), entry.label), ` (${entry.method}, ${entry.architecture}) `, remove(entry), " ", at ? first(entry) : null))));
  let unpaired = false;
  for (const track of model.tracks) {
    const here = entries.filter((entry) => track.groups.some((group) => group.byEntry.has(entry.index)));
    if (here.length < 2) continue;
    const rows = [];
    for (const group of track.groups) {
      const cells = here.map((entry) => group.byEntry.get(entry.index) ?? null);
      if (cells.filter(Boolean).length < 2) continue;
      unpaired ||= !group.paired;
      const [contest, places] = against(cells, (tested) => new Contest(tested));
      rows.push(comparisonRow(link(pageOf("protocol", group.id), group.label), group.current ? group.headline : `${group.headline}, not current`, cells, contest, places));
    }
    const overall = overallComparison(track, here);
    if (overall) rows.push(overall);
    const headings = [["Protocol"], ...here.map((entry) => [entry.label, "num"]), ...here.slice(1).map((entry) => [[make("span", { class: "unit" }, "difference of "), entry.label, here[0] === entries[0] ? null : make("span", { class: "unit" }, ` from ${here[0].label}`)], "num"])];
    article.append(make("h3", {}, `Track ${track.id}, ${track.architecture}`), simpleTable(`Side by side, track ${track.id}, ${track.architecture}`, headings, rows));
  }
  if (new Set(entries.map((entry) => entry.architecture)).size > 1) article.append(make("p", { class: "state" }, "Submissions of different backbones have no table in common: their difference is that of the networks, too, and none is given."));
  else if (!article.querySelector("table")) article.append(make("p", { class: "state" }, "These submissions have no protocol in common."));
  article.append(make("p", { class: "reading" }, "Values: mean ± half of the 95 % interval. Differences: in points, ± half of the 95 % interval of the difference (Welch–Satterthwaite; on the same validation images image by image). “Better” and “worse”: the difference is significant at 5 %, for this pair alone. A single trained run takes part in no test and has no interval of a difference. †: runs failed. ‡: copies of test images are among the pretraining images.",
    unpaired ? " With so many rows on the same images, the differences are tested without pairing images." : ""));
  return article;
};
/* The difference of overall scores, where all have values in the same current protocols with random initialization. */
const overallComparison = (track, here) => {
  const standings = here.map((entry) => track.standings.find((row) => row.entry === entry) ?? null);
  if (standings.some((row) => row === null || row.score === null)) return null;
  const columns = standings.map((row) => row.cells.map((cell, at) => (cell !== null && cell.mean !== null ? at : -1)).filter((at) => at >= 0));
  if (new Set(columns.map((one) => one.join())).size > 1) return null;
  const anchored = columns[0].filter((at) => track.current[at].anchor !== null && track.current[at].anchor < 100);
  const rows = standings.map((row) => ({ tested: columns[0].every((at) => row.cells[at].tested), cells: row.cells }));
  const [contest, places] = against(rows, (tested) => overallContest(tested, track.current, anchored));
  return comparisonRow("Overall score", "mean over the protocols", standings.map((row) => row.score), contest, places);
};
