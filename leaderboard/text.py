"""Values and untrusted text for tables: fixed decimals, one line, escaped for where they appear."""

from __future__ import annotations

import re

from leaderboard.base.printable import STEERING
from leaderboard.stats import Estimate, Summary

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
"""Matches the beginning of a formula, also in full-width signs, but not that of a number."""
_SIGN = re.compile("[=+@\uff1d\uff0b\uff0d\uff20-]")
"""Matches the signs that can begin a formula: most texts have none of them, and this test is faster."""


def number(value: float, decimals: int = 1) -> str:
    """The value with fixed decimals, and never `-0.0`."""
    return f"{value:z.{decimals}f}"


def plain(value: float | None) -> str:
    """The shortest exact text of a value (`200`, `0.02`); empty for `None`."""
    if value is None:
        return ""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def span(interval: tuple[float, float], decimals: int = 1) -> str:
    """An interval, as `1.2-2.8` with a dash, or as `-3 to 12` where a minus would be misread."""
    low, high = number(interval[0], decimals), number(interval[1], decimals)
    return f"{low} to {high}" if low.startswith("-") else f"{low}{DASH}{high}"


def one_line(text: str) -> str:
    """The text in one line, without control characters and surrounding space."""
    return _CONTROL.sub(" ", text).strip()


def figure(estimate: Estimate, decimals: int = 1) -> str:
    """A value and half of its 95 % interval, as `57.0 ± 0.3`; the value alone where its error is not known."""
    mean = number(estimate.mean, decimals)
    return mean if estimate.half is None else f"{mean} ± {number(estimate.half, decimals)}"


def source(summary: Summary) -> str:
    """What the interval of a value is over: `3 seeds`, `2 pretraining runs`, `images`, `1 run` (no interval)."""
    if summary.over == "images":
        return "images"
    if summary.over is None:
        return "1 run" if summary.n == 1 else f"{summary.n} equal runs"
    return f"{summary.units if summary.over == 'pretraining runs' else summary.n} {summary.over}"


def mark(summary: Summary) -> str:
    """Short form of `source`: `3s`, `2p`, `i`; the number of runs alone where there is no interval."""
    if summary.over is None:
        return str(summary.n)
    return {"seeds": f"{summary.n}s", "pretraining runs": f"{summary.units}p", "images": "i"}[summary.over]


def ranks(best: int | None, worst: int | None) -> str:
    """Ranks that tests leave possible, as `2` or `2-4` with a dash; a dash alone where no test was made."""
    if best is None or worst is None:
        return DASH
    return str(best) if best == worst else f"{best}{DASH}{worst}"


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
    line = one_line(text)
    return _FORMULA.sub(r"\1'\2", line) if _SIGN.search(line) else line
