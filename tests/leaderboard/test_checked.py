"""Levels of verification: what they need, and that no file is believed on its own word."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fabricate import make_card, make_result

from leaderboard.board import Cell
from leaderboard.build import build
from leaderboard.checked import fingerprint, needed_files, with_levels, write_check
from leaderboard.errors import LeaderboardError
from leaderboard.records import Result
from leaderboard.review import review
from leaderboard.shares import SHARES
from leaderboard.store import ResultStore

NOW = datetime(2026, 1, 2, tzinfo=UTC)
BACKBONE, COUNTS, LOSSES = b"backbone", b"counts", b"losses"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def a_result(claim: str = "self-reported", **fields: object) -> Result:
    outputs = {"counts.npz": sha(COUNTS), "losses.csv": sha(LOSSES), SHARES: sha(b"shares")}
    card = make_card("moco", sha256=sha(BACKBONE))
    return make_result(card, **({"outputs": outputs, "verification": claim} | fields))  # type: ignore[arg-type]


def stored(folder: Path, *results: Result) -> Path:
    for result in results:
        ResultStore(folder).add(result)
    return folder


def levels(results: Path) -> list[str]:
    """Those that the table shows."""
    cells: list[Cell] = [cell for t in build(results).board.tracks for group in t.groups for cell in group.cells]
    return [run.verification for cell in cells for run in cell.runs]


@pytest.mark.parametrize("claim", ["self-reported", "logs", "re-run"])
def test_a_files_own_word_is_not_shown(claim: str, tmp_path: Path) -> None:
    results = stored(tmp_path / "results", a_result(claim))
    assert levels(results) == ["self-reported"]
    write_check(results, a_result(claim), "logs", needed_files(a_result()), NOW)
    assert levels(results) == ["logs"]
    write_check(results, a_result(claim), "re-run", {}, NOW)
    assert levels(results) == ["re-run"]
    write_check(results, a_result(claim), "logs", {}, NOW)
    assert levels(results) == ["re-run"], "a level is not replaced by a lower one"


def test_a_check_is_of_one_result_and_not_of_another_of_the_same_run(tmp_path: Path) -> None:
    assert fingerprint(a_result("re-run")) == fingerprint(a_result())
    results = stored(tmp_path / "results", a_result())
    other = a_result(value=60.0)
    assert other.key == a_result().key
    path = write_check(results, other, "re-run", {}, NOW)
    (found,), (problem,) = with_levels([a_result()], results)
    assert found.verification == "self-reported"
    assert problem == f"{path}: belongs to another result of this run; the run counts as self-reported"
    assert build(results).problems == [problem]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"level": "trusted"}, "level"), ({"more": 1}, "more"), ({"checked_at": "today"}, "checked_at"), (None, "JSON")],
)
def test_a_check_that_is_not_valid_counts_nothing(
    change: dict[str, object] | None, message: str, tmp_path: Path
) -> None:
    results = stored(tmp_path / "results", a_result())
    path = write_check(results, a_result(), "logs", {}, NOW)
    content = json.loads(path.read_text())
    path.write_text("{" if change is None else json.dumps(content | change))
    (found,), (problem,) = with_levels([a_result()], results)
    assert found.verification == "self-reported" and message in problem and str(path) in problem
    write_check(results, a_result(), "logs", {}, NOW)
    assert with_levels([a_result()], results)[1] == []


def test_a_review_says_which_level_the_attached_files_reach(tmp_path: Path) -> None:
    accepted = stored(tmp_path / "accepted", make_result("random"))
    submitted = stored(tmp_path / "submitted", a_result("re-run"))
    attached = tmp_path / "attached" / "run"
    attached.mkdir(parents=True)
    for name, content in (("a.bin", BACKBONE), ("b", COUNTS), ("losses.csv", b"of another run")):
        (attached / name).write_bytes(content)
    found = review(submitted, accepted, attached=tmp_path / "attached")
    assert "1 of 1 runs: self-reported: not attached, or with another hash: losses.csv" in found.remarks
    assert "1 of 1 runs: the file says re-run of itself, which no table shows" in found.remarks
    assert not found.proven
    (attached / "losses.csv").write_bytes(LOSSES)
    found = review(submitted, accepted, attached=tmp_path / "attached")
    assert "1 of 1 runs: logs and weights are attached, and have the hashes that the results hold" in found.remarks
    assert found.proven == (a_result("re-run"),)
    assert not review(submitted, accepted).proven
    with pytest.raises(LeaderboardError, match="no such folder"):
        review(submitted, accepted, attached=tmp_path / "nothing")


def test_a_result_that_names_no_output_cannot_reach_a_level_by_files(tmp_path: Path) -> None:
    bare = a_result(outputs={SHARES: sha(b"shares")})
    assert needed_files(bare) == {}
    (tmp_path / "attached").mkdir()
    (tmp_path / "attached" / "backbone").write_bytes(BACKBONE)
    found = review(
        stored(tmp_path / "new", bare), stored(tmp_path / "old", make_result("random")), attached=tmp_path / "attached"
    )
    assert not found.proven and "1 of 1 runs: self-reported: the result holds no hash of an output" in found.remarks
