"""The Markdown page of the protocols of track paper."""

import json

import pytest

from bench.cli import run as command
from bench.gpu_hours import HEADINGS, cost, hours_rows
from bench.not_offered import NOT_OFFERED
from bench.protocol_table import SECTIONS, paper_protocols_markdown, sections, shared_differences
from bench.protocols import load_protocol
from bench.tracks import PAPER
from leaderboard import published

IDS = (*PAPER.protocols, *PAPER.further)


@pytest.mark.parametrize("protocol_id", IDS)
def test_a_docstring_says_everything_once(protocol_id: str) -> None:
    protocol = load_protocol(protocol_id)
    said = sections(protocol.docstring)
    assert sorted(said) == sorted(SECTIONS) and all(len(text) > 20 for text in said.values())
    rest = protocol.docstring.partition("\n")[2]
    assert "".join(rest.split()) == "".join(said_in_order(rest, said))
    hours, memory = cost(protocol)
    assert float(hours) > 0 and float(memory) > 3 and "Computed, not measured" in said["Cost"]
    assert "No run of the whole schedule" in said["Tested"], "then say in the page's text what was measured"


def said_in_order(docstring: str, said: dict[str, str]) -> list[str]:
    """Every character of the sections but spaces, with their headings, in the order of the docstring."""
    parts = []
    for name in sorted(said, key=lambda name: f"\n{docstring}".index(f"\n{name}")):
        text, note = said[name], ""
        if text.startswith("("):
            note, _, text = text.partition(")")
            note += ")"
        parts.append("".join(f"{name}{note}:{text}".split()))
    return parts


def test_parts_of_a_docstring() -> None:
    found = sections("Title.\n\nPurpose: to test.\nCost: a minute\nof Cost: one.\nPublished (AP,\nof one): 3.\n")
    assert found == {"Purpose": "to test.", "Cost": "a minute of Cost: one.", "Published": "(AP, of one) 3."}


def test_the_page_has_a_row_for_each_and_every_published_value() -> None:
    page = paper_protocols_markdown()
    first, hours, second = (block.splitlines() for block in page.split("\n\n") if block.startswith("|"))
    assert len(hours) - 2 == len(IDS) + 2
    assert [row.split("|")[1].strip() for row in first[2:]] == [f"`{protocol_id}`" for protocol_id in IDS]
    assert {row.replace("\\|", "").count("|") for row in first} == {7}
    c4 = first[2]
    assert "| 8 | 58 |" in c4 and "MoCo v2 of 200 epochs 57.0/82.4/63.6" in c4 and "killed ten times" in c4
    assert len(second) - 2 == sum(value.protocol in IDS for value in published.values()) > 20
    assert "images are scaled by OpenCV" in shared_differences() and shared_differences() in page


def test_gpu_hours_of_a_checkpoint_over_two_tracks() -> None:
    """By a plain computation: of C4 a run of 8 hours, five seeds, ten runs of a quarter of the iterations."""
    rows = {row[0]: dict(zip(HEADINGS, row, strict=True)) for row in hours_rows()}
    c4 = rows["paper_voc0712_det_c4_24k"]
    assert list(c4.values())[1:] == ["8", "5", "40", "10", "20", "60"]
    assert list(rows["paper_coco_frcnn_fpn_p10"].values())[1:] == ["1.7", "5", "8.5", "", "", ""]
    usual = [float(cost(load_protocol(name))[0]) for name in PAPER.protocols]
    assert sum(usual) == 8 + 16 + 3 + 6 == 33
    assert list(rows["Standings"].values())[1:] == ["33", "5", "165", "", "82.5", "248"]
    every = sum(float(cost(load_protocol(name))[0]) for name in IDS)
    assert [rows["All"][name] for name in ("One run", "fair: all")] == [f"{every:,.0f}", "248"]


def test_what_is_not_offered_is_said_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["protocols", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["not_offered"] == NOT_OFFERED
    page = paper_protocols_markdown()
    assert all(f"* {name}: {reason}.\n" in page for name, reason in NOT_OFFERED.items())
    assert all(reason[-1].isalnum() and len(reason) > 20 for reason in NOT_OFFERED.values())


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["protocols", "--markdown"]) == 0
    assert capsys.readouterr().out == paper_protocols_markdown()
