"""Grouping, ranks, scores and standings, on examples small enough to compute by hand."""

import random

import numpy as np
import pytest
from fabricate import PROBE, make_card, make_probe, make_protocol, make_result, make_results
from scipy import stats

from leaderboard.analysis import analyse
from leaderboard.board import Ranking
from leaderboard.records import RANDOM_METHOD, Pretraining
from leaderboard.shares import Shares

SEG, DET = "mini_voc_seg_fcn", "mini_voc_det_frcnn_fpn"
BASIC = {
    "random": {SEG: [10.0, 11.0, 12.0], DET: [1.0, 2.0, 3.0]},
    "moco": {SEG: [20.0, 20.5, 21.0], DET: [5.0, 5.5, 6.0]},
    "densecl": {SEG: [30.0, 31.0, 32.0], DET: [5.1, 5.6, 6.1]},
}
MINI = {"mini": [make_protocol(SEG), make_protocol(DET)]}


def group_of(board, protocol):
    return next(group for track in board.tracks for group in track.groups if group.protocol.id == protocol)


def labels(track):
    return [standing.entry.label for standing in track.standings]


def standings_of(board, track=0):
    return {standing.entry.label: standing for standing in board.tracks[track].standings}


def test_cells_hold_the_figures_of_their_seeds():
    group = group_of(analyse(make_results(BASIC)), SEG)
    assert [cell.entry.label for cell in group.cells] == ["densecl", "moco", "random"]
    assert [cell.summary.mean for cell in group.cells] == [31.0, 20.5, 11.0]
    assert group.cells[0].values == (30.0, 31.0, 32.0)
    assert group.cells[0].metric_means == {"mIoU": 31.0, "extra": 15.5}
    assert group.cells[0].metric_values["extra"] == (15.0, 15.5, 16.0)


def test_best_leads_only_if_separable():
    board = analyse(make_results(BASIC))
    assert [cell.leads for cell in group_of(board, SEG).cells] == [True, False, False]
    detection = group_of(board, DET).cells
    assert [cell.leads for cell in detection] == [False, False, False]
    assert [cell.tier for cell in detection] == [1, 1, 2]
    assert [(c.ranking.best, c.ranking.worst) for c in detection] == [(1, 2), (1, 2), (3, 3)]


def test_a_row_that_nothing_can_be_tested_against_has_a_position_alone():
    several = [make_result(make_card("several"), SEG, seed, value) for seed, value in enumerate([1.0, 2.0])]
    board = analyse([*several, make_result(make_card("single"), SEG, 0, 9.0)])
    cells = group_of(board, SEG).cells
    assert [cell.entry.label for cell in cells] == ["single", "several"]
    assert [cell.ranking for cell in cells] == [Ranking(1, None, None), Ranking(2, None, None)]
    assert [(cell.leads, cell.tier) for cell in cells] == [(False, None)] * 2


def test_the_score_is_the_share_of_the_errors_of_random_initialisation_that_is_gone():
    board = analyse(make_results(BASIC))
    group = group_of(board, SEG)
    assert [cell.score.mean for cell in group.cells] == pytest.approx([100 * 20 / 89, 100 * 9.5 / 89, 0])
    moco = standings_of(board)["moco"]
    assert moco.score.mean == pytest.approx((100 * 9.5 / 89 + 100 * 3.5 / 98) / 2)
    assert standings_of(board)["random"].score.mean == 0
    assert standings_of(board)["random"].score.interval is None  # by definition


def test_the_error_of_a_score_includes_that_of_random_initialisation():
    """Against the spread of scores of drawn means."""
    cell = group_of(analyse(make_results(BASIC)), SEG).cells[1]
    generator = np.random.default_rng(0)
    x, r = generator.normal(20.5, 0.5 / 3**0.5, 200_000), generator.normal(11.0, 1 / 3**0.5, 200_000)
    assert cell.score.error == pytest.approx((100 * (x - r) / (100 - r)).std(), rel=0.01)
    assert 2 < cell.score.df < 4


def test_a_score_is_bounded_where_random_initialisation_is_best_or_close():
    values = {"random": {SEG: [20.0, 20.1], DET: [2.0, 2.01]}, "moco": {SEG: [10.0, 10.1], DET: [2.01, 2.02]}}
    scores = standings_of(analyse(make_results(values)))
    assert scores["moco"].score.mean == pytest.approx((100 * -10 / 79.95 + 100 * 0.01 / 97.995) / 2)


def test_there_is_no_score_without_random_initialisation():
    values = {name: found for name, found in BASIC.items() if name != "random"}
    (track,) = analyse(make_results(values)).tracks
    assert [(s.score, s.tier) for s in track.standings] == [(None, None)] * 2
    assert labels(track) == ["densecl", "moco"]  # by mean rank
    partly = {**values, "random": {SEG: [10.0, 11.0]}}
    scores = standings_of(analyse(make_results(partly)))
    assert scores["moco"].score.mean == pytest.approx(100 * 10 / 89.5)  # of the protocol that has it


def test_only_equal_architectures_are_compared():
    results = make_results(BASIC)
    big = make_card("big", architecture="resnet50")
    results += [make_result(big, SEG, seed, 40.0 + seed) for seed in range(2)]
    board = analyse(results)
    assert [(t.id, t.architecture, labels(t)) for t in board.tracks] == [
        ("mini", "resnet18", ["densecl", "moco", "random"]),
        ("mini", "resnet50", ["big"]),
    ]
    assert board.tracks[1].standings[0].score is None
    assert board.tracks[0].standings == analyse(make_results(BASIC)).tracks[0].standings
    assert len({group.id for track in board.tracks for group in track.groups}) == 3


def test_mean_ranks_are_over_protocols_and_never_mix_metrics():
    board = analyse(make_results({
        "a": {SEG: [90.0, 91.0], DET: [1.0, 1.1]},
        "b": {SEG: [10.0, 11.0], DET: [2.0, 2.1]},
        "c": {SEG: [10.0, 11.0], DET: [3.0, 3.1]},
    }))  # fmt: skip
    ranks = {label: standing.mean_rank for label, standing in standings_of(board).items()}
    assert ranks == {"a": (1 + 3) / 2, "b": (2.5 + 2) / 2, "c": (2.5 + 1) / 2}
    assert labels(board.tracks[0]) == ["c", "a", "b"]


def test_the_interval_of_a_mean_rank_is_that_of_its_tests():
    """A difference that no test supports is no difference in ranks."""
    standings = standings_of(analyse(make_results(BASIC)))
    assert standings["densecl"].mean_rank_interval == ((1 + 1) / 2, (1 + 2) / 2)
    assert standings["moco"].mean_rank_interval == ((2 + 1) / 2, (2 + 2) / 2)
    assert [standings[name].tier for name in ("densecl", "moco", "random")] == [1, 2, 3]


def test_a_single_run_takes_part_in_no_test():
    values = {**BASIC, "single": {SEG: [90.0], DET: [3.0, 4.0]}}
    board = analyse(make_results(values))
    standings = standings_of(board)
    assert (standings["single"].mean_rank_interval, standings["single"].tier) == (None, None)
    cells = {cell.entry.label: cell for cell in group_of(board, SEG).cells}
    assert (cells["single"].ranking.position, cells["single"].tier, cells["single"].leads) == (1, None, False)
    alone = {cell.entry.label: cell for cell in group_of(analyse(make_results(BASIC)), SEG).cells}
    assert all(cells[name] == alone[name] for name in alone)
    assert cells["densecl"].leads


def test_failed_runs_stay_and_incomplete_submissions_are_ranked_on_what_they_have():
    values = {**BASIC, "half": {SEG: [40.0, None, 41.0]}, "broken": {SEG: [None, None], DET: [50.0, 51.0]}}
    board = analyse(make_results(values), MINI)
    group = group_of(board, SEG)
    assert [cell.entry.label for cell in group.cells] == ["half", "densecl", "moco", "random", "broken"]
    assert [(len(cell.finished), cell.failed) for cell in group.cells] == [(2, 1), (3, 0), (3, 0), (3, 0), (0, 2)]
    assert group.cells[-1].summary is None
    (track,) = board.tracks
    assert labels(track) == ["densecl", "moco", "random", "broken", "half"]
    assert [s.protocols for s in track.standings] == [2, 2, 2, 1, 1]
    assert [s.mean_rank for s in track.standings] == [2, 3, 4, 1, 1]
    assert [s.tier for s in track.standings] == [1, 2, 3, None, None]  # nothing stands beside the last two


def test_only_equal_hashes_and_files_are_compared():
    old, new = make_protocol(SEG, version=1), make_protocol(SEG, version=2)
    edited = make_protocol(SEG, version=2, sha256="e" * 64)
    results = [
        make_result("moco", old, 0, 10.0), make_result("densecl", old, 0, 11.0), make_result("random", old, 0, 1.0),
        make_result("moco", new, 0, 20.0), make_result("densecl", new, 0, 21.0),
        make_result("moco", edited, 0, 30.0),
        make_result("moco", new, 0, 40.0, data="other files"),
    ]  # fmt: skip
    board = analyse(results, {"mini": [old]})
    groups = board.tracks[0].groups
    assert [[cell.summary.mean for cell in group.cells] for group in groups if group.current] == [[11.0, 10.0, 1.0]]
    assert sorted(len(group.cells) for group in groups) == [1, 1, 2, 3]
    assert len({group.id for group in groups}) == len({group.label for group in groups}) == 4
    assert any("does not declare" in note for note in board.notes)
    undeclared = analyse(results)
    assert all(group.current for group in undeclared.tracks[0].groups)
    assert any("4 different protocols or data sets" in note for note in undeclared.notes)


def test_results_of_an_undeclared_protocol_are_compared_by_their_plan():
    short = make_result().training.model_copy(
        update={"planned_iterations": 3, "executed_iterations": 3, "images_seen": 48}
    )
    odd = make_result("densecl", SEG, 0, 90.0, training=short)
    groups = analyse([make_result("moco"), make_result("random"), odd]).tracks[0].groups
    assert sorted(len(group.cells) for group in groups) == [1, 2]
    assert sorted(group.label for group in groups) == ["VOC seg FCN 3 iterations", "VOC seg FCN 60 iterations"]


def test_a_table_of_its_own_for_further_protocols():
    tables = {"mini": [make_protocol(SEG)], "mini-further": [make_protocol(DET)]}
    board = analyse(make_results(BASIC | {"extra": {DET: [9.0]}}), tables)
    assert [(t.id, [g.protocol.id for g in t.groups]) for t in board.tracks] == [
        ("mini", [SEG]),
        ("mini-further", [DET]),
    ]
    assert [len(track.standings) for track in board.tracks] == [3, 4]
    alone = analyse(make_results({name: {SEG: found[SEG]} for name, found in BASIC.items()}), tables)
    assert board.tracks[0].standings == alone.tracks[0].standings


def test_references_that_contradict_each_other_are_not_mixed():
    honest, doctored = make_protocol(SEG), make_protocol(SEG, headline="extra")
    results = [make_result("moco", honest, 0, 10.0), make_result("densecl", doctored, 0, 99.0)]
    groups = analyse(results).tracks[0].groups
    assert [len(group.cells) for group in groups] == [1, 1]
    assert groups[0].id != groups[1].id
    assert [g.cells[0].entry.label for g in analyse(results, MINI).tracks[0].current] == ["moco"]


def test_one_name_for_two_checkpoints_is_told_apart():
    twin = make_card("moco", sha256="a" * 64)
    board = analyse([make_result("moco", SEG, 0, 10.0), make_result(twin, SEG, 0, 12.0)])
    found = [cell.entry.label for cell in board.tracks[0].groups[0].cells]
    assert found == ["moco@aaaaaaaa", f"moco@{make_card('moco').sha256[:8]}"]
    assert any("2 checkpoints" in note for note in board.notes)


def test_one_checkpoint_under_two_names_is_noted():
    alias = make_card("alias", sha256=make_card("moco").sha256)
    board = analyse([make_result("moco", SEG, 0, 10.0), make_result(alias, SEG, 1, 12.0)])
    assert any("one checkpoint under 2 names" in note for note in board.notes)


def pretrained(name, seed, group="a" * 16, **fields):
    seen = Pretraining.known(group=group, seed=seed, epochs=40, image_views=160_000)
    return make_card(name, method="MoCo v2", pretraining=seen, **fields)


def test_pretraining_runs_that_differ_in_their_seed_alone_form_one_row():
    cards = [pretrained(f"moco-v2-seed{seed}", seed) for seed in range(3)]
    values = [[20.0, 21.0], [23.0, 24.0], [26.0]]
    results = [
        make_result(card, SEG, seed, value)
        for card, seeds in zip(cards, values, strict=True)
        for seed, value in enumerate(seeds)
    ]
    other = make_result(pretrained("moco-v2-long", 0, group="b" * 16), SEG, 0, 30.0)
    wide = make_result(pretrained("wide", 3, stem="3x3+3x3+3x3"), SEG, 0, 31.0)
    board = analyse([*results, other, wide])
    cells = {cell.entry.label: cell for cell in board.tracks[0].groups[0].cells}
    assert set(cells) == {"moco-v2", "moco-v2-long", "wide"}
    cell = cells["moco-v2"]
    assert [card.name for card in cell.entry.cards] == [card.name for card in cards]
    assert cell.values == (20.0, 21.0, 23.0, 24.0, 26.0)
    assert (cell.summary.n, cell.summary.units, cell.summary.over) == (5, 3, "pretraining runs")
    assert cell.summary.mean == pytest.approx((20.5 + 23.5 + 26) / 3)
    apart = analyse([*results, other, wide], each=True)
    assert len(apart.tracks[0].groups[0].cells) == 5


def test_random_initialisations_form_one_row_and_one_zero():
    cards = [make_card(name, method="random initialisation") for name in ("random", "random-1", "random-2")]
    results = [make_result(card, SEG, 0, 10.0 + i) for i, card in enumerate(cards)]
    results += [make_result("moco", SEG, seed, 20.0 + seed) for seed in range(2)]
    for each, rows in ((False, 2), (True, 4)):
        group = analyse(results, each=each).tracks[0].groups[0]
        assert len(group.cells) == rows
        assert group.anchor.mean == 11.0 and group.anchor.units == 3
        assert group.cells[0].score.mean == pytest.approx(100 * 9.5 / 89)


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (("a-seed0", "a-seed1"), "a"), (("a-10", "a-11"), "a"), (("random", "random-1"), "random"), (("x", "y"), "M"),
        (("moco-v2", "moco-v2-1"), "moco-v2"), (("a.seed_10", "a.seed_12"), "a"),
    ],
)  # fmt: skip
def test_a_row_is_called_what_its_names_have_in_common(names, label):
    seen = [Pretraining.known(group="a" * 16, seed=seed) for seed in range(2)]
    cards = [make_card(name, method="M", pretraining=one) for name, one in zip(names, seen, strict=True)]
    (standing,) = analyse([make_result(card) for card in cards]).tracks[0].standings
    assert standing.entry.label == label


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
    board = analyse(results, MINI)
    assert any("3 different cards" in note for note in board.notes)
    for seed in range(5):
        random.Random(seed).shuffle(results)
        assert analyse(results, MINI) == board


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
    assert analyse([results[2]], {"mini": [seg]}).tracks[0].groups[0].label == "VOC seg"


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


def test_probes_with_shares_are_compared_image_by_image():
    """The images are hard for all: 0.5 apart is much where each image says so."""
    generator = np.random.default_rng(0)
    hard = generator.normal(0, 0.1, 100)
    found = {"moco": 52.0, "densecl": 52.5, "random": 48.0}
    results, kept = [], {}
    for name, value in found.items():
        own = hard + generator.normal(0, 0.01, 100)
        own -= own.mean()
        result = make_probe(name, value, error=float((100 / 99 * (own**2).sum()) ** 0.5))
        results.append(result)
        kept[result.key] = Shares(tuple(map(str, range(100))), {"mIoU": own})
    plain = analyse(results).tracks[0]
    paired = analyse(results, shares=lambda result: kept[result.key]).tracks[0]
    assert [cell.tier for cell in plain.groups[0].cells] == [1, 1, 2]
    assert [cell.tier for cell in paired.groups[0].cells] == [1, 2, 3]
    assert [standing.tier for standing in paired.standings] == [1, 2, 3]
    a, r = (kept[results[i].key].metrics["mIoU"] for i in (0, 2))
    slopes = 100 / 52, (100 * 4 / 52 - 100) / 52
    expected = (100 / 99 * ((slopes[0] * a + slopes[1] * r) ** 2).sum()) ** 0.5
    moco = paired.groups[0].cells[1].score
    assert (moco.error, moco.df) == (pytest.approx(expected), 99)
    assert moco.error < plain.groups[0].cells[1].score.error / 3
    missing = analyse(results, shares=lambda result: None if result is results[0] else kept[result.key]).tracks[0]
    assert [cell.tier for cell in missing.groups[0].cells] == [1, 1, 2]


def test_an_overall_score_over_protocols_that_share_their_pretraining_runs():
    """Its error is that of each run's own overall score: protocols are not counted as if each had other runs."""
    protocols = PROBE, make_protocol("frozen_voc_seg_knn", track="frozen")
    of_runs = {"moco": ((50.0, 30.0), (54.0, 33.0), (52.0, 33.0)), "random": ((20.0, 10.0), (21.0, 10.0), (22.0, 13.0))}

    def card(name, run):
        return pretrained(name, run) if name.startswith("moco") else make_card(name, method=RANDOM_METHOD)

    results = [
        make_probe(card(f"{name}-seed{run}", run), value, 0.5, protocol)
        for name, runs in of_runs.items()
        for run, values in enumerate(runs)
        for protocol, value in zip(protocols, values, strict=True)
    ]
    found = {standing.entry.label: standing.score for standing in analyse(results).tracks[0].standings}["moco"]
    x, r = (np.array(of_runs[name]) for name in ("moco", "random"))
    left = 100 - r.mean(0)
    scores = 100 * (x.mean(0) - r.mean(0)) / left
    slopes = 100 / left / 2, (scores - 100) / left / 2
    variances = [(values @ slope).var(ddof=1) / 3 for values, slope in zip((x, r), slopes, strict=True)]
    assert found.mean == pytest.approx(scores.mean())
    assert found.error == pytest.approx(sum(variances) ** 0.5)
    assert found.df == pytest.approx(sum(variances) ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2 / 2))


def test_own_data_have_tables_of_their_own() -> None:
    """Neither the usual data sets nor other own data are ranked with them, whatever their names hold."""
    protocol = make_protocol("custom_seg_linear", track="custom")
    declared = {"custom": [protocol]}
    results = [
        make_result("moco", protocol, data=data, classes=classes)
        for data, classes in (("a", ("nut", "bolt")), ("b", ("nut", "bolt")), ("c", ("../../rock",)), ("d", None))
    ]
    odd = results[2].model_copy(update={"dataset": results[2].dataset.model_copy(update={"name": "../x\\y z"})})
    board = analyse([*results[:2], odd, results[3]], declared)
    fingerprints = [result.dataset.fingerprint[:4] for result in results]
    names = [protocol.dataset, protocol.dataset, "..-x-y-z"]
    expected = [f"custom-{name}-{digest}" for name, digest in zip(names, fingerprints, strict=False)]
    assert sorted(track.id for track in board.tracks) == sorted(["custom", *expected])
    assert all(len(track.groups) == track.protocols == 1 for track in board.tracks)
    assert len({group.id for track in board.tracks for group in track.groups}) == 4
    assert board.notes == ()


def test_one_protocol_in_two_tables_makes_two_groups() -> None:
    """Somebody renamed a track of their own: both keep their rows, under identifiers of their own."""
    results = [make_result("moco", make_protocol(SEG, track=track)) for track in ("custom", "mine")]
    groups = [group for track in analyse(results).tracks for group in track.groups]
    assert len({group.id for group in groups}) == len(groups) == 2
    assert [group.label for group in groups] == [groups[0].protocol.short_title] * 2
    (alone,) = analyse(results[:1]).tracks[0].groups
    assert alone.id == f"{SEG}.resnet18"


def test_amounts_are_small_enough_to_be_squared_and_summed() -> None:
    for large in ({"standard_errors": {"mIoU": 1e200}}, {"wall_seconds": 1e308}):
        with pytest.raises(ValueError, match="less than or equal to"):
            make_result("moco", **large)
