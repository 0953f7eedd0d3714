"""What the command `leaderboard` prints besides the tables."""

from pathlib import Path

import pytest

from bench.cli.tables import make_leaderboard
from leaderboard.frame import COLUMNS
from leaderboard.published import values


def test_the_columns_of_the_csv_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_leaderboard(columns=True) == 0
    text = capsys.readouterr().out
    assert all(name in text and meaning in text for name, (_, meaning) in COLUMNS.items())


def test_published_values_are_listed_with_their_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_leaderboard(published=True) == 0
    text = capsys.readouterr().out
    assert all(value.source in text for value in values())


def test_correlations_say_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results").mkdir()
    file = tmp_path / "correlations.csv"
    assert make_leaderboard(results=tmp_path / "results", correlations=True, correlations_csv=file) == 0
    assert "no two protocols have 4 rows" in capsys.readouterr().out
    assert file.read_text().startswith("architecture,protocol_a,")
