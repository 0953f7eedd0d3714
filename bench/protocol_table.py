"""The protocols of track paper as a page of Markdown: how each was tested, what differs from the papers, cost, values.

Everything is read from the protocols' docstrings and from the published values that the leaderboard knows.
"""

from __future__ import annotations

import re
from typing import Final

from bench.gpu_hours import HEADINGS, NOTE, cost, hours_rows
from bench.markdown import markdown_table
from bench.not_offered import NOT_OFFERED
from bench.protocols import Protocol, load_protocol
from bench.tracks import find_track
from leaderboard import published
from leaderboard.text import markdown
from transfer_configs.parts import detectron2

SECTIONS: Final = (
    "Purpose", "Metric", "Architecture", "Schedule", "Differs from the papers", "Published", "Tested", "Cost",
)  # fmt: skip
"""First words of the paragraphs of a docstring in track paper; each begins a line and is followed by a colon."""
_SHARED: Final = "`transfer_configs/parts/detectron2.py`"
_HEADINGS: Final = ("Protocol", "Tested", "Differs from the papers", "GPU-hours", "GPU memory, GiB", "Published")


def paper_protocols_markdown() -> str:
    """A table with a row for each protocol of track paper, the differences that several share, and published values."""
    track = find_track("paper")
    protocols = [load_protocol(protocol_id) for protocol_id in (*track.protocols, *track.further)]
    lines = [
        markdown_table(_HEADINGS, [_row(protocol) for protocol in protocols]),
        "",
        "GPU-hours and memory are computed from the operations of a ResNet-50, not measured: hours on a GPU that "
        "sustains 40 TFLOP/s, with the protocol's whole batch.",
        "",
        "GPU-hours for one checkpoint over the whole of tracks `paper` and `fair`:",
        "",
        markdown_table(HEADINGS, hours_rows()),
        "",
        NOTE,
        "",
        f"What all detectors differ in: {shared_differences()}",
        "",
        "What papers report and this track does not offer, with the reason:",
        "",
        *(f"* {name}: {reason}." for name, reason in NOT_OFFERED.items()),
        "",
        "Published values that may be compared with those of a protocol:",
        "",
        markdown_table(
            published.HEADINGS,
            [[markdown(cell) for cell in row] for row in published.rows() if row[0] in {p.id for p in protocols}],
        ),
    ]
    return "\n".join(lines) + "\n"


def sections(docstring: str) -> dict[str, str]:
    """The paragraphs of a docstring of track paper by their first words, each in one line.

    A text in parentheses before a paragraph's colon is put in front of the paragraph's text.
    """
    beginning = re.compile(rf"^({'|'.join(SECTIONS)})(?: (\([^)]*\)))?:", re.MULTILINE)
    found = list(beginning.finditer(docstring))
    ends = [following.start() for following in found[1:]] + [len(docstring)]
    texts = {
        match[1]: f"{match[2] or ''} {docstring[match.end() : end]}" for match, end in zip(found, ends, strict=True)
    }
    return {name: " ".join(text.split()) for name, text in texts.items()}


def shared_differences() -> str:
    """The differences from detectron2 that all detectors of the track have."""
    _, _, text = " ".join((detectron2.__doc__ or "").split()).partition("What stays different, in all protocols: ")
    return text


def _row(protocol: Protocol) -> list[str]:
    said = sections(protocol.docstring)
    differs = said["Differs from the papers"].replace(_SHARED, "what all detectors differ in (below)")
    texts = (said["Tested"], differs, *cost(protocol), said["Published"])
    return [f"`{protocol.id}`", *texts]
