"""Grouping, ranks and standings, on examples small enough to compute by hand."""

import random

import pytest
from fabricate import make_card, make_probe, make_protocol, make_result, make_results
from scipy import stats

from leaderboard.analysis import analyse

SEG, DET = "mini_voc_seg_fcn", "mini_voc_det_frcnn_fpn"
BASIC = {
    "random": {SEG: [10.0, 11.0, 12.0], DET: [1.0, 2.0, 3.0]},
    "moco": {SEG: [20.0, 20.5, 21.0], DET: [5.0, 5.5, 6.0]},
    "densecl": {SEG: [30.0, 31.0, 32.0], DET: [5.1, 5.6, 6.1]},
}


def group_of(board, protocol):
    return next(group for track in board.tracks for group in track.groups if group.protocol.id == protocol)


def test_cells_hold_the_figures_of_their_seeds():
    group = group_of(analyse(make_results(BASIC)), SEG)
    assert [cell.submission.label for cell in group.cells] == ["densecl", "moco", "random"]
    assert [cell.summary.mean for cell in group.cells] == [31.0, 20.5, 11.0]
    assert group.cells[0].values == (30.0, 31.0, 32.0)
    assert group.cells[0].metric_means == {"mIoU": 31.0, "extra": 15.5}


def test_a_protocol_with_another_place_does_not_enter_the_standings_of_its_track():
    board = analyse(make_results(BASIC | {"extra": {DET: [9.0]}}), {DET: "mini-further"})
    assert [(t.id, [g.protocol.id for g in t.groups]) for t in board.tracks] == [
        ("mini", [SEG]),
        ("mini-further", [DET]),
    ]
    assert [len(track.standings) for track in board.tracks] == [3, 4]
    alone = analyse(make_results({name: {SEG: found[SEG]} for name, found in BASIC.items()}))
    assert board.tracks[0].standings == alone.tracks[0].standings


def test_best_leads_only_if_separable():
    board = analyse(make_results(BASIC))
    assert [cell.leads for cell in group_of(board, SEG).cells] == [True, False, False]
    detection = group_of(board, DET).cells
    assert [cell.leads for cell in detection] == [False, False, False]
    assert [cell.ties_best for cell in detection] == [True, True, False]
    assert [(c.ranking.best, c.ranking.worst) for c in detection] == [(1, 2), (1, 2), (3, 3)]


def test_one_submission_leads_nobody():
    cell = (
        analyse([make_result(seed=seed, value=value) for seed, value in enumerate([1.0, 2.0])])
        .tracks[0]
        .groups[0]
        .cells[0]
    )
    assert (cell.leads, cell.ties_best) == (False, False)


def test_score_counts_from_random_initialisation_to_the_best():
    board = analyse(make_results(BASIC))
    group = group_of(board, SEG)
    assert [group.score_of(cell) for cell in group.cells] == pytest.approx([100, 100 * 9.5 / 20, 0])
    standings = {s.submission.label: s for s in board.tracks[0].standings}
    assert standings["moco"].score == pytest.approx((100 * 9.5 / 20 + 100 * (5.5 - 2) / (5.6 - 2)) / 2)
    assert standings["random"].score == 0
    low, high = standings["moco"].score_interval
    assert low < standings["moco"].score < high


def test_score_needs_random_initialisation_of_the_same_architecture():
    results = make_results(BASIC)
    results += [make_result(make_card("big", architecture="resnet50"), SEG, seed, 40.0 + seed) for seed in range(2)]
    group = group_of(analyse(results), SEG)
    scores = {cell.submission.label: group.score_of(cell) for cell in group.cells}
    assert scores["big"] is None
    assert scores["moco"] == pytest.approx(100 * 9.5 / 29.5)


def test_no_score_where_random_initialisation_is_best():
    board = analyse(make_results({"random": {SEG: [20.0]}, "moco": {SEG: [10.0]}}))
    assert [s.score for s in board.tracks[0].standings] == [None, None]


def test_mean_ranks_are_over_protocols_and_never_mix_metrics():
    board = analyse(make_results({
        "a": {SEG: [90.0, 91.0], DET: [1.0, 1.1]},
        "b": {SEG: [10.0, 11.0], DET: [2.0, 2.1]},
        "c": {SEG: [10.0, 11.0], DET: [3.0, 3.1]},
    }))  # fmt: skip
    ranks = {s.submission.label: s.mean_rank for s in board.tracks[0].standings}
    assert ranks == {"a": (1 + 3) / 2, "b": (2.5 + 2) / 2, "c": (2.5 + 1) / 2}
    assert [s.submission.label for s in board.tracks[0].standings] == ["c", "a", "b"]


def test_intervals_need_two_seeds_everywhere():
    values = {**BASIC, "single": {SEG: [15.0], DET: [3.0, 4.0]}}
    standings = {s.submission.label: s for s in analyse(make_results(values)).tracks[0].standings}
    assert standings["single"].mean_rank_interval is None
    assert standings["single"].score_interval is None
    assert standings["moco"].mean_rank_interval is not None


def test_failed_runs_stay_and_incomplete_submissions_have_no_rank():
    values = {**BASIC, "half": {SEG: [40.0, None, 41.0]}, "broken": {SEG: [None, None], DET: [50.0, 51.0]}}
    board = analyse(make_results(values))
    group = group_of(board, SEG)
    assert [cell.submission.label for cell in group.cells] == ["half", "densecl", "moco", "random", "broken"]
    assert [(len(cell.finished), cell.failed) for cell in group.cells] == [(2, 1), (3, 0), (3, 0), (3, 0), (0, 2)]
    assert group.cells[-1].summary is None
    standings = board.tracks[0].standings
    assert [s.submission.label for s in standings] == ["densecl", "moco", "random", "broken", "half"]
    assert [s.mean_rank for s in standings] == [1, 2, 3, None, None]


def test_only_equal_hashes_and_files_are_compared():
    old, new = make_protocol(SEG, version=1), make_protocol(SEG, version=2)
    edited = make_protocol(SEG, version=2, sha256="e" * 64)
    results = [
        make_result("moco", old, 0, 10.0), make_result("densecl", old, 0, 11.0), make_result("random", old, 0, 1.0),
        make_result("moco", new, 0, 20.0), make_result("densecl", new, 0, 21.0),
        make_result("moco", edited, 0, 30.0),
        make_result("moco", new, 0, 40.0, data="other files"),
    ]  # fmt: skip
    board = analyse(results)
    groups = board.tracks[0].groups
    assert [[cell.summary.mean for cell in group.cells] for group in groups if group.current] == [[21.0, 20.0]]
    assert sorted(len(group.cells) for group in groups) == [1, 1, 2, 3]
    assert len({group.id for group in groups}) == len({group.label for group in groups}) == 4
    assert [[c.summary.mean for c in s.cells] for s in board.tracks[0].standings] == [[21.0], [20.0]]
    assert any("current is version 2" in note for note in board.notes)


def test_references_that_contradict_each_other_are_not_mixed():
    honest, doctored = make_protocol(SEG), make_protocol(SEG, headline="extra")
    groups = analyse([make_result("moco", honest, 0, 10.0), make_result("densecl", doctored, 0, 99.0)]).tracks[0].groups
    assert [len(group.cells) for group in groups] == [1, 1]
    assert groups[0].id != groups[1].id


def test_one_name_for_two_checkpoints_is_told_apart():
    twin = make_card("moco", sha256="a" * 64)
    board = analyse([make_result("moco", SEG, 0, 10.0), make_result(twin, SEG, 0, 12.0)])
    labels = [cell.submission.label for cell in board.tracks[0].groups[0].cells]
    assert labels == ["moco@aaaaaaaa", f"moco@{make_card('moco').sha256[:8]}"]
    assert any("2 checkpoints" in note for note in board.notes)


def test_one_checkpoint_under_two_names_is_noted():
    alias = make_card("alias", sha256=make_card("moco").sha256)
    board = analyse([make_result("moco", SEG, 0, 10.0), make_result(alias, SEG, 1, 12.0)])
    assert any("one checkpoint under 2 names" in note for note in board.notes)


def test_tracks_are_kept_apart():
    paper = make_protocol("paper_voc", track="paper")
    board = analyse([make_result("moco", SEG, 0, 10.0), make_result("moco", paper, 0, 70.0)])
    assert [(track.id, len(track.groups), len(track.standings)) for track in board.tracks] == [
        ("mini", 1, 1),
        ("paper", 1, 1),
    ]


def test_the_order_of_results_does_not_matter():
    results = make_results({**BASIC, "half": {SEG: [40.0, None, 41.0]}})
    results += [make_result(make_card("moco", license=license), SEG, 7 + i, 20.0) for i, license in enumerate("ab")]
    board = analyse(results)
    assert any("3 different cards" in note for note in board.notes)
    for seed in range(5):
        random.Random(seed).shuffle(results)
        assert analyse(results) == board


def test_an_interval_does_not_depend_on_who_else_is_there():
    """Neither its own draws nor its scale change when a submission joins that is not the best."""
    few = analyse(make_results(BASIC)).tracks[0].standings
    many = analyse(make_results({**BASIC, "new": {SEG: [15.0, 16.0], DET: [3.0, 4.0]}})).tracks[0].standings
    of = {s.submission.label: s.score_interval for s in many}
    assert all(of[s.submission.label] == s.score_interval for s in few)


def test_titles_are_words_for_readers_and_make_no_other_protocol():
    """A result of an earlier schema has a guessed title; one odd file names no column."""
    seg = make_protocol("mini_voc_seg_fcn", title="VOC segmentation", short_title="VOC seg")
    odd = make_protocol("mini_voc_seg_fcn", title="A", short_title="BUY NOW")
    results = [make_result("moco", seg, i, 10.0 + i) for i in range(2)] + [make_result("moco", odd, 2, 12.0)]
    (group,) = analyse(results).tracks[0].groups
    assert group.label == "VOC seg"
    assert len(group.cells[0].runs) == 3
    assert analyse(results[::-1]) == analyse(results)
    alone = analyse(results[:1]).tracks[0].groups[0]
    assert alone.digest == group.digest


def test_probes_are_compared_by_the_errors_of_their_images():
    results = [make_probe("moco", 52.0), make_probe("densecl", 52.5), make_probe("random", 48.0)]
    (track,) = analyse(results).tracks
    (group,) = track.groups
    half = 0.5 * stats.t.ppf(0.975, 99)
    assert all(cell.summary.half == pytest.approx(half) for cell in group.cells)
    assert [(cell.ranking.best, cell.ranking.worst) for cell in group.cells] == [(1, 2), (1, 2), (3, 3)]
    assert all(standing.mean_rank_interval is not None for standing in track.standings)
    (alone,) = analyse([make_probe("moco", standard_errors={})]).tracks
    assert alone.groups[0].cells[0].summary.half is None and alone.standings[0].mean_rank_interval is None
