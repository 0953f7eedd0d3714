"""What a reviewer is told of submitted result files."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from fabricate import make_card, make_protocol, make_result, make_results
from rich.console import Console

from leaderboard.errors import LeaderboardError
from leaderboard.records import Result, Sweep, Tried
from leaderboard.review import Review, review
from leaderboard.store import ResultStore

PROTOCOL = "mini_voc_seg_fcn"
STORED = {
    "random": {PROTOCOL: [20.0, 20.4, 19.6]},
    "moco": {PROTOCOL: [30.0, 30.4, 29.6]},
}


def fill(folder: Path, results: list[Result]) -> Path:
    folder.mkdir()
    for result in results:
        ResultStore(folder).add(result)
    return folder


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return fill(tmp_path / "stored", make_results(STORED))


def shown(found: Review) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(found.render())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_new_row_stands_in_the_table_and_in_a_sentence(stored: Path, tmp_path: Path) -> None:
    new = fill(tmp_path / "new", make_results({"dense": {PROTOCOL: [40.0, 40.4, 39.6]}}))
    before = sorted(tmp_path.rglob("*"))
    found = review(new, stored)
    assert not found.problems
    (row,) = found.rows
    assert row.startswith("dense, mini_voc_seg_fcn: mIoU 40.0 ± 1.0 (over 3 seeds); score 25.0 ± ")
    assert row.endswith("rank 1 of 3 (tests leave 1 open), tier 1")
    assert "3 of 3 runs: self-reported: the result holds no hash of an output" in found.remarks
    text = shown(found)
    assert "moco" in text and text.rstrip().endswith("nothing speaks against these results")
    assert sorted(tmp_path.rglob("*")) == before


def test_tables_without_a_new_row_are_left_out(stored: Path, tmp_path: Path) -> None:
    frozen = make_protocol("frozen_voc_seg_linear", track="frozen")
    new = fill(tmp_path / "new", [make_result("dense", frozen)])
    found = review(new, stored)
    assert found.tracks == {("frozen", "resnet18")} and "moco" not in shown(found)
    assert found.rows[0].endswith(
        "no score without random initialisation on the same data; takes part in no test: a single run"
    )


def test_runs_that_are_stored_already(stored: Path, tmp_path: Path) -> None:
    same = make_results({"moco": {PROTOCOL: [30.0]}})
    found = review(fill(tmp_path / "same", same), stored)
    assert not found.problems and not found.rows and "is stored already" in found.remarks[0]
    found = review(fill(tmp_path / "other", make_results({"moco": {PROTOCOL: [35.0]}})), stored)
    assert found.problems == (f"{same[0].file_name}: this run is stored already, with other content",)
    assert shown(found).rstrip().endswith("not to be accepted as they are")


def test_what_is_to_be_solved_first(stored: Path, tmp_path: Path) -> None:
    changed = make_protocol(PROTOCOL, version=2)
    named_alike = make_result(make_card("moco", sha256="ab" * 32), seed=1)
    new = fill(tmp_path / "new", [named_alike, make_result("dense", changed)])
    (new / "damaged.json").write_text("{")
    found = review(new, stored, protocols={"mini": [make_protocol(PROTOCOL)]})
    words = "\n".join(found.problems)
    assert "damaged.json" in words
    assert "the name moco belongs to another checkpoint" in words
    assert f"{PROTOCOL} was run with the hash {changed.sha256[:12]}, and is" in words


def test_what_the_reviewer_should_know(stored: Path, tmp_path: Path) -> None:
    card = make_card("dense", license=None)
    runs = [make_result(card, seed=0, data="others"), make_result(card, seed=1, value=None, data="others")]
    found = review(fill(tmp_path / "new", runs), stored)
    words = "\n".join(found.remarks)
    assert "cards do not say: license (dense)" in words
    assert "1 of 2 runs: failed: loss is not finite at iteration 12" in words
    assert "mini_voc_seg_fcn ran on data that no stored result has (" in words


def test_a_failure_without_words(stored: Path, tmp_path: Path) -> None:
    found = review(fill(tmp_path / "new", [make_result("dense", value=None, failure=" ")]), stored)
    assert "1 of 1 runs: failed: no words" in found.remarks


def test_a_folder_without_results(stored: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(LeaderboardError, match="holds no result file"):
        review(tmp_path / "empty", stored)
    with pytest.raises(LeaderboardError, match="no such folder"):
        review(tmp_path / "missing", stored)
    (tmp_path / "file").write_text("")
    with pytest.raises(LeaderboardError, match="no such folder"):
        review(stored, tmp_path / "file")


def test_the_first_submission_of_a_collection_is_reviewed_without_accepted_results(tmp_path: Path) -> None:
    new, nothing = fill(tmp_path / "new", make_results(STORED)), tmp_path / "results"
    found = review(new, nothing)
    assert not found.problems and not nothing.exists()
    assert f"there is no folder {nothing} yet: these results are compared with no accepted ones" in found.remarks
    assert [row.partition(",")[0] for row in found.rows] == ["moco", "random"] and "rank 1 of 2" in found.rows[0]
    nothing.mkdir()
    assert not any("there is no folder" in remark for remark in review(new, nothing).remarks)


def swept(value: float = 40.0) -> tuple[list[Result], Result]:
    """The three runs of a sweep, and a run with the settings that it chose."""
    trials = [
        make_result("dense", make_protocol(f"fair_p_{place}", track="fair"), 1000, value + place) for place in range(3)
    ]
    settings = [{"learning_rate": rate} for rate in (0.001, 0.005, 0.01)]
    tried = tuple(
        Tried(settings=dict(one), key=trial.key, value=value + place)
        for place, (one, trial) in enumerate(zip(settings, trials, strict=True))
    )
    sweep = Sweep(id="fair_p", settings=dict(settings[-1]), tried=tried, at_edge=("learning_rate",))
    return trials, make_result("dense", make_protocol("fair_p", track="fair"), sweep=sweep)


def test_the_runs_of_a_sweep_are_submitted_with_what_they_tuned(stored: Path, tmp_path: Path) -> None:
    trials, run = swept()
    assert not review(fill(tmp_path / "whole", [*trials, run]), stored).problems
    found = review(fill(tmp_path / "alone", [run, trials[0]]), stored)
    assert found.problems == (
        f"{run.file_name}: 2 of the 3 runs of its sweep are not among the files: submit them, too",
    )
    assert not review(tmp_path / "alone", fill(tmp_path / "two", trials[1:])).problems, "they may be stored already"
    others, _ = swept(30.0)
    found = review(fill(tmp_path / "other-values", [*others, run]), stored)
    assert found.problems == (
        f"{run.file_name}: its sweep names other values than the results of the sweep's runs hold",
    )


def test_every_checkpoint_tries_the_same_settings(stored: Path, tmp_path: Path) -> None:
    trials, run = swept()
    assert run.sweep is not None
    fewer = Sweep(id="fair_p", settings=run.sweep.settings, tried=run.sweep.tried[1:], at_edge=())
    other = make_result("moco", run.protocol, sweep=fewer)
    ResultStore(stored).add(other)
    found = review(fill(tmp_path / "new", [*trials, run]), stored)
    assert found.problems == (
        f"{run.file_name}: its sweep tried other settings than those of stored results of fair_p",
    )


def test_a_name_within_the_submission_belongs_to_one_checkpoint_and_a_checkpoint_to_one_name(
    stored: Path, tmp_path: Path
) -> None:
    again = make_card("mocco", sha256=make_card("moco").sha256)
    two = [make_result(make_card("dense", sha256=digit * 64), seed=int(digit)) for digit in "12"]
    words = "\n".join(review(fill(tmp_path / "new", [*two, make_result(again, seed=7)]), stored).problems)
    assert words.count("the name dense belongs to another checkpoint than") == 2
    assert "the checkpoint mocco is there under another name, too (moco)" in words


def test_a_rank_counts_the_rows_that_are_ranked(stored: Path, tmp_path: Path) -> None:
    """Single trained runs and failed rows have no part in it."""
    others = make_results({"single": {PROTOCOL: [60.0]}, "failed": {PROTOCOL: [None]}, "dense": {PROTOCOL: [40, 41]}})
    found = review(fill(tmp_path / "new", others), stored)
    assert [row for row in found.rows if "rank 1 of 3 (" in row and row.startswith("dense")]
