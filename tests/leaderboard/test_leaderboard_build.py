"""`build`: files out, the same bytes every time, and the check."""

import hashlib
import io
import os
import random

import numpy as np
import pytest
from fabricate import make_probe, make_protocol, make_result, make_results
from rich.console import Console

from leaderboard import tables
from leaderboard.base.errors import FileError
from leaderboard.build import build
from leaderboard.errors import LeaderboardError
from leaderboard.records import TrainingReport
from leaderboard.shares import SHARES, Shares
from leaderboard.store import ResultStore

SHORT = {"planned_iterations": 3, "executed_iterations": 3, "images_seen": 48}
SEG, DET = "mini_voc_seg_fcn", "mini_voc_det_frcnn_fpn"
VALUES = {
    "random": {SEG: [10.0, 11.0, 12.0], DET: [1.0, 2.0, 3.0]},
    "moco": {SEG: [20.0, None, 21.0], DET: [5.0, 5.5, 6.0]},
}


def fill(folder, results):
    store = ResultStore(folder)
    for result in results:
        store.add(result)
    return folder


def targets(folder):
    return {
        "csv": folder / "leaderboard.csv",
        "markdown": folder / "leaderboard.md",
        "latex": folder / "leaderboard.tex",
        "site": folder / "page",
    }


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def render(report):
    console = Console(file=io.StringIO(), width=100)
    console.print(report.render())
    return console.file.getvalue()


def test_the_same_files_give_the_same_bytes(tmp_path):
    results = make_results(VALUES)
    build(fill(tmp_path / "one", results), **targets(tmp_path / "a"))
    random.Random(3).shuffle(results)
    build(fill(tmp_path / "two", results), **targets(tmp_path / "b"))
    first = contents(tmp_path / "a")
    assert sorted(first) == ["leaderboard.csv", "leaderboard.md", "leaderboard.tex", "page/index.html"]
    assert first == contents(tmp_path / "b")
    build(tmp_path / "one", **targets(tmp_path / "a"))
    assert contents(tmp_path / "a") == first


def test_report(tmp_path):
    report = build(fill(tmp_path / "r", make_results(VALUES)), csv=tmp_path / "l.csv")
    assert (report.values, report.written, report.problems) == (4, [tmp_path / "l.csv"], [])
    text = render(report)
    assert "12 results of 2 checkpoints, 4 values" in text
    assert "written:" in text
    assert "moco" in text


def test_check_writes_nothing_and_names_what_differs(tmp_path):
    store = fill(tmp_path / "r", make_results(VALUES))
    out = targets(tmp_path / "out")
    build(store, **out)
    assert build(store, **out, check=True).problems == []
    out["csv"].write_bytes(out["csv"].read_bytes().replace(b"11.0000", b"19.0000"))
    out["latex"].unlink()
    before = contents(tmp_path / "out")
    report = build(store, **out, check=True)
    assert contents(tmp_path / "out") == before
    assert len(report.problems) == 2
    assert "leaderboard.csv is not what the results give (first in line 5)" in report.problems[0]
    assert "leaderboard.tex is missing" in report.problems[1]
    assert len(report.current) == 2
    fill(store, [make_result("densecl")])
    assert len(build(store, **out, check=True).problems) == 4


def test_check_sees_carriage_returns_and_a_missing_end(tmp_path):
    store, csv = fill(tmp_path / "r", make_results(VALUES)), tmp_path / "l.csv"
    build(store, csv=csv)
    good = csv.read_bytes()
    for bad in (good.replace(b"\n", b"\r\n"), good[:-1], good + b"\n"):
        csv.write_bytes(bad)
        assert build(store, csv=csv, check=True).problems


def test_markdown_inside_a_page_with_other_text(tmp_path):
    store, readme = fill(tmp_path / "r", make_results(VALUES)), tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{tables.BEGIN}\n{tables.END}\n\nText.\n")
    build(store, markdown=readme)
    text = readme.read_text()
    assert text.startswith("# Title\n")
    assert text.endswith("\n\nText.\n")
    assert "| moco |" in text
    assert build(store, markdown=readme, check=True).problems == []


def test_markdown_never_replaces_a_page_without_marks(tmp_path):
    store, readme = fill(tmp_path / "r", make_results(VALUES)), tmp_path / "README.md"
    readme.write_text("# Precious\n")
    with pytest.raises(LeaderboardError, match="add these two lines"):
        build(store, markdown=readme)
    assert readme.read_text() == "# Precious\n"


def test_unusable_results_are_named_and_the_tables_made_of_the_rest(tmp_path):
    store = fill(tmp_path / "r", make_results(VALUES))
    build(store, csv=tmp_path / "good.csv")
    (store / "bad.json").write_text("{")
    os.mkfifo(store / "pipe.json")
    (store / "zero.json").symlink_to("/dev/zero")
    report = build(store, csv=tmp_path / "l.csv")
    assert [problem.split(": ")[0] for problem in report.problems] == [
        str(store / name) for name in ("bad.json", "pipe.json", "zero.json")
    ]
    assert "is not a regular file" in report.problems[1] and "move it away" in report.problems[2]
    assert (tmp_path / "l.csv").read_bytes() == (tmp_path / "good.csv").read_bytes()
    assert build(store, csv=tmp_path / "l.csv", check=True).problems == report.problems


def test_a_result_of_another_plan_is_not_comparable(tmp_path):
    """Its record is consistent: it planned 3 iterations and executed 3. The protocol plans 60."""
    short = TrainingReport.model_validate(make_result().training.model_dump() | SHORT)
    odd = make_result("densecl", "mini_voc_seg_fcn", 0, 90.0, training=short)
    rest = make_results({"moco": {"mini_voc_seg_fcn": [1.0, 2.0, None]}, "random": {"mini_voc_seg_fcn": [0.5]}})
    store = fill(tmp_path / "r", [*rest, odd])
    report = build(store, plans={odd.protocol.sha256: 60})
    assert report.board.results == 4
    assert f"{odd.file_name}: executed 3 iterations, but mini_voc_seg_fcn" in report.problems[0]
    assert "plans 60: not comparable" in report.problems[0]
    assert build(store, plans={odd.protocol.sha256: 3}).board.results == 2  # and the failed run


def test_the_known_protocols_make_the_standings(tmp_path):
    store = fill(tmp_path / "r", [make_result("moco", make_protocol(SEG, version=v), 0, 10.0) for v in (1, 2)])
    report = build(store, protocols={"mini": [make_protocol(SEG, version=1)]})
    assert [group.protocol.version for group in report.board.tracks[0].current] == [1]
    assert "does not declare" in render(report)


def test_shares_that_cannot_be_read_are_named_and_do_without(tmp_path):
    shares = Shares(("a.png", "b_leftImg8bit.png"), {"mIoU": np.array([0.5, -0.5])}).to_bytes()
    result = make_probe("moco", outputs={SHARES: hashlib.sha256(shares).hexdigest()})
    store = ResultStore(tmp_path / "r")
    store.add(result, shares)
    assert build(store.folder).board.tracks[0].groups[0].cells[0].summary.known[0].names == ("a", "b")
    (file,) = (tmp_path / "r").rglob("*.npz")
    file.write_bytes(b"damaged")
    report = build(store.folder)
    assert report.values == 1 and "compared without them" in report.problems[0]


def test_what_killed_commands_left_beside_a_table_goes(tmp_path):
    store = fill(tmp_path / "r", make_results(VALUES))
    left, other = tmp_path / ".l.csv.12.34.tmp", tmp_path / ".other.12.34.tmp"
    left.touch()
    other.touch()
    build(store, csv=tmp_path / "l.csv")
    assert other.exists() and not left.exists()


def test_a_missing_folder_is_an_error_and_an_empty_one_is_not(tmp_path):
    with pytest.raises(LeaderboardError, match="no such folder"):
        build(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    report = build(tmp_path / "empty", **targets(tmp_path / "out"))
    assert report.values == 0
    assert len(report.written) == 4


def test_an_unwritable_place_is_an_error(tmp_path):
    store = fill(tmp_path / "r", make_results(VALUES))
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot make the folder"):
        build(store, site=tmp_path / "file")
