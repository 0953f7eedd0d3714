"""The page: well-formed, complete, deterministic, and safe against untrusted text."""

import base64
import hashlib
import json
import random
import re
from html.parser import HTMLParser

import pytest
from fabricate import make_card, make_protocol, make_result, make_results

from leaderboard.analysis import analyse
from leaderboard.page import MOST_ROWS, render
from leaderboard.page_data import Background, MethodSource, relative_address
from leaderboard.records import Copies, Pretraining, TrackDescription

SEG, DET = "mini_voc_seg_fcn", "mini_voc_det_frcnn_fpn"
VALUES = {
    "random": {SEG: [10.0, 11.0, 12.0], DET: [1.0, 2.0, 3.0]},
    "moco": {SEG: [20.0, None, 21.0], DET: [5.0, 5.5, 6.0]},
    "densecl": {SEG: [30.0, 31.0, 32.0]},
    "broken": {SEG: [None]},
}
VOID = {"meta", "link", "input", "line", "circle", "path", "br"}
HOSTILE = '</script><script>alert(1)</script><img src=x onerror=alert(1)>"\' onmouseover="x {{ 7 * 7 }}'


class Page(HTMLParser):
    """Elements, attributes and texts of a page; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.scripts, self.styles = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        if self.open and self.open[-1] == "style":
            self.styles.append(data)

    def all(self, tag):
        return [attributes for found, attributes in self.elements if found == tag]


@pytest.fixture(scope="module")
def page():
    return Page(render(analyse(make_results(VALUES))))


def names_by_table(text):
    """The names of each table's rows in the HTML itself, by the table's address."""
    panels = re.findall(r'<section class="panel" id="([^"]*)"(.*?)</section>', text, re.DOTALL)
    return {id_: re.findall(r'<th scope="row" class="name">([^<]*)<', body) for id_, body in panels}


def test_every_submission_has_its_rows_without_a_script():
    found = names_by_table(render(analyse(make_results(VALUES))))
    assert found["overall.mini.resnet18"] == ["moco", "random", "densecl", "broken"]
    assert found[f"{SEG}.resnet18"] == ["densecl", "moco", "random", "broken"]


def test_long_tables_keep_their_first_rows_in_the_html():
    board = analyse([make_result(f"m{i:03}", SEG, 0, 10.0 + i / 10) for i in range(MOST_ROWS + 5)])
    text = render(board)
    assert [len(names) for names in names_by_table(text).values()] == [MOST_ROWS, MOST_ROWS, 0]
    assert text.count("And 5 more rows, which need JavaScript.") == 2
    assert len(json.loads(Page(text).scripts[2])["entries"]) == MOST_ROWS + 5


def test_tables_are_accessible(page):
    assert all(a.get("scope") in {"col", "row"} for a in page.all("th"))
    assert len(page.all("table")) == len(page.all("section")) == 4
    labels = {a["id"] for a in page.all("a") if "id" in a}
    assert all(a["aria-labelledby"] in labels for a in page.all("section"))
    assert {a["href"][1:] for a in page.all("a") if a.get("role") == "tab"} == {a["id"] for a in page.all("section")}
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_provenance_is_complete(page):
    data = json.loads(page.scripts[1])
    results = make_results(VALUES)
    found = {
        run["key"]: (run, sid, gid)
        for sid, cells in data["cells"].items()
        for gid, cell in cells.items()
        for run in cell
    }
    assert len(found) == len(results)
    for result in results:
        run, sid, gid = found[result.key]
        assert run["seed"] == result.seed
        assert run["failure"] == result.failure
        assert run["metrics"] == pytest.approx(result.metrics, abs=1e-4)
        assert data["environments"][run["environment"]] == result.environment.model_dump(mode="json")
        assert data["cards"][sid] == [result.card.model_dump(mode="json")]
        assert data["groups"][gid]["protocol"] == result.protocol.model_dump(mode="json")
        assert data["groups"][gid]["dataset"] == result.dataset.model_dump(mode="json")


def test_background_is_asked_only_for_what_the_board_shows():
    asked = []

    def method(name):
        asked.append(name)
        return MethodSource("arXiv 2011.09157", ("a/b",)) if name == "DenseCL" else None

    background = Background(method, lambda sha256: f"text of {sha256[:4]}")
    data = json.loads(Page(render(analyse(make_results(VALUES)), {}, background)).scripts[1])
    assert data["methods"] == {"DenseCL": {"paper": "arXiv 2011.09157", "code": ["a/b"]}}
    assert sorted(asked) == sorted({card["method"] for cards in data["cards"].values() for card in cards})
    hashes = {group["protocol"]["sha256"] for group in data["groups"].values()}
    assert data["definitions"] == {sha256: f"text of {sha256[:4]}" for sha256 in hashes}


def test_a_page_of_pictures_is_linked_where_there_is_one(tmp_path):
    board = analyse(make_results(VALUES))
    address = relative_address(tmp_path / 'a "b" & c.html', tmp_path / "page")
    assert address == "../a%20%22b%22%20%26%20c.html"
    linked = Page(render(board, {}, Background(pictures=address)))
    assert {"href": address} in linked.all("a")
    assert "Pictures of" not in render(board)


def test_failures_are_visible():
    text = render(analyse(make_results(VALUES)))
    assert "1 of 3 failed" in text
    assert "1 of 1 failed" in text


def test_copies_of_test_images_are_marked():
    found = (Copies(dataset="voc2012_seg", tested=1449, copies=12),)
    card = make_card("web", pretraining=Pretraining.known(copies=found))
    text = render(analyse([make_result(card, SEG, seed, 20.0 + seed) for seed in range(2)]))
    assert text.count('title="copies of 12 of 1449 test images among the pretraining images">‡<') == 1
    assert text.count('<span class="flag">copies of 12 of 1449 test images among the pretraining images</span>') == 1


def test_groups_that_are_not_current_say_so():
    results = [make_result("moco", make_protocol(SEG, version=version), 0, 10.0) for version in (1, 2)]
    text = render(analyse(results, {"mini": [results[0].protocol]}))
    assert text.count("Not current:") == 1
    assert text.count("Current: the overall standings") == 1


def page_of(word):
    """A board on which `word` is said wherever a stranger can say something."""
    seen = Pretraining.known(data=word, recipe=word, labels=word, crops=word)
    card = make_card("x", method=word, pretraining=seen, license=word)
    protocol = make_protocol("p", headline=word, dataset=word)
    results = [
        make_result(card, protocol, 0, 5.0, metrics={f"{word} 2": 1.0}),
        make_result(card, protocol, 1, None, failure=word),
    ]
    return render(analyse(results))


def test_strangers_words_are_only_text():
    text = page_of(HOSTILE)
    page, clean = Page(text), Page(page_of("word"))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in clean.elements]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert json.loads(page.scripts[1])["cards"].popitem()[1][0]["method"] == HOSTILE
    assert "<img" not in text
    assert "7 * 7" in text


def test_the_policy_admits_exactly_the_inlined_code(page):
    policy = page.all("meta")[1]["content"]
    assert "default-src 'none'" in policy
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
        for code in (page.styles[0], page.scripts[0], page.scripts[3])
    ]
    assert f"style-src {hashes[0]};" in policy
    assert f"script-src {hashes[1]} {hashes[2]};" in policy
    assert not [a for _, a in page.elements if "style" in a]


def test_nothing_comes_from_the_network(page):
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:,"))
    text = render(analyse(make_results(VALUES)))
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket|import\(", text)
    # What stays is the namespace of SVG, and the beginnings of links, which load nothing until they are followed.
    begun = {
        "https://github.com/",
        "https://arxiv.org/abs/",
        "https://spdx.org/licenses/",
        "http://www.w3.org/2000/svg",
    }
    assert {found.split("$")[0] for found in re.findall(r"https?://[^\s\"`]*", text)} == begun


def test_equal_results_give_equal_bytes():
    results = make_results(VALUES)
    text = render(analyse(results))
    random.Random(1).shuffle(results)
    assert render(analyse(results)) == text


def test_the_script_makes_no_html_of_strings(page):
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page.scripts[0] + page.scripts[3]
    )


def test_no_results():
    assert "No results yet." in render(analyse([]))


def test_a_track_is_described_above_its_protocols():
    about = TrackDescription(id="mini", purpose=f"Screening {HOSTILE}", rules=("All layers are trained.", HOSTILE))
    plain, described = render(analyse(make_results(VALUES))), render(analyse(make_results(VALUES)), {"mini": about})
    assert "<li>All layers are trained.</li>" in described
    assert described.index("Screening") < described.index('<table class="overall">')
    assert "<img" not in described
    assert "Rules of this track" not in plain
    Page(described)
    other = TrackDescription(id="paper", purpose="Another track.", rules=())
    assert render(analyse(make_results(VALUES)), {"paper": other}) == plain


def test_tables_that_are_wider_than_a_phone_are_scrolled_by_keyboard(page):
    scrolled = [a for a in page.all("div") if a.get("class") == "scroll"]
    assert scrolled and all((a["tabindex"], a["role"]) == ("0", "region") and a["aria-label"] for a in scrolled)


def test_colors_are_light_on_dark_on_screens_alone(page):
    blocks = re.split(r"(?=@media)", page.styles[0])
    dark = [block for block in blocks if "color-scheme: dark" in block]
    assert len(dark) == 2 and all(block.startswith("@media screen") for block in dark)
