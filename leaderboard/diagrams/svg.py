"""SVG as text: elements with attributes, untrusted text made safe, and the frame around a diagram.

Colors come from style sheets alone (`theme.css`, `diagrams.css`), so that a diagram follows the theme of its page; no
element has a style of its own, which the page's content security policy would refuse.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

from leaderboard import text
from leaderboard.base.html import asset
from leaderboard.base.printable import visible

LINE = 15
"""Pixels from one line of text to the next."""
LETTER = 7.2
"""Width of a letter in pixels, in wide fonts."""
LONGEST = 30
"""Most letters of a name in a diagram; longer names are cut."""
_NO_XML = re.compile("[\ufffe\uffff]")


def element(name: str, content: str = "", **attributes: str | float | None) -> str:
    """An element; `content` is markup. Numbers get one decimal; `kind` is the class; `_` in a name becomes a hyphen."""
    written = "".join(
        f' {"class" if key == "kind" else key.replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def safe(string: str) -> str:
    """Untrusted text as markup that shows it, in XML and in HTML."""
    return escape(_NO_XML.sub("\N{REPLACEMENT CHARACTER}", visible(text.one_line(string))))


def label(string: str, x: float, y: float, *, kind: str | None = None, anchor: str | None = None) -> str:
    """A text element, vertically centered at `y`."""
    return element("text", safe(string), x=x, y=y, dy=".35em", kind=kind, text_anchor=anchor)


def cut(name: str) -> str:
    """A name with at most `LONGEST` letters."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def width(names: list[str]) -> float:
    """Pixels that the longest of some names takes."""
    return LETTER * max(map(len, names), default=0)


@dataclass(frozen=True)
class Diagram:
    """A drawing, and what it shows in words."""

    kind: str
    """Kind of diagram, `ranks`, `scores` or `cost`; unique within a track."""
    title: str
    reading: str
    """How to read it, and what is left out."""
    summary: str
    """What it shows, for those who do not see it."""
    size: tuple[float, float]
    """Width and height in pixels."""
    body: str
    """The SVG elements of the drawing."""

    def inline(self, id_: str) -> str:
        """The diagram for a page that has the style sheets; `id_` is unique on the page."""
        return self._framed(id_)

    def file(self) -> str:
        """The diagram as an SVG file of its own, in the reader's light or dark theme."""
        style = element(
            "style", f"\n{asset('leaderboard', 'site', 'theme.css')}{asset('leaderboard', 'site', 'diagrams.css')}"
        )
        paper = element("rect", kind="paper", width="100%", height="100%")
        return f"{self._framed(self.kind, style + paper, xmlns='http://www.w3.org/2000/svg')}\n"

    def _framed(self, id_: str, before: str = "", **attributes: str) -> str:
        title, summary = f"{id_}.title", f"{id_}.summary"
        head = element("title", safe(self.title), id=title) + element("desc", safe(self.summary), id=summary)
        w, h = self.size
        return element(
            "svg", f"{head}{before}{self.body}", **attributes, kind="diagram", width=w, height=h,
            viewBox=f"0 0 {text.number(w)} {text.number(h)}", role="img", aria_labelledby=title,
            aria_describedby=summary,
        )  # fmt: skip


def _attribute(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else text.number(value).removesuffix(".0")
