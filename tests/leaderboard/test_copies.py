"""Rows whose backbones were pretrained on copies of test images are marked."""

from __future__ import annotations

import pytest
from fabricate import make_card, make_result
from pydantic import ValidationError

from leaderboard import frame, tables
from leaderboard.analysis import analyse
from leaderboard.board import Board
from leaderboard.records import Card, Copies, Pretraining, read_card_json

SEG, DET = "mini_voc_seg_fcn", "mini_voc_det_frcnn_fpn"


def card(name: str, copies: dict[str, int] | None) -> Card:
    found = None if copies is None else tuple(Copies(dataset=d, tested=1_449, copies=n) for d, n in copies.items())
    return make_card(name, pretraining=Pretraining.known(data="web", copies=found))


def board(*cards: Card) -> Board:
    return analyse([make_result(one, SEG, seed, 20.0 + seed) for one in cards for seed in (0, 1)])


def figures(made: Board) -> dict[str, str]:
    """The table's value of each submission."""
    lines = [line.split("|") for line in tables.markdown(made).splitlines() if line.startswith("| ")][1:]
    return {line[1].strip(): line[3].strip() for line in lines}


def test_values_with_copies_have_a_mark_and_a_note() -> None:
    made = board(
        card("web", {"voc2012_seg": 12, "coco2017": 0}), card("clean", {"voc2012_seg": 0}), card("silent", None)
    )
    found = figures(made)
    assert found["web"] == f"{found['clean']}{tables.COPIES_MARK}" and found["silent"] == found["clean"]
    assert made.notes == ("web: copies of 12 of the 1,449 test images of voc2012_seg are among its pretraining images",)
    text = tables.markdown(made)
    assert f"{tables.COPIES_MARK}: copies of test images are among the pretraining images." in text
    assert "copies of 12 of the 1,449 test images" in text
    assert "$^\\ddagger$" in tables.latex(made)
    table = frame.frame(made).set_index("submission")["test_copies"]
    assert table.loc["web"] == 12 and table.loc["clean"] == 0 and table.isna().loc["silent"]


def test_copies_of_other_test_images_are_no_matter() -> None:
    made = board(card("web", {"coco2017": 12}))
    assert tables.COPIES_MARK not in tables.markdown(made) and made.notes == ()


def test_the_largest_number_counts_where_results_carry_different_cards() -> None:
    results = [
        make_result(card("web", copies), SEG, seed, 20.0)
        for seed, copies in enumerate((None, {"voc2012_seg": 3}, {"voc2012_seg": 2}))
    ]
    made = analyse(results)
    assert figures(made)["web"].endswith(tables.COPIES_MARK)
    assert any("copies of 3 of" in note for note in made.notes)


def test_a_card_with_copies_is_read_as_it_was_written() -> None:
    written = card("web", {"voc2012_seg": 12})
    assert read_card_json(written.to_json().encode()) == written
    assert written.pretraining.copies_of("voc2012_seg") == Copies(dataset="voc2012_seg", tested=1_449, copies=12)
    assert written.pretraining.copies_of("coco2017") is None
    with pytest.raises(ValidationError, match="1450 copies of 1449 test images"):
        card("web", {"voc2012_seg": 1_450})
