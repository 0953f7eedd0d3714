"""The page's script computes what Python computes: distributions, ranks of filtered rows, differences, formats."""

import json
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fabricate import PROBE, make_card, make_probe, make_protocol, make_result, sha
from scipy import stats
from scipy.special import stdtr, stdtrit

from leaderboard import page_data, text
from leaderboard.analysis import analyse
from leaderboard.comparison import Contest, leader, rank_intervals, tiers
from leaderboard.ranking import compare, standings
from leaderboard.records import RANDOM_METHOD, Pretraining
from leaderboard.shares import Shares
from leaderboard.stats import LEVEL, Estimate

SITE = Path(page_data.__file__).parent / "site"
DET, SEG = "mini_voc_det_frcnn_fpn", "mini_voc_seg_fcn"
PROBES = (PROBE, make_protocol("frozen_voc_seg_knn", track="frozen"))


def script(expression, data):
    """The value of a JavaScript expression of `data`, after the page's scripts that need no document."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node, to run the page's script")
    names = ("statistics.js", "model.js", "dom.js")
    code = "const document = {}, require_ = require;\n" + "".join((SITE / name).read_text() for name in names)
    code += "\nconst data = JSON.parse(require_('fs').readFileSync(0, 'utf8'), bare);\n"
    code += f"console.log(JSON.stringify(({expression})));"
    done = subprocess.run([node, "-e", code], input=json.dumps(data), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_student_distribution():
    degrees = [1, 1.3, 2, 2.5, 4, 9, 29, 30, 99.7, 1448, 50_000]
    errors = [0, 0.001, 0.01, 0.7, 1.9599, 1.96, 2.1, 4.3, 12.7, 300, 1e6]
    levels = [LEVEL, LEVEL / 3, LEVEL / 4999, 0.5, 0.999]
    found = script(
        "[data.degrees.map((df) => data.errors.map((t) => twoSided(df, t))), "
        "data.degrees.map((df) => data.levels.map((p) => quantile(df, p)))]",
        {"degrees": degrees, "errors": errors, "levels": levels},
    )
    df = np.array(degrees)[:, None]
    np.testing.assert_allclose(found[0], 2 * stdtr(df, -np.array(errors)), rtol=2e-11, atol=1e-300)
    np.testing.assert_allclose(found[1], stdtrit(df, 1 - np.array(levels) / 2), rtol=1e-10)


def test_numbers_are_written_as_in_python():
    values = [
        0.0,
        -0.0,
        0.05,
        0.25,
        0.35,
        0.75,
        -0.25,
        -0.04,
        -0.05,
        12.25,
        12.75,
        99.95,
        0.125,
        2.5,
        1e-9,
        33.333,
        57.0,
    ]
    found = script("[1, 2, 0, 4].map((d) => data.map((value) => fixed(value, d)))", values)
    assert found == [[text.number(value, decimals) for value in values] for decimals in (1, 2, 0, 4)]
    spans = [(1.0, 2.5), (-0.04, 3.0), (-2.0, 1.0), (3.0, 3.0)]
    assert script("data.map(span)", spans) == [text.span(pair) for pair in spans]
    fields = ["a;=1+1", "=SUM(A1)", "-0.5", "-x", "plain", "two\nlines", " @me", "a;-2;+x"]
    assert script("data.map((field) => csvText([[field]]).slice(0, -1))", fields) == [
        text.spreadsheet(field) for field in fields
    ]


def made_board(seed):
    """A board of methods with seeds, single runs, failures, equal values, missing protocols and probes."""
    draw = random.Random(seed)
    results, kept = [], {}
    noise = np.random.default_rng(seed)
    common = noise.normal(0, 0.05, 40)
    for i in range(12):
        card = make_card("random" if i == 0 else f"m{i}")
        level = draw.choice([0, 1, 2, 4])
        for protocol in (DET, SEG):
            if draw.random() < 0.15:
                continue
            runs = draw.choice([1, 2, 3, 3, 3])
            values = [20 + level + round(draw.gauss(0, 0.5), 1) for _ in range(runs)]
            values = [None if draw.random() < 0.1 else value for value in values]
            results += [make_result(card, protocol, s, v, standard_errors={}) for s, v in enumerate(values)]
        if i % 5:
            names = tuple(f"image{j}" for j in range(40 if i < 8 else 39))
            own = noise.normal(0, 0.05, 40)
            for protocol in PROBES[: 1 + (i % 3 != 0)]:
                probe = make_probe(card, 40 + level + draw.gauss(0, 0.3), 0.5, protocol)
                results.append(probe)
                if i % 4:
                    values = (common + own + noise.normal(0, 0.03, 40))[: len(names)]
                    kept[probe.key] = Shares(names, {"mIoU": values - values.mean()})
    results += pretrained("random", 3, noise) + pretrained("grouped", 3, noise)
    results += pretrained("other", 3, noise)[:-1]  # not all runs under both protocols
    return analyse(results, shares=lambda result: kept.get(result.key), each=seed == 5)


def pretrained(name, runs, noise):
    """The probes of several pretraining runs of a method, each a little better or worse under both protocols."""
    found = []
    for run, shift in enumerate(noise.normal(0, 0.5, runs)):
        seen = Pretraining.known(group=sha(name)[:16], seed=run)
        method = RANDOM_METHOD if name == "random" else name
        card = make_card(f"{name}-seed{run}", method=method, pretraining=seen)
        found += [make_probe(card, 41 + shift + noise.normal(0, 0.2), 0.5, protocol) for protocol in PROBES]
    return found


BOARDS = [made_board(seed) for seed in range(6)]
RANK = """data.map(({ rows, keep, chosen }) => {
  const model = readModel(rows);
  const kept = (cell) => keep.includes(cell.entry.sid);
  return model.tracks.map((track) => {
    const groups = track.current.filter((group) => chosen.includes(group.id));
    const ranked = new Map(groups.map((group) => [group, rankCells(group, group.cells.filter(kept))]));
    const standings = rankStandings(track, groups, ranked);
    return {
      cells: groups.map((group) => ranked.get(group).map(
        (c) => [c.entry.sid, c.position, c.best, c.worst, c.tier, c.leads])),
      standings: standings.rows.map((r) => [r.entry.sid, r.count, r.meanRank, r.low, r.high, r.score, r.tier]),
      total: standings.total,
    };
  });
})"""


def expected(track, keep, chosen):
    """What Python makes of the rows `keep` under the protocols `chosen`."""
    groups = [
        replace(group, cells=compare([cell for cell in group.cells if page_data.sid(cell.entry) in keep])[0])
        for group in track.current
        if group.id in chosen
    ]
    total, rows = standings(groups, 0)
    ranks = [
        [
            [page_data.sid(c.entry)]
            + ([None] * 3 if c.ranking is None else [c.ranking.position, c.ranking.best, c.ranking.worst])
            + [c.tier, c.leads]
            for c in group.cells
        ]
        for group in groups
    ]
    return ranks, [
        [page_data.sid(s.entry), s.protocols, s.mean_rank, *(s.mean_rank_interval or (None, None)), s.score, s.tier]
        for s in rows
    ], total  # fmt: skip


def close(a, b):
    return a == b or (isinstance(a, (int, float)) and isinstance(b, (int, float)) and a == pytest.approx(b, rel=1e-7))


def test_filtered_rows_are_ranked_as_python_ranks_them():
    cases = []
    for seed, board in enumerate(BOARDS):
        draw = random.Random(seed)
        sids = sorted({page_data.sid(c.entry) for t in board.tracks for g in t.groups for c in g.cells})
        ids = [group.id for track in board.tracks for group in track.current]
        random_rows = [sid for sid in sids if sid.startswith("random")]
        for share in (1.0, 0.6, 0.3):
            keep = sorted({*random_rows, *(sid for sid in sids if draw.random() < share)})
            chosen = ids if share > 0.5 else draw.sample(ids, 2)
            cases.append((board, keep, chosen))
    found = script(RANK, [{"rows": page_data.rows(b), "keep": keep, "chosen": chosen} for b, keep, chosen in cases])
    tested = 0
    for (board, keep, chosen), tracks in zip(cases, found, strict=True):
        for track, seen in zip(board.tracks, tracks, strict=True):
            ranks, rows, total = expected(track, keep, chosen)
            assert seen["cells"] == ranks
            if not any(chosen_id in {g.id for g in track.current} for chosen_id in chosen):
                continue
            assert seen["total"] == total or len(ranks) == len(track.current)
            assert [row[0] for row in seen["standings"]] == [row[0] for row in rows]
            for one, other in zip(seen["standings"], rows, strict=True):
                score, wanted = one.pop(5), other.pop(5)
                assert all(map(close, one, other)), (one, other)
                assert (score is None) == (wanted is None)
                if wanted is not None:
                    assert close(score["mean"], wanted.mean) or abs(score["mean"] - wanted.mean) < 1e-12
                    assert close(score["error"], wanted.error) and close(score["df"], wanted.df)
                    tested += wanted.error is not None
    assert tested > 50


def board_of_mixed_errors(first, second):
    """Rows whose probes share images `first` and `second`; one row has three pretraining runs under the second.

    Under the first protocol the images decide alike for all rows, and so nearly nothing about differences.
    """
    noise = np.random.default_rng(0)
    alike, results, kept = noise.normal(0, 0.4, 40), [], {}

    def add(card, protocol, value, images):
        own = noise.normal(0, 0.01, 40) + (alike if protocol is PROBES[0] else 0)
        results.append(make_probe(card, value, 0.5, protocol))
        kept[results[-1].key] = Shares(tuple(f"image{j}" for j in images), {"mIoU": own[images] - own[images].mean()})

    for step, name in enumerate(("random", "b", "c")):
        for protocol, images in zip(PROBES, (first, second), strict=True):
            add(make_card(name), protocol, 40.0 + step, images)
    for run, shift in enumerate((0, 0.01, -0.01)):
        card = make_card(f"a-seed{run}", method="A", pretraining=Pretraining.known(group=sha("A")[:16], seed=run))
        add(card, PROBES[1], 43 + shift, second)
        if run == 0:
            add(card, PROBES[0], 43.0, first)
    return analyse(results, shares=lambda result: kept.get(result.key))


def test_rows_with_the_same_images_are_paired_in_whatever_order_they_are_named():
    images = list(range(40))
    seconds = (images, images[::-1], images[1:], images[:-1])
    boards = [board_of_mixed_errors(images, second) for second in seconds]
    cases = [
        {
            "rows": rows,
            "keep": [entry[0] for entry in rows["entries"]],
            "chosen": [g.id for g in board.tracks[0].current],
        }
        for board in boards
        for rows in (page_data.rows(board),)
    ]
    for board, tracks in zip(boards, script(RANK, cases), strict=True):
        standings = board.tracks[0].standings
        assert [standing.tier for standing in standings] == [1, 2, 3, 4]
        assert [row[-1] for row in tracks[0]["standings"]] == [1, 2, 3, 4]


def test_what_is_embedded_is_what_the_script_would_find():
    """Ranks, tiers and standings of whole tables, which the script shows as they are while nothing is filtered."""
    found = script(
        """data.map((rows) => readModel(rows).tracks.map((track) => {
          const ranked = new Map(track.groups.map((group) => [group, rankCells(group, group.cells)]));
          const shape = (row) => [row.entry.sid, row.place, row.count, row.meanRank, row.low, row.high, row.tier];
          return [rankStandings(track, track.current, ranked).rows.map(shape), track.standings.map(shape)];
        }))""",
        [page_data.rows(board) for board in BOARDS],
    )
    for tracks in found:
        for again, embedded in tracks:
            assert all(
                close(a, b) for one, other in zip(again, embedded, strict=True) for a, b in zip(one, other, strict=True)
            )


def test_more_rows_than_pairs_are_computed_for():
    """The thresholds that `comparison` uses for large tables."""
    noise = np.random.default_rng(0)
    means, errors = noise.normal(30, 3, 430).round(1), noise.choice([0.0, 0.3, 0.6, 1.0], 430)
    degrees = noise.choice([2.0, 4.0], 430)
    figures = [Estimate(*figure) for figure in np.stack([means, errors, degrees], 1).tolist()]
    contest = Contest(figures)
    rows = [0, 7, 99, 250, 429]
    found = script(
        """(() => {
          const cells = data.figures.map(([mean, error, df]) => ({ mean, error, df }));
          const contest = new Contest(cells);
          const intervals = data.rows.map((row) => contest.rankInterval(row));
          return [contest.tiers(), contest.leader(), intervals, midRanks(contest.mean)];
        })()""",
        {"figures": [[f.mean, f.error, f.df] for f in figures], "rows": rows},
    )
    intervals = rank_intervals(contest)
    assert found[0] == tiers(contest)
    assert found[1] == leader(contest)
    assert found[2] == [list(intervals[row]) for row in rows]
    assert found[3] == stats.rankdata(-contest.mean).tolist()


def test_differences_are_those_of_python_and_scipy():
    board = BOARDS[1]
    found = script(
        """Object.values(readModel(data).groups).map((group) => {
          const cells = group.cells.filter((cell) => cell.tested);
          const contest = new Contest(cells);
          return [group.id, cells.map((a, i) => cells.map((b, j) => {
            const difference = contest.difference(i, j);
            return [difference.mean, half(difference), contest.pValue(i, j), contest.different(i, j)];
          }))];
        })""",
        page_data.rows(board),
    )
    groups = {group.id: group for track in board.tracks for group in track.groups}
    checked = paired = 0
    for id_, table in found:
        cells = [cell for cell in groups[id_].cells if cell.summary is not None and cell.summary.tested]
        every = np.arange(len(cells))
        difference, variance, spread = Contest([cell.summary for cell in cells]).difference(every, every)
        for i, a in enumerate(cells):
            for j, b in enumerate(cells):
                mean, half, p, different = table[i][j]
                assert mean == difference[i, j]
                if i == j or variance[i, j] == 0:
                    continue
                reach = np.sqrt(variance[i, j]) * stdtrit(variance[i, j] ** 2 / spread[i, j], 1 - LEVEL / 2)
                assert half == pytest.approx(reach, rel=1e-7)
                assert different == (p < LEVEL)
                checked += 1
                paired += {s.names for s in a.summary.known} & {s.names for s in b.summary.known} != set()
                if a.summary.over == b.summary.over == "seeds":
                    welch = stats.ttest_ind(a.values, b.values, equal_var=False)
                    assert p == pytest.approx(welch.pvalue, rel=1e-7)
                    interval = welch.confidence_interval()
                    assert half == pytest.approx((interval.high - interval.low) / 2, rel=1e-7)
    assert checked > 100 and paired > 10


def test_too_many_rows_on_the_same_images_are_compared_without_pairs(monkeypatch):
    monkeypatch.setattr(page_data, "MOST_PAIRED", 2)
    rows = page_data.rows(BOARDS[0])
    assert not all(group["paired"] for group in rows["groups"].values())
    assert all(len(draws["products"]) <= 3 for draws in rows["draws"])
    unpaired = script("Object.values(readModel(data).groups).map((group) => group.paired)", rows)
    assert False in unpaired


def test_the_protocols_chosen_change_what_is_complete():
    protocol = make_protocol(SEG)
    results = [
        make_result(name, p, s, 20.0 + s) for name in ("random", "moco") for p in (protocol, DET) for s in range(3)
    ]
    results += [make_result("densecl", protocol, s, 30.0 + s) for s in range(3)]
    board = analyse(results)
    seg = board.tracks[0].groups[1].id
    sids = [entry[0] for entry in page_data.rows(board)["entries"]]
    [[track]] = script(RANK, [{"rows": page_data.rows(board), "keep": sids, "chosen": [seg]}])
    assert track["total"] == 1
    assert [row[0].split("@")[0] for row in track["standings"]] == ["densecl", "moco", "random"]
