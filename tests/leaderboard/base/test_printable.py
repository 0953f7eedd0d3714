"""Untrusted text on a terminal and in pages."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from leaderboard.base.html import readable
from leaderboard.base.printable import STEERING, printable, printable_json, printable_name, visible
from leaderboard.base.terminal import Console

EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m\x00\r\u202e\u2028\ud800"
nasty = st.text(alphabet=[*"ab [/]\\\n\t", *EVIL, "\N{GREEK SMALL LETTER ALPHA}"], max_size=60)


@settings(max_examples=50)
@given(nasty, st.integers(20, 60), st.integers(1, 3))
def test_nothing_steers_and_all_is_bounded(text: str, limit: int, lines: int) -> None:
    shown = printable(text, limit, lines=lines)
    assert not STEERING.search(shown)
    assert len(shown) <= limit
    assert shown.count("\n") < lines
    shown.encode()


def test_harmless_words_stay() -> None:
    text = "caf\N{LATIN SMALL LETTER E WITH ACUTE} [bold] `layer1.0.conv1.weight`: 57 \N{PLUS-MINUS SIGN} 3"
    assert printable(text) == visible(text) == text
    assert printable("one\ntwo\nthree\nfour", lines=3) == "one\ntwo\nthree\\nfour"


def test_what_is_hidden_is_shown_as_its_code() -> None:
    assert printable("a\x1b\x9b\u202e\ud800\t") == r"a\x1b\x9b\u202e\ud800\t"


def test_a_long_name_keeps_its_ends() -> None:
    shown = printable_name("begin" + "x" * 10**6 + "end")
    assert len(shown) == 120
    assert (shown[:5], shown[-3:]) == ("begin", "end")


@settings(max_examples=50)
@given(nasty)
def test_json_says_the_same_to_a_program(text: str) -> None:
    shown = printable_json({text: [text, 1]})
    assert not STEERING.search(shown)
    assert json.loads(shown) == {text: [text, 1]}


@pytest.mark.parametrize("color", [None, "truecolor"])
def test_the_console_shows_codes_wherever_the_text_stands(color: str | None) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=color is not None, color_system=color, width=300)
    table = Table("name", title=Text(EVIL))
    table.add_row(Text(EVIL))
    console.print(EVIL, table, markup=False)
    with Progress(console=console) as bar:
        bar.add_task(Text(EVIL).plain, total=1)
        bar.console.print(EVIL)
    text = stream.getvalue()
    assert "\x1b]" not in text
    assert not set("\x07\x9b\x00\u202e\u2028\ud800") & set(text)
    assert "\x1b[2J" not in text
    assert text.count(r"\x1b]0;title") >= 5
    if color is None:
        assert "\x1b" not in text


def test_a_page_shows_codes_and_keeps_markup() -> None:
    class Markup(str):
        def __html__(self) -> str:
            return self

    assert readable("a\x00\x1b[2Jb\nc") == "a\\x00\\x1b[2Jb\nc"
    assert readable(Markup("<i>\x00")) == "<i>\x00"
    assert readable(3) == 3
