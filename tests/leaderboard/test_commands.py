"""The commands that simulate and measure the tables run."""

import pytest

from leaderboard import benchmark, simulation


def test_the_simulation_prints_its_tables(capsys: pytest.CaptureFixture[str]) -> None:
    simulation.main(2)
    text = capsys.readouterr().out
    assert all(word in text for word in ("Rank intervals", "Overall score", "ladder", "skewed", "uneven"))


@pytest.mark.slow
def test_the_benchmark_prints_its_times(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(24, tmp_path / "results")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("24 results written")
    assert [line.split(":")[0] for line in lines[1:]] == ["CSV", "CSV and page"]
    assert all(line.endswith("8 rows") for line in lines[1:])
