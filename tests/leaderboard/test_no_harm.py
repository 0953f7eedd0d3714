"""No result can take anything from the rows of others: their values, scores, tests and tiers stay."""

import numpy as np
from fabricate import make_card, make_probe, make_protocol, make_result, make_results
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard.analysis import analyse
from leaderboard.comparison import Contest

SEG, DET = "mini_voc_seg_fcn", "mini_voc_det_frcnn_fpn"
DECLARED = {"mini": [make_protocol(SEG), make_protocol(DET), make_protocol("mini_city_seg_fcn")]}
BASIC = make_results({
    "random": {SEG: [10.0, 11.0, 12.0], DET: [1.0, 2.0, 3.0]},
    "moco": {SEG: [20.0, 20.5, 21.0], DET: [5.0, 5.5, 6.0]},
    "densecl": {SEG: [30.0, 31.0, 32.0], DET: [5.1, 5.6, 6.1]},
    "half": {SEG: [25.0, 25.2]},
    "single": {SEG: [24.0], DET: [4.0]},
})  # fmt: skip

protocols = st.one_of(
    st.sampled_from([make_protocol(SEG), make_protocol(DET), make_protocol("mini_city_seg_fcn")]),
    st.builds(
        make_protocol,
        st.sampled_from([SEG, "mini_new_seg"]),
        version=st.integers(1, 3),
        headline=st.sampled_from(["mIoU", "extra"]),
        dataset=st.sampled_from(["voc2012_seg", "other"]),
    ),
)
values = st.one_of(st.none(), st.sampled_from([0.0, 20.5, 31.0, 100.0]), st.floats(0, 100))


@st.composite
def foreign(draw):
    """Results of one checkpoint that is no row of the board, under one protocol, with one to three seeds."""
    architecture = draw(st.sampled_from(["resnet18", "resnet50"]))
    card = make_card(draw(st.sampled_from(["foreign", "moco"])), sha256="f" * 64, architecture=architecture)
    protocol, data = draw(protocols), draw(st.sampled_from(["data", "other data"]))
    iterations = draw(st.sampled_from([60, 90]))
    found = []
    for seed in range(draw(st.integers(1, 3))):
        result = make_result(card, protocol, seed, draw(values), data=data, metrics={"extra": 1.0})
        plan = {"planned_iterations": iterations, "executed_iterations": iterations}
        training = result.training.model_copy(update=plan if result.status == "finished" else {})
        found.append(result.model_copy(update={"training": training}))
    return found


def keys(cell):
    return tuple(run.key for run in cell.runs)


def cells_of(board):
    """Each row's group and cell by its results: labels are words."""
    return {keys(cell): (group, cell) for t in board.tracks for group in t.groups for cell in group.cells}


def standings_of(board):
    """Each row's division and standing by its results."""
    found = {}
    for track in board.tracks:
        for standing in track.standings:
            division = [other for other in track.standings if other.columns == standing.columns]
            found[tuple(keys(cell) for cell in standing.cells if cell)] = division, standing
    return found


def is_new(row):
    return row.entry.card.sha256 == "f" * 64


def heads_no_tier(new, rows):
    """Whether `new` takes no tier from others: it has none, or another row is its best."""
    return new is None or new.tier is None or not is_new(next(row for row in rows if row.tier == new.tier))


@settings(deadline=None, max_examples=30)
@given(foreign(), st.sampled_from([DECLARED, {}]))
def test_a_foreign_result_changes_nothing_of_others(new, declared):
    joined = cells_of(analyse([*BASIC, *new], declared))
    for runs, (group, before) in cells_of(analyse(BASIC, declared)).items():
        there, after = joined[runs]
        assert (after.summary, after.score, there.current) == (before.summary, before.score, group.current)
        if before.tier is None:
            continue
        rival = next((cell for cell in there.cells if is_new(cell)), None)
        if rival is None or rival.tier is None:
            assert (after.tier, after.leads, after.ranking) == (before.tier, before.leads, before.ranking)
            continue
        if heads_no_tier(rival, there.cells):
            assert after.tier == before.tier
        above = rival.summary.mean >= after.summary.mean
        assert before.ranking.position <= after.ranking.position <= before.ranking.position + above
        assert after.ranking.best <= before.ranking.best + above and after.ranking.worst >= before.ranking.worst
        p = Contest([after.summary, rival.summary]).p_values(np.array([0]), np.array([1]))
        assert after.leads == (before.leads and not above and p[0, 0] < 0.05)


@settings(deadline=None, max_examples=30)
@given(foreign(), st.sampled_from([DECLARED, {}]))
def test_a_foreign_result_changes_nothing_of_others_standings(new, declared):
    joined = standings_of(analyse([*BASIC, *new], declared))
    for runs, (_, before) in standings_of(analyse(BASIC, declared)).items():
        division, after = joined[runs]
        assert (after.score, after.protocols) == (before.score, before.protocols)
        if heads_no_tier(next((row for row in division if is_new(row)), None), division):
            assert after.tier == before.tier or (before.tier, after.tier) == (None, 1)  # it stood alone


def test_a_new_version_takes_no_rank_until_it_is_declared():
    (before,) = analyse(BASIC, DECLARED).tracks
    later = make_result("random", make_protocol(SEG, version=2), 0, 50.0)
    (after,) = analyse([*BASIC, later], DECLARED).tracks
    assert after.standings == before.standings
    assert [group.label for group in after.groups] == ["VOC det Faster R-CNN FPN", "VOC seg FCN v1", "VOC seg FCN v2"]


def test_a_single_hostile_run_leaves_bold_and_ranks():
    """It has the best value, once; the tables showed no bold value then."""
    (before,) = analyse(BASIC, DECLARED).tracks
    hostile = make_result(make_card("foreign", sha256="f" * 64), SEG, 0, 99.9)
    (after,) = analyse([*BASIC, hostile], DECLARED).tracks
    leads = [cell.entry.label for group in after.groups for cell in group.cells if cell.leads]
    assert leads == [cell.entry.label for group in before.groups for cell in group.cells if cell.leads] == ["densecl"]
    old = {standing.entry.label: standing for standing in before.standings}
    for standing in after.standings:
        if not is_new(standing) and standing.entry.label != "single":
            assert standing == old[standing.entry.label]


def test_a_probe_on_other_images_is_no_rival():
    probes = [make_probe("moco", 52.0), make_probe("random", 48.0)]
    other = make_probe("foreign", 99.0)
    other = make_result(
        "foreign", other.protocol, 0, 99.0, data="other", training=None, probe=other.probe,
        standard_errors={"mIoU": 0.1},
    )  # fmt: skip
    declared = {"frozen": [other.protocol]}
    (before,), (after,) = (analyse(found, declared).tracks for found in (probes, [*probes, other]))
    assert [s.entry.label for s in after.standings] == ["moco", "random", "foreign"]
    assert [(s.score, s.tier, s.mean_rank) for s in after.standings][:2] == [
        (s.score, s.tier, s.mean_rank) for s in before.standings
    ]


def test_a_result_with_a_foreign_card_does_not_change_what_a_row_is():
    """It has the name and the weights of a row, and says that they are another network of another method."""
    old = BASIC[-1]
    odd = make_card(old.card.name, sha256=old.card.sha256, architecture="resnet50", method="random initialisation")
    (before,) = analyse(BASIC, DECLARED).tracks
    after = analyse([*BASIC, make_result(odd, make_protocol("mini_city_seg_fcn"), 0, 99.0)], DECLARED)
    assert [track.architecture for track in after.tracks] == ["resnet18"]
    of = {standing.entry.label: standing for standing in after.tracks[0].standings}
    others = [standing for standing in before.standings if standing.entry.label != "single"]
    assert all(of[s.entry.label].score == s.score and of[s.entry.label].tier == s.tier for s in others)
    assert any("different cards" in note for note in after.notes)
