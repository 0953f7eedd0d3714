"""The measured results in the repository: none vanishes or changes, and the tables are made from them."""

import hashlib
from pathlib import Path

from bench.cli.tables import make_leaderboard
from bench.protocols import load_protocol
from leaderboard.records import RANDOM_METHOD
from leaderboard.store import ResultStore

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "leaderboard" / "results"
LARGEST_PAGE = 2_000_000
"""Bytes that the page may have without pictures."""


def test_no_result_vanishes_or_changes() -> None:
    lines = (ROOT / "leaderboard" / "results.sha256").read_text(encoding="ascii").splitlines()
    listed = {name: sha256 for sha256, name in (line.split("  ") for line in lines)}
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    present = {f"results/{f.relative_to(FOLDER).as_posix()}": hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    assert present == listed, "renew leaderboard/results.sha256 if results were added (docs/benchmark.md)"


def test_results_are_of_present_protocols_and_clean_code() -> None:
    results = list(ResultStore(FOLDER))
    assert any(result.card.method == RANDOM_METHOD for result in results)
    known = {id_: load_protocol(id_).sha256 for id_ in {result.protocol.id for result in results}}
    for result in results:
        assert result.status == "finished"
        assert result.protocol.sha256 == known[result.protocol.id], f"{result.file_name}: another protocol is meant now"
        assert result.environment.code_commit and not result.environment.code_commit.endswith("-dirty")
        assert ResultStore(FOLDER).shares(result) is not None, f"{result.file_name}: shares are missing"


def test_tables_are_current_and_the_page_is_small(tmp_path: Path) -> None:
    csv, guide = ROOT / "leaderboard" / "leaderboard.csv", ROOT / "docs" / "benchmark.md"
    assert make_leaderboard(results=FOLDER, csv=csv, markdown=guide, check=True) == 0
    assert make_leaderboard(results=FOLDER, markdown=ROOT / "README.md", check=True) == 0
    make_leaderboard(results=FOLDER, site=tmp_path)
    assert (tmp_path / "index.html").stat().st_size < LARGEST_PAGE
