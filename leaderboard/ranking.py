"""Scores, ranks and tiers: within one group, and over the groups of a track."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from statistics import fmean

import numpy as np

from leaderboard.board import Cell, Group, Ranking, Standing
from leaderboard.comparison import Contest, leader, rank_intervals, tiers
from leaderboard.stats import Estimate, Summary, mid_ranks, summarise, weighted_sum


def compare(cells: Sequence[Cell]) -> tuple[tuple[Cell, ...], Summary | None]:
    """The cells of a group with scores, ranks and tiers, best first; and the value of random initialization.

    A value that is not tested, or that nothing can be tested against, only has a position and does not influence the
    ranks of others.
    """
    anchor = _anchor([cell for cell in cells if cell.entry.is_random])
    scored = [(cell, cell.summary) for cell in cells if cell.summary is not None]
    scored.sort(key=lambda pair: (-pair[1].mean, pair[0].entry.id))
    everyone = mid_ranks(np.array([summary.mean for _, summary in scored], np.float64))
    ranked = [
        replace(
            cell,
            ranking=Ranking(float(position), None, None),
            score=_score(cell, summary, anchor),
            tier=None,
            leads=False,
        )
        for (cell, summary), position in zip(scored, everyone, strict=True)
    ]
    tested = [i for i, (_, summary) in enumerate(scored) if summary.tested]
    if len(tested) > 1:
        contest = Contest([scored[i][1] for i in tested])
        first = leader(contest)
        found = zip(tested, mid_ranks(contest.mean), rank_intervals(contest), tiers(contest), strict=True)
        for place, (i, position, (best, worst), tier) in enumerate(found):
            ranking = Ranking(float(position), best, worst)
            ranked[i] = replace(ranked[i], ranking=ranking, tier=tier, leads=place == first)
    failed = sorted((cell for cell in cells if cell.summary is None), key=lambda cell: cell.entry.id)
    return (*ranked, *failed), anchor


def _anchor(random: Sequence[Cell]) -> Summary | None:
    """Summary of all random initialisations, which form one row unless each checkpoint has a row of its own."""
    found = [(cell.entry.card.sha256, cell.summary) for cell in random if cell.summary is not None]
    if len(found) < 2:
        return found[0][1] if found else None
    return summarise([[summary.mean] for _, summary in found], checkpoints=tuple(sha256 for sha256, _ in found))


def score(figure: Estimate, anchor: Estimate) -> Estimate:
    """The share of the anchor's errors that is gone, in per cent; the anchor is below 100.

    Its error is of first order in both: s = 100 (x - r) / (100 - r) has the derivatives 100 / (100 - r) by x and
    (s - 100) / (100 - r) by r. Where both are measured on the same images, it comes from each image's share of it.
    """
    left = 100 - anchor.mean
    gone = 100 * (figure.mean - anchor.mean) / left
    return replace(weighted_sum([(100 / left, figure), ((gone - 100) / left, anchor)]), mean=gone)


def _score(cell: Cell, summary: Summary, anchor: Summary | None) -> Estimate | None:
    """A cell's score; random initialization has 0 by definition, without an error."""
    if anchor is None or anchor.mean >= 100:
        return None
    found = score(summary, anchor)
    return Estimate(found.mean, None, 0) if cell.entry.is_random else found


def standings(groups: Sequence[Group], declared: int) -> tuple[int, tuple[Standing, ...]]:
    """Number of protocols that make a row complete (`declared`, if there are any), and the standings.

    Entries with values in the same current groups are compared with each other. The complete ones come first, then the
    sets of groups with the most entries.
    """
    current = [group for group in groups if group.current]
    entries = {cell.entry.id: cell.entry for group in current for cell in group.cells}
    divisions: dict[tuple[int, ...], list[Standing]] = defaultdict(list)
    for id_, entry in sorted(entries.items()):
        standing = Standing(entry, tuple(group.by_entry.get(id_) for group in current), 0)
        ids = {current[i].protocol.id if declared else i for i in standing.columns}
        divisions[standing.columns].append(replace(standing, protocols=len(ids)))
    total = declared or len(current)
    order = sorted(divisions.values(), key=lambda d: (d[0].protocols < total, -len(d), -d[0].protocols, d[0].columns))
    return total, tuple(chain.from_iterable(_division(found, current) for found in order))


def _division(found: Sequence[Standing], groups: Sequence[Group]) -> list[Standing]:
    """Entries with values in the same groups: mean ranks, overall scores and tiers; best first."""
    columns = found[0].columns
    if not columns:
        return list(found)
    anchors = [(i, anchor.mean) for i in columns if (anchor := groups[i].anchor) is not None and anchor.mean < 100]
    rows = [_overall(standing, [i for i, _ in anchors]) for standing in found]
    tested = [
        i for i, row in enumerate(rows) if anchors and all(summary.tested for summary in _summaries(row).values())
    ]
    if len(tested) > 1:
        # A difference of scores is the difference of the means, times a weight that is the same for all rows.
        weights = {i: 100 / (100 - mean) / len(anchors) for i, mean in anchors}
        sums = [
            weighted_sum((weights[i], summary) for i, summary in _summaries(rows[row]).items() if i in weights)
            for row in tested
        ]
        for row, tier in zip(tested, tiers(Contest(sums)), strict=True):
            rows[row] = replace(rows[row], tier=tier)
    return sorted(rows, key=lambda row: (-row.score.mean if row.score else 0.0, row.mean_rank, row.entry.id))


def _summaries(standing: Standing) -> dict[int, Summary]:
    """The entry's values, by the index of the group."""
    cells = enumerate(standing.cells)
    return {i: cell.summary for i, cell in cells if cell is not None and cell.summary is not None}


def _overall(standing: Standing, anchored: Sequence[int]) -> Standing:
    """The standing with its mean rank and overall score."""
    cells = [cell for i in standing.columns if (cell := standing.cells[i]) is not None]
    ranks = [cell.ranking for cell in cells if cell.ranking is not None]
    ends = [(rank.best, rank.worst) for rank in ranks if rank.best is not None and rank.worst is not None]
    scores = [cell.score for i in anchored if (cell := standing.cells[i]) is not None and cell.score is not None]
    known = len(ends) == len(ranks)
    return replace(
        standing,
        mean_rank=fmean(rank.position for rank in ranks),
        mean_rank_interval=(fmean(best for best, _ in ends), fmean(worst for _, worst in ends)) if known else None,
        score=weighted_sum((1 / len(scores), score) for score in scores) if scores else None,
    )
