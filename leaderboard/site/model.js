/* The rows of the tables: as embedded while nothing is filtered, ranked again where something is. */

/* No object has inherited keys: a stranger's name may be that of one ("constructor"). */
const bare = (key, value) => (value !== null && typeof value === "object" && !Array.isArray(value) ? Object.assign(Object.create(null), value) : value);
const embedded = (id) => JSON.parse(document.getElementById(id).textContent, bare);

/* The embedded arrays become objects with the names of their fields. */
const readModel = (data) => {
  const named = (fields, values) => {
    const object = Object.create(null);
    fields.forEach((field, at) => (object[field] = values[at]));
    return object;
  };
  const { fields } = data;
  const entries = data.entries.map((values, index) => Object.assign(named(fields.entry, values), { index }));
  for (const entry of entries) entry.words = [entry.label, entry.method, entry.architecture, entry.data ?? ""].join(" ").toLowerCase();
  const groups = Object.create(null);
  for (const [id, group] of Object.entries(data.groups)) {
    const cells = group.cells.map((values) => {
      const cell = named(fields.cell, values);
      cell.entry = entries[cell.entry];
      cell.score = estimate(cell.score, cell.scoreError, cell.scoreDf);
      cell.draws = data.draws[cell.draw] ?? null;
      return cell;
    });
    const [mean, error, df, draw, slot] = group.anchor ?? [];
    const zero = group.anchor && { mean, error, df, draws: data.draws[draw] ?? null, slot };
    groups[id] = Object.assign(group, { id, cells, zero, anchor: zero && mean, byEntry: new Map(cells.map((cell) => [cell.entry.index, cell])) });
  }
  const tracks = data.tracks.map((track) => {
    const all = track.groups.map((id) => groups[id]);
    const current = all.filter((group) => group.current);
    const standings = track.standings.map((values, at) => {
      const standing = named(fields.standing, values);
      const entry = entries[standing.entry];
      return {
        entry, place: at + 1, count: standing.protocols, meanRank: standing.meanRank, low: standing.low, high: standing.high,
        score: estimate(standing.score, standing.scoreError, standing.scoreDf), tier: standing.tier,
        cells: current.map((group) => group.byEntry.get(entry.index) ?? null),
      };
    });
    return Object.assign(track, { address: `${track.id}.${track.architecture}`, groups: all, current, standings });
  });
  const published = data.published.map((values) => {
    const value = named(fields.published, values);
    return Object.assign(value, { words: [value.protocol, value.method, value.architecture, value.data].join(" ").toLowerCase(), about: data.publishedProtocols[value.protocol] });
  });
  return { entries, bySid: new Map(entries.map((entry) => [entry.sid, entry])), groups, tracks, published };
};

const estimate = (mean, error, df) => (mean === null ? null : { mean, error, df });

/* A cell's score with the parts of its error, as ranking.score makes it. */
const scoreOf = (cell, { zero }) => {
  if (cell.score === null || cell.score.error === null) return cell.score;
  const left = 100 - zero.mean;
  return { ...weightedSum([[100 / left, cell], [(cell.score.mean - 100) / left, zero]]), mean: cell.score.mean };
};

/* The cells of a group ranked among each other, best first, as ranking.compare does. A rank interval is computed when
   it is asked for: a row's tests are its own. */
const rankCells = (group, cells) => {
  const scored = cells.filter((cell) => cell.mean !== null).sort((a, b) => b.mean - a.mean || a.entry.index - b.entry.index);
  const positions = midRanks(scored.map((cell) => cell.mean));
  const ranked = scored.map((cell, at) => ({ ...cell, position: positions[at], best: null, worst: null, tier: null, leads: false }));
  const tested = ranked.filter((cell) => cell.tested);
  if (tested.length > 1) {
    const contest = new Contest(tested);
    const first = contest.leader();
    const tiers = contest.tiers();
    midRanks(contest.mean).forEach((position, row) => {
      const cell = tested[row];
      Object.assign(cell, { position, tier: tiers[row], leads: row === first });
      let ends = null;
      const end = (at) => ({ get: () => (ends ??= contest.rankInterval(row))[at], enumerable: true, configurable: true });
      Object.defineProperties(cell, { best: end(0), worst: end(1) });
    });
  }
  return [...ranked, ...cells.filter((cell) => cell.mean === null)];
};

/* The standings over `groups`, of ranked cells, as ranking.standings makes them. */
const rankStandings = (track, groups, ranked) => {
  const maps = groups.map((group) => new Map(ranked.get(group).map((cell) => [cell.entry.index, cell])));
  const divisions = new Map();
  for (const entry of new Set(groups.flatMap((group) => ranked.get(group).map((cell) => cell.entry)))) {
    const cells = maps.map((cell) => cell.get(entry.index) ?? null);
    const columns = groups.map((_, at) => at).filter((at) => cells[at] !== null && cells[at].mean !== null);
    const count = counted(track, columns.map((at) => groups[at]));
    const key = columns.join();
    if (!divisions.has(key)) divisions.set(key, []);
    divisions.get(key).push({ entry, cells, columns, count, meanRank: null, low: null, high: null, score: null, tier: null });
  }
  const total = groups.length === track.current.length ? track.protocols : counted(track, groups);
  const order = (a, b) => {
    const [one, two] = [a[0], b[0]];
    return Number(one.count < total) - Number(two.count < total) || b.length - a.length || two.count - one.count || lexical(one.columns, two.columns);
  };
  const rows = [...divisions.values()].sort(order).flatMap((found) => rankDivision(found, groups));
  rows.forEach((row, at) => (row.place = at + 1));
  return { rows, total };
};

const counted = (track, groups) => (track.byId ? new Set(groups.map((group) => group.protocol)).size : groups.length);
const lexical = (a, b) => {
  for (let at = 0; at < Math.min(a.length, b.length); at += 1) if (a[at] !== b[at]) return a[at] - b[at];
  return a.length - b.length;
};

/* Entries with values in the same groups: mean ranks, overall scores and tiers; best first. */
const rankDivision = (found, groups) => {
  const { columns } = found[0];
  if (!columns.length) return found.sort((a, b) => a.entry.index - b.entry.index);
  const anchored = columns.filter((at) => groups[at].anchor !== null && groups[at].anchor < 100);
  for (const row of found) {
    const cells = columns.map((at) => row.cells[at]);
    const scores = anchored.map((at) => scoreOf(row.cells[at], groups[at])).filter((score) => score !== null);
    row.meanRank = sum(cells.map((cell) => cell.position)) / cells.length;
    if (scores.length) row.score = weightedSum(scores.map((score) => [1 / scores.length, score]));
    if (cells.every((cell) => cell.tier !== null)) {
      const end = (name) => ({ get: () => sum(cells.map((cell) => cell[name])) / cells.length, enumerable: true, configurable: true });
      Object.defineProperties(row, { low: end("best"), high: end("worst") });
    }
  }
  const tested = anchored.length ? found.filter((row) => columns.every((at) => row.cells[at].tested)) : [];
  if (tested.length > 1) overallContest(tested, groups, anchored).tiers().forEach((tier, row) => (tested[row].tier = tier));
  const points = (row) => (row.score === null ? 0 : row.score.mean);
  return found.sort((a, b) => points(b) - points(a) || a.meanRank - b.meanRank || a.entry.index - b.entry.index);
};

/* Rows compared by their overall score: a difference of scores is that of the means, times a weight per protocol. */
const overallContest = (rows, groups, anchored) =>
  new Contest(rows.map((row) => weightedSum(anchored.map((at) => [100 / (100 - groups[at].anchor) / anchored.length, row.cells[at]]))));
