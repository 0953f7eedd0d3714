"""Figures and strangers' words as text: fixed decimals, one line, escaped for the place where they go."""

from __future__ import annotations

import re

from leaderboard.base.printable import STEERING
from leaderboard.stats import Summary

DASH = "\N{EN DASH}"
_CONTROL = re.compile(f"(?:\n|{STEERING.pattern})+")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "\N{EM DASH}": "---", DASH: "--",
}  # fmt: skip
_MARKDOWN = {character: f"\\{character}" for character in "`*_[]~$"} | {
    character: f"&#{ord(character)};" for character in "\\|<>&:@"
}

_FORMULA = re.compile(r"(^|;)(?!\s*[+-]?\d+(?:\.\d*)?(?:;|$))(\s*[=+@\-\uff1d\uff0b\uff0d\uff20])")
"""The beginning of a formula, also in full-width signs; not of a number."""


def number(value: float, decimals: int = 1) -> str:
    """Fixed decimals, and never `-0.0`."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def plain(value: float | None) -> str:
    """As short as it goes without loss (`200`, `0.02`); nothing for `None`."""
    if value is None:
        return ""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def span(interval: tuple[float, float], decimals: int = 1) -> str:
    """`1.2-2.8` with a dash; `-3 to 12` where a minus would be misread."""
    low, high = number(interval[0], decimals), number(interval[1], decimals)
    return f"{low} to {high}" if low.startswith("-") else f"{low}{DASH}{high}"


def one_line(text: str) -> str:
    """Without control characters and surrounding space."""
    return _CONTROL.sub(" ", text).strip()


def figure(summary: Summary, decimals: int = 1) -> str:
    """`57.0 ± 0.3`: mean and half of the 95 % interval; the mean alone where nothing is known of its error."""
    mean = number(summary.mean, decimals)
    return mean if summary.half is None else f"{mean} ± {number(summary.half, decimals)}"


def markdown(text: str) -> str:
    """Plain text in a cell of a Markdown table: no markup, HTML, cell border, link or mention comes through."""
    escaped = "".join(_MARKDOWN.get(character, character) for character in one_line(text))
    return re.sub(r"(?i)\bwww\.", lambda match: f"{match[0][:3]}&#46;", escaped)


def latex(text: str) -> str:
    """Plain text in a LaTeX cell."""
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def spreadsheet(text: str) -> str:
    """A CSV field that no spreadsheet takes for a formula: those get an apostrophe in front, as OWASP advises.

    Where `;` separates fields, as in many countries, each part of a field is one. Numbers may have a sign.

    >>> spreadsheet("a;=1+1"), spreadsheet("-0.5")
    ("a;'=1+1", '-0.5')
    """
    return _FORMULA.sub(r"\1'\2", one_line(text))
