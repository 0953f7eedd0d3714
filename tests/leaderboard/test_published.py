"""Published values: each has a source and a protocol that is described, and none is ranked."""

import re

from fabricate import make_results

from leaderboard import published
from leaderboard.analysis import analyse
from leaderboard.page import render

SEG = "mini_voc_seg_fcn"


def test_every_value_has_a_source_and_a_described_protocol():
    values = published.values()
    assert len(values) > 40
    for value in values:
        assert 0 < float(value.value) < 100
        in_code, in_paper = r"[\w-]+/[\w-]+(@[0-9a-f]{7,40})? \S+\.(md|png)", r"arXiv \d{4}\.\d{5} Table \d+"
        assert re.fullmatch(f"{in_code}|{in_paper}", value.source)
        assert value.pretraining_epochs is None or value.pretraining_epochs > 0
        assert value.runs is None or value.runs > 1
    assert {value.protocol for value in values} == set(published.protocols())
    assert len(set(values)) == len(values)


def test_the_two_families_of_coco_heads_stay_apart():
    """Their values differ by most of a point for the same backbone."""
    families = {value.protocol for value in published.values() if "mrcnn_fpn_1x" in value.protocol}
    assert families == {"paper_coco_mrcnn_fpn_1x_a", "paper_coco_mrcnn_fpn_1x_b"}


def test_anchor_values():
    """Of the specification's protocol cards."""
    found = {
        (
            value.protocol,
            value.metric,
            value.method,
            value.pretraining_data,
            value.pretraining_epochs,
            value.runs,
        ): value
        for value in published.values()
    }
    moco = ("MoCo v2", "ImageNet-1k", 200.0, 5)
    assert found["paper_voc0712_det_c4_24k", "AP", *moco].value == "57.0"
    assert found["paper_voc12aug_seg_fcn_d8_20k", "mIoU", *moco].value == "67.5"
    assert found["paper_coco_mrcnn_fpn_1x_b", "box AP", "random initialisation", "none", None, None].value == "32.8"


def test_they_stand_beside_measured_rows_and_are_not_ranked():
    board = analyse(make_results({"moco": {SEG: [20.0, 21.0]}}))
    page = render(board)
    assert page.count('<section class="panel" id="published"') == 1
    assert "Not measured here".lower() in page.lower() and "WXinlong/DenseCL@b64bbb6e26 README.md" in page
    assert not {value.protocol for value in published.values()} & {
        group.protocol.id for track in board.tracks for group in track.groups
    }
