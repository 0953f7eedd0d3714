"""A submission's report: gains against scipy, verdicts, and pages that hold untrusted text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fabricate import make_card, make_probe, make_protocol, make_result, make_results, sha
from scipy import stats

from leaderboard import tables
from leaderboard.analysis import analyse
from leaderboard.errors import LeaderboardError
from leaderboard.records import RANDOM_METHOD, Card, Copies, Pretraining, Result
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
    (chapter,) = report_on(analyse(make_results({"moco": VALUES["moco"]})), "moco").chapters
    assert "no random initialisation beside moco" in chapter.verdict


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
    assert "(300 training and 100 validation images, " in chapter.methods


def probed(**copies: int) -> list[Result]:
    """One probe of one checkpoint, of which `copies` of test images were found, and of one random network."""
    found = tuple(Copies(dataset=dataset, tested=100, copies=number) for dataset, number in copies.items())
    card = make_card("moco", pretraining=Pretraining.known(data="web", copies=found))
    return [make_probe(card, 40.0), make_probe("random", 30.0), make_probe("densecl", 35.0)]


def test_one_run_each_says_of_what_its_interval_says_nothing() -> None:
    (chapter,) = report_on(analyse(probed()), "moco").chapters
    assert chapter.verdict.endswith(
        "Compared are 1 pretraining run and 1 random network: tests and intervals are for the draw of the validation "
        "images and say nothing of other pretraining runs or random networks."
    )
    given = "± half of the 95 % interval (Student t) for the draw of the validation images, given this run"
    assert chapter.methods.endswith(
        f"Values are those of 1 run of 1 checkpoint, {given}: it says nothing of other pretraining runs. Values of "
        f"random initialisation are those of 1 run of 1 random network, {given}: it says nothing of other random "
        "networks."
    )
    assert "<td>validation images, 1 run</td>" in render(report_on(analyse(probed()), "moco"))


def test_a_single_run_that_trained_says_nothing_of_other_seeds_either() -> None:
    trained = [make_result(name, standard_errors={"mIoU": 0.5}) for name in ("moco", "random")]
    (chapter,) = report_on(analyse(trained), "moco").chapters
    assert "given this run: it says nothing of other seeds or pretraining runs." in chapter.methods


def test_intervals_over_pretraining_runs_hold_for_the_method_and_protocols_that_differ_are_named() -> None:
    cards = [
        make_card(f"moco-{seed}", method="MoCo v2", pretraining=Pretraining.known(group=sha("moco")[:16], seed=seed))
        for seed in range(3)
    ]
    results = [make_result(card, VOC, value=40.0 + place) for place, card in enumerate(cards)]
    results += [make_result(cards[0], CITY, seed, 40.0 + seed) for seed in range(2)]
    results += make_results({"random": VALUES["random"]})
    (chapter,) = report_on(analyse(results), "moco-0").chapters
    assert "Compared are 1 to 3 pretraining runs and 1 random network: tests and intervals say nothing of other " in (
        chapter.verdict
    )
    interval = "means ± half of the 95 % interval (Student t)"
    assert f"Values under {VOC} are {interval} over 3 pretraining runs (3 runs)." in chapter.methods
    assert f"Values under {CITY} are {interval} over 2 seeds of 1 checkpoint: it says nothing of" in chapter.methods
    networks = f"Values of random initialisation are {interval} over 3 seeds of 1 random network: it says nothing of"
    assert networks in chapter.methods


def test_a_protocol_without_random_initialisation_is_no_part_of_what_is_compared() -> None:
    def cards(name: str, method: str) -> list[Card]:
        seeds = [Pretraining.known(group=sha(name)[:16], seed=seed) for seed in range(3)]
        return [make_card(f"{name}-{seen.seed}", method=method, pretraining=seen) for seen in seeds]

    found = [make_probe(card, 45.0 + place / 10) for place, card in enumerate(cards("moco", "MoCo v2"))]
    found += [make_probe(card, 40.0 + place / 10) for place, card in enumerate(cards("random", RANDOM_METHOD))]
    other = make_probe(cards("moco", "MoCo v2")[0], 45.0, protocol=make_protocol("frozen_voc_seg_knn", track="frozen"))
    (chapter,) = report_on(analyse([*found, other]), "moco-0").chapters
    assert chapter.verdict.endswith("Compared are 3 pretraining runs and 3 random networks.")


def test_the_report_on_random_initialisation_says_what_it_is() -> None:
    chapters = report_on(analyse(probed()), "random").chapters
    assert ["random is random initialisation, the zero of the score" in one.verdict for one in chapters] == [True]


def test_copies_of_test_images_are_told_in_every_part() -> None:
    report = report_on(analyse(probed(voc2012_seg=12, coco2017=5)), "moco")
    (chapter,) = report.chapters
    told = (
        "Copies of 12 of the 100 test images of voc2012_seg are among the pretraining images: values on them may be "
        "too high."
    )
    assert chapter.copies == (told,) and chapter.verdict.endswith(told) and chapter.methods.endswith(told)
    page = render(report)
    assert "<td>40.0 ± 1.0‡</td>" in page and "\n‡: copies of test images are among the pretraining images." in page
    assert r"40.0 $\pm$ 1.0$^\ddagger$ &" in report.latex and r"30.0 $\pm$ 1.0 &" in report.latex
    clean = report_on(analyse(probed(voc2012_seg=0)), "moco")
    assert not clean.chapters[0].copies and "‡" not in render(clean) and "ddagger" not in clean.latex


def test_the_rows_for_a_paper_hold_nothing_that_only_the_whole_table_shows() -> None:
    """densecl is among the rows of the table, and not among these."""
    board = analyse(probed())
    assert r"\textbf{40.0" in tables.latex(board) and " & Rank & Score & Tier" in tables.latex(board)
    (caption, *_, header, _, first, second, _, _) = report_on(board, "moco").latex.splitlines()
    assert header == r"Submission & Method & VOC seg linear mIoU & Score \\"
    assert first.startswith(r"moco & MoCo v2 & 40.0 $\pm$ 1.0 & 14.3 $\pm$ ") and first.endswith(r" \\")
    assert second == r"random & random initialisation & 30.0 $\pm$ 1.0 & 0.0 \\"
    assert not any(word in caption for word in ("Rank", "Tier", "Bold", "‡"))
    assert "moco: Values are those of 1 run of 1 checkpoint, ±" in caption
    assert "random: Values are those of 1 run of 1 random network, ±" in caption


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
