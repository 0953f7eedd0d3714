"""Untrusted text in Markdown, LaTeX and CSV."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from leaderboard import text
from leaderboard.stats import summarise

nasty = st.text(alphabet="ab \\|`*_[]()<>&:@$~#!\"'=-\n\t./w\u202e{}^%", max_size=20)


@settings(deadline=None)
@given(nasty)
def test_markdown_shows_the_words_and_nothing_else(words):
    page = f"| a | b |\n|---|---|\n| x{text.markdown(words)}x | y |\n"
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 4  # no cell border came through
    assert all(child.type in {"text", "text_special"} for child in cells[2].children)
    assert "".join(child.content for child in cells[2].children) == f"x{text.one_line(words)}x"


def test_markdown_makes_no_link_or_mention():
    escaped = text.markdown("see https://example.org www.example.org @someone")
    assert not re.search(r"://|www\.|@", escaped)


@settings(deadline=None)
@given(nasty)
def test_latex_has_no_bare_special(words):
    commands = (
        r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|textquotedbl)\{\}|\\[&%$#_{}]"
    )
    assert not re.search(r"[\\&%$#_{}~^<>|\"]", re.sub(commands, "", text.latex(words)))


def test_latex_by_hand():
    assert text.latex(r"50% & a_b\c") == r"50\% \& a\_b\textbackslash{}c"


@pytest.mark.parametrize("formula", ["=1+1", "+A1", "-1-1", "@SUM(A1)", "\t=1"])
def test_spreadsheet_takes_nothing_for_a_formula(formula):
    assert text.spreadsheet(formula) == "'" + formula.strip()


@pytest.mark.parametrize("formula", ["=1+1", "+1+1", "-1+1", "@SUM(1)", " =1", "=", "\uff1d1+1", "-2e", "+"])
def test_no_part_of_a_field_is_a_formula_where_semicolons_separate_fields(formula):
    for field in (f"a;{formula}", f"{formula};a", f"{formula};{formula}", f'{{"a;{formula}": 1.0}}'):
        parts = text.spreadsheet(field).split(";")
        assert not any(part.lstrip()[:1] in tuple("=+-@\uff1d") for part in parts)


@pytest.mark.parametrize("figures", ["-0.5", "+3", "1.0;-2.5;3", "0;1;2", ""])
def test_numbers_stay_numbers(figures):
    assert text.spreadsheet(figures) == figures


def test_one_line_removes_control_and_direction_marks():
    assert text.one_line(" a\r\nb\u202ec\x1b[31m ") == "a b c [31m"


def test_numbers():
    assert text.number(-0.04) == "0.0"
    assert text.number(12.345, 2) == "12.35" or text.number(12.345, 2) == "12.34"
    assert text.number(-1.26) == "-1.3"
    assert [text.plain(v) for v in (None, 200.0, 1281167, 0.02)] == ["", "200", "1281167", "0.02"]
    assert text.span((1.0, 2.0)) == "1.0\N{EN DASH}2.0"
    assert text.span((-4, 6), 0) == "-4 to 6"
    assert text.figure(summarise([[50.0]])) == "50.0"
    assert text.figure(summarise([[1.0, 2.0, 3.0]])) == "2.0 ± 2.5"
