"""A submission's report: gains against scipy, verdicts, and pages that hold untrusted text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fabricate import make_card, make_protocol, make_result, make_results
from scipy import stats

from leaderboard.analysis import analyse
from leaderboard.errors import LeaderboardError
from leaderboard.records import Card
from leaderboard.submission import CITATION, report_on
from leaderboard.submission_page import render, write

VOC, CITY = "mini_voc_seg_fcn", "mini_city_seg_fcn"
VALUES = {
    "random": {VOC: [20.0, 20.4, 19.6], CITY: [30.0, 31.0, 32.0]},
    "moco": {VOC: [30.0, 30.4, 29.6], CITY: [30.5, 31.0, 32.2]},
}


def supervised(name: str = "imagenet") -> Card:
    card = make_card(name)
    return card.model_copy(
        update={"pretraining": card.pretraining.model_copy(update={"labels": "ImageNet-1k classes"})}
    )


def test_gains_are_welch_s_intervals() -> None:
    report = report_on(analyse(make_results(VALUES)), "moco")
    (chapter,) = report.chapters
    assert [anchor.label for anchor in chapter.anchors] == ["random"] and len(chapter.lines) == 2
    for line in chapter.lines:
        id_ = line.group.protocol.id
        expected = stats.ttest_ind(VALUES["moco"][id_], VALUES["random"][id_], equal_var=False)
        (gain,) = line.gains
        assert gain.p == pytest.approx(expected.pvalue, rel=1e-9)
        assert gain.difference.interval == pytest.approx(expected.confidence_interval(0.95), rel=1e-9)


def test_the_verdict_counts_what_the_tests_find() -> None:
    (chapter,) = report_on(analyse(make_results(VALUES)), "moco").chapters
    assert chapter.verdict.startswith(
        "On track mini with resnet18, moco is better than random initialisation under 1 of 2 protocols, "
        "worse under none (Welch's t-test, Holm over the protocols, 5 %). Its score is 6.4 ± "
    )
    (chapter,) = report_on(analyse(make_results(VALUES)), "random").chapters
    assert "no random initialisation beside random" in chapter.verdict


def test_holm_s_correction_keeps_what_one_test_alone_would_find() -> None:
    """Two p-values of about .04 are not enough: the smaller must be below .025."""
    values = {"random": {VOC: [20.0, 20.4, 19.6], CITY: [20.0, 20.4, 19.6]}}
    values["moco"] = {VOC: [21.0, 21.4, 20.6], CITY: [21.0, 21.4, 20.6]}
    (chapter,) = report_on(analyse(make_results(values)), "moco").chapters
    p = [gain.p for line in chapter.lines for gain in line.gains]
    assert all(value is not None and 0.025 < value < 0.05 for value in p)
    assert "under none of 2 protocols, worse under none" in chapter.verdict


def test_a_single_run_is_not_tested_and_has_its_gain_all_the_same() -> None:
    single = [make_result("moco", metrics={"mIoU": 30.0}), make_result("random", metrics={"mIoU": 20.0})]
    (chapter,) = report_on(analyse(single), "moco").chapters
    ((gain,),) = [line.gains for line in chapter.lines]
    assert gain.p is None and gain.difference.mean == 10.0
    assert "was run too few times for a test" in chapter.verdict
    assert "(not tested)" in render(report_on(analyse(single), "moco"))


def test_checkpoints_trained_with_labels_are_anchors_too() -> None:
    results = make_results(VALUES) + [make_result(supervised(), make_protocol(VOC), seed=seed) for seed in range(3)]
    report = report_on(analyse(results), "moco")
    (chapter,) = report.chapters
    assert [anchor.label for anchor in chapter.anchors] == ["random", "imagenet"]
    assert sorted(len(line.gains) for line in chapter.lines) == [1, 2]
    assert all(label in report.latex for label in ("moco", "random", "imagenet"))


def test_the_paragraph_names_protocols_data_and_code() -> None:
    results = make_results(VALUES)
    (chapter,) = report_on(analyse(results), "moco").chapters
    for fact in (VOC, CITY, results[0].protocol.sha256[:12], results[0].dataset.fingerprint[:12], "over 3 seeds"):
        assert fact in chapter.methods
    assert str(results[0].environment.code_commit) in chapter.methods


def test_a_name_without_a_row_is_refused() -> None:
    with pytest.raises(LeaderboardError, match="no submission 'mocov2' has a finished run; there are moco, random"):
        report_on(analyse(make_results(VALUES)), "mocov2")


def test_the_page_is_the_same_for_the_same_results_and_keeps_text_as_text() -> None:
    hostile = make_card("moco", method="<script>alert(1)</script>", license="</style><img src=x onerror=y>")
    results = [make_result(hostile, seed=seed) for seed in range(2)] + make_results({"random": VALUES["random"]})
    page = render(report_on(analyse(results), "moco"))
    assert page == render(report_on(analyse(results[::-1]), "moco"))
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;alert(1)" in page


def test_the_citation_is_that_of_the_repository() -> None:
    cff = Path(__file__).parents[2].joinpath("CITATION.cff").read_text(encoding="utf-8")
    title = re.search(r'^title: "(.+)"$', cff, re.MULTILINE)
    assert title is not None and title[1] in CITATION.replace("{", "").replace("}", "")
    assert "The DenseBench developers" in cff and "The DenseBench developers" in CITATION


def test_the_files_hold_page_and_rows(tmp_path: Path) -> None:
    report = report_on(analyse(make_results(VALUES)), "moco")
    page, rows = write(report, tmp_path / "made" / "moco")
    assert page.read_text(encoding="utf-8") == render(report) and rows.read_text(encoding="utf-8") == report.latex


def test_two_checkpoints_with_one_name_have_reports_of_their_own() -> None:
    first, second = make_card("dense"), make_card("dense", sha256=make_card("other").sha256)
    results = make_results(VALUES) + [
        make_result(card, VOC, seed, 30.0 + seed) for card in (first, second) for seed in range(2)
    ]
    board = analyse(results)
    with pytest.raises(
        LeaderboardError, match=r"2 rows have a checkpoint called 'dense': name one of dense@.+, dense@"
    ):
        report_on(board, "dense")
    for card in (first, second):
        for report in (report_on(board, "dense", card.sha256), report_on(board, f"dense@{card.sha256[:8]}")):
            assert {chapter.standing.entry.card.sha256 for chapter in report.chapters} == {card.sha256}
    with pytest.raises(LeaderboardError, match="no submission 'moco'"):
        report_on(board, "moco", first.sha256)
