"""The README lists what there is."""

from pathlib import Path

import pytest

from bench.cli.listings import methods

README = Path(__file__).parents[1] / "README.md"


def test_readme_has_the_methods_table_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    methods(markdown=True)
    assert f"\n\n{capsys.readouterr().out}\n" in README.read_text(encoding="utf-8"), (
        "renew the table in README.md with what `densebench methods --markdown` prints"
    )
