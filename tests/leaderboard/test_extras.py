"""Curves and pictures of submissions: what is read, what is refused, and what enters the page."""

import json
import re

import pytest
from fabricate import make_card, make_result

from leaderboard.analysis import analyse
from leaderboard.errors import LeaderboardError
from leaderboard.extras import read_extras
from leaderboard.page import render
from leaderboard.page_data import Background

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNgAAAAAgAB5Sfe/AAAAABJRU5ErkJggg=="
)


def curves(sha256, *found):
    return {"schema_version": 1, "sha256": sha256, "curves": list(found)}


def curve(**fields):
    return {"name": "loss", "steps": [10, 20], "values": [2.5, -0.5], "errors": None} | fields


def table(sha256, title, *pictures):
    return {"sha256": sha256, "title": title, "rows": [{"name": "image", "pictures": list(pictures)}]}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_files_below_the_folder_are_found_by_their_weights(tmp_path):
    one, two = "1" * 64, "2" * 64
    write(tmp_path / "a" / "curves.json", curves(one, curve()))
    write(tmp_path / "b" / "curves.json", curves(one, curve(name="another export of the same weights")))
    write(tmp_path / "pictures.json", {"schema_version": 1, "tables": [table(one, "VOC", PIXEL), table(two, "VOC")]})
    with pytest.raises(LeaderboardError, match=r"pictures\.json: tables\.1\.rows\.0\.pictures"):
        read_extras(tmp_path)
    tables = [table(one, "VOC", PIXEL, PIXEL), table(two, "VOC", PIXEL), table(one, "Objects", PIXEL)]
    write(tmp_path / "pictures.json", {"schema_version": 1, "tables": tables})
    extras = read_extras(tmp_path)
    assert [found.name for found in extras.curves[one]] == ["loss"]
    assert extras.of({one, "3" * 64}) == {
        "curves": {one: [curve()]},
        "tables": {
            one: [{"title": "VOC", "rows": [["image", [0, 0]]]}, {"title": "Objects", "rows": [["image", [0]]]}]
        },
        "pictures": [PIXEL],
    }
    assert extras.of({"3" * 64}) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (curves("1" * 64, curve(values=[1.0])), "as many values and errors as steps"),
        (curves("1" * 64, curve(errors=[])), "as many values and errors as steps"),
        (curves("1" * 64, curve(values=[1.0, float("nan")])), r"values\.1"),
        (curves("1" * 64, curve(steps=[], values=[])), "steps"),
        (curves("weights"), "sha256"),
        (curves("1" * 64, curve(name="a\nb")), "name"),
        (curves("1" * 64) | {"more": 1}, "more"),
        ([], "object"),
    ],
)
def test_a_file_that_is_not_valid_is_named(tmp_path, content, message):
    write(tmp_path / "curves.json", content)
    with pytest.raises(LeaderboardError, match=rf"curves\.json: .*{message}"):
        read_extras(tmp_path)


@pytest.mark.parametrize(
    "address",
    ["https://example.org/a.png", "data:image/svg+xml;base64,AAAA", 'data:image/png;base64,AA" x="', ""],
)
def test_pictures_load_nothing_from_elsewhere(tmp_path, address):
    write(tmp_path / "pictures.json", {"schema_version": 1, "tables": [table("1" * 64, "VOC", address)]})
    with pytest.raises(LeaderboardError, match=r"pictures\.json: tables\.0\.rows\.0\.pictures\.0"):
        read_extras(tmp_path)


def test_a_missing_folder_and_a_text_are_refused(tmp_path):
    with pytest.raises(LeaderboardError, match="no such folder"):
        read_extras(tmp_path / "nothing")
    (tmp_path / "curves.json").write_text("loss 1.0")
    with pytest.raises(LeaderboardError, match=r"curves\.json: .*JSON"):
        read_extras(tmp_path)


def test_the_page_holds_what_belongs_to_its_rows_alone(tmp_path):
    board = analyse([make_result("moco"), make_result("densecl")])
    write(tmp_path / "a" / "curves.json", curves(make_card("moco").sha256, curve()))
    write(tmp_path / "b" / "curves.json", curves("f" * 64, curve(name="of others")))
    page = render(board, background=Background(extras=read_extras(tmp_path)))
    (found,) = re.findall(r'<script type="application/json" id="extras">(.*?)</script>', page)
    assert json.loads(found) == {"curves": {make_card("moco").sha256: [curve()]}, "tables": {}, "pictures": []}
    assert 'id="extras"' not in render(board)
