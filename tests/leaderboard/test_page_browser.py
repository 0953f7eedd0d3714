"""The page as a reader uses it: driven in headless Chromium, from a file and without network."""

import csv
import io
import shutil
from contextlib import contextmanager

import pytest
from fabricate import make_card, make_probe, make_protocol, make_result
from test_extras import PIXEL

from leaderboard.analysis import analyse
from leaderboard.extras import Extras
from leaderboard.page import MOST_ROWS, render
from leaderboard.page_data import Background
from leaderboard.records import RANDOM_METHOD, Copies, Pretraining
from leaderboard.records.extras import Curve, PictureRow, PictureTable

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, to drive the page")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, to open the page")

DET, SEG, PAPER = "mini_voc_det_frcnn_fpn", "mini_voc_seg_fcn", "paper_voc0712_det_c4_24k"
HOSTILE = '</script><script>alert(1)</script><img src=x onerror=alert(1)>"\' onmouseover="x {{ 7 * 7 }}'
INHERITED = ["constructor", "toString", "__proto__", "hasOwnProperty", "valueOf"]
METHODS = ["random", "moco", "densecl", "pixpro", "byol", "swav"]


def submissions(architecture="resnet18", suffix=""):
    """Results of six methods under two protocols with three seeds; two data sets, licenses and budgets."""
    results = []
    for i, method in enumerate(METHODS):
        seen = Pretraining.known(
            data=("ImageNet-1k", "COCO")[i % 2], epochs=(100, 200)[i // 4], image_views=(10**6, 2 * 10**6)[i // 4],
            recipe=f"{method}-mini (settings 0123)", seed=0,
        )  # fmt: skip
        fields = {"license": ("MIT", None)[i % 2], "pretraining": seen} if i else {"pretraining": Pretraining.known()}
        fields["method"] = RANDOM_METHOD if i == 0 else method.upper()
        card = make_card(method + suffix, architecture=architecture, **fields)
        results += [make_result(card, p, s, 20 + 4 * i + s / 2 + (p == DET)) for p in (DET, SEG) for s in range(3)]
        results.append(make_probe(card, 30 + i, error=0.5, verification="logs" if i % 3 else "self-reported"))
    return results


def everything():
    results = submissions() + submissions("vit_small_patch16", "-vit")
    paper = make_protocol(PAPER, track="paper", headline="AP")
    copies = (Copies(dataset=paper.dataset, tested=1449, copies=12),)
    card = make_card("moco50", architecture="resnet50", pretraining=Pretraining.known(copies=copies))
    results += [make_result(card, paper, s, 50.0 + s) for s in range(2)]
    results += [make_result("byol", SEG, 3, None), make_result("densecl", make_protocol(SEG, version=2), 0, 9.0)]
    return results


def board():
    return analyse(everything(), {"mini": [make_protocol(DET), make_protocol(SEG)]})


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        # Tests run as root in containers, where Chromium has no sandbox; it opens these tests' own files alone.
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    file = tmp_path_factory.mktemp("site") / "index.html"
    file.write_text(render(board()), encoding="utf-8")
    return file


@contextmanager
def reading(browser, file, address="", **options):
    """A page that fails the test at its end if it logged an error or asked for anything but its own file."""
    context = browser.new_context(**options)
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url.split("#")[0]))
    page.goto(f"{file.as_uri()}{address}")
    yield page
    context.close()
    assert said == []
    assert {url for url in asked if not url.startswith(("data:", "blob:"))} == {file.as_uri()}


def names(page):
    return page.locator(".panel.shown tbody:not(.literature) .name > a").all_text_contents()


def column(page, key):
    """Texts of a column of the shown table, by the key of its heading."""
    at = page.eval_on_selector(f".panel.shown [data-key='{key}']", "(button) => button.closest('th').cellIndex")
    return page.eval_on_selector_all(
        ".panel.shown tbody:not(.literature) tr", f"(rows) => rows.map((row) => row.cells[{at}].textContent.trim())"
    )


def place(page):
    return page.evaluate("location.hash")


def test_a_readers_way_through_the_page(browser, site):
    with reading(browser, site) as page:
        page.get_by_label("Track", exact=True).select_option("mini")
        assert names(page) == ["swav", "byol", "pixpro", "densecl", "moco", "random"]
        page.get_by_role("button", name="Submission").click()
        assert names(page) == sorted(METHODS) and "sort=name" in place(page)
        page.get_by_role("button", name="Submission").click()
        assert names(page) == sorted(METHODS, reverse=True)
        page.get_by_label("Pretrained on").select_option("COCO")
        assert names(page) == ["swav", "random", "pixpro", "moco"]
        assert column(page, "place") == ["1", "4", "2", "3"]
        assert "among the 4 of 6 rows" in page.locator(".panel.shown .filtered").inner_text()
        page.get_by_placeholder("Search submissions").fill("pix")
        assert names(page) == ["pixpro"] and column(page, "place") == ["2"]
        assert page.locator("#count").inner_text() == "1 of 6 rows"
        page.get_by_placeholder("Search submissions").fill("")
        page.get_by_label("Compare swav").check()
        page.get_by_label("Compare moco").check()
        page.get_by_role("link", name="Compare side by side").click()
        assert page.locator("article h2").inner_text() == "Side by side differences from swav"
        page.locator("article").get_by_role("link", name="moco", exact=True).click()
        assert page.locator("article h2").inner_text() == "moco submission"
        assert "densebench pretrain moco-mini --data IMAGES --seed 0" in page.locator("article pre").inner_text()
        assert "densebench submit runs/moco/export --name moco --data DATA" in page.locator("article pre").inner_text()
        assert page.evaluate("document.activeElement.tagName") == "H2"
        page.go_back()
        assert "Side by side" in page.locator("article h2").inner_text()
        page.go_back()
        assert names(page) == ["swav", "random", "pixpro", "moco"]
        assert page.get_by_label("Compare moco").is_checked()
        page.go_forward()
        assert "Side by side" in page.locator("article h2").inner_text()
        page.get_by_role("link", name="← Back to the table").click()
        assert names(page) == ["swav", "random", "pixpro", "moco"]


@pytest.mark.slow
def test_what_the_script_draws_is_what_python_wrote(browser, site):
    texts = "(rows) => rows.map((row) => Array.from(row.cells, (cell) => cell.innerText.trim()).filter(Boolean))"
    with reading(browser, site) as page, reading(browser, site, java_script_enabled=False) as plain:
        ids = page.eval_on_selector_all(".panel", "(panels) => panels.map((panel) => panel.id)")
        assert len(ids) == 14
        for id_ in ids:
            page.evaluate("(id) => { location.hash = id; }", id_)
            page.locator(f"[id='{id_}'].shown").wait_for()
            written = plain.locator(f"[id='{id_}'] tbody tr").evaluate_all(texts)
            drawn = page.locator(f"[id='{id_}'] tbody:not(.literature) tr").evaluate_all(texts)
            # without the script, all published values are there; the script draws as many rows as of other tables
            assert drawn == (written[:MOST_ROWS] if id_ == "published" else written)


@pytest.mark.slow
@pytest.mark.parametrize(
    "address", ["#%", "#%E0%A4%A", "#nothing", "#submission/none", "#protocol/constructor", "#backbones/no", ""]
)
def test_an_address_that_names_nothing_shows_the_first_table(address, browser, site):
    with reading(browser, site, address) as page:
        assert page.locator(".panel.shown").get_attribute("id") == "overall.frozen.resnet18"
        assert len(names(page)) == 6


@pytest.mark.slow
def test_every_view_has_an_address(browser, site):
    """What is reached within the page is what its address shows to somebody else."""
    views = [
        "#overall.mini.resnet18?data=COCO&q=o&sort=-name",
        "#overall.mini.resnet18?budget=views%3A1000000&protocols=mini_voc_seg_fcn.resnet18",
        f"#{SEG}.vit_small_patch16?license=unstated&sort=-value",
        "#published?data=COCO&q=densecl",
        f"#protocol/{SEG}.resnet18",
    ]
    with reading(browser, site) as page, reading(browser, site) as other:
        for view in views:
            page.evaluate("(hash) => { location.hash = hash; }", view)
            page.wait_for_function("() => location.hash === shown")
            assert page.evaluate("address(readAddress())") == page.evaluate("location.hash")
            other.goto(f"{site.as_uri()}{view}")
            other.reload()
            assert other.locator("main").inner_text() == page.locator("main").inner_text()


@pytest.mark.slow
def test_filters_say_what_is_left_and_an_empty_search_says_so(browser, site):
    with reading(browser, site, "#overall.mini.resnet18?budget=views%3A1000000") as page:
        assert names(page) == ["pixpro", "densecl", "moco", "random"]
        page.get_by_label("License").select_option("unstated")
        assert names(page) == ["pixpro", "moco", "random"]
        page.get_by_placeholder("Search submissions").fill("<no such>")
        assert "No row matches “<no such>” and the filters." in page.locator(".panel.shown tbody").inner_text()
        page.get_by_role("button", name="Clear search and filters").click()
        assert len(names(page)) == 6 and page.get_by_placeholder("Search submissions").input_value() == ""
        page.get_by_role("checkbox", name="VOC det Faster R-CNN FPN").uncheck()
        headings = page.locator(".panel.shown thead th").all_inner_texts()
        assert not any("VOC det" in heading for heading in headings) and any("VOC seg" in h for h in headings)


@pytest.mark.slow
def test_backbones_are_never_ranked_together(browser, site):
    with reading(browser, site, "#overall.mini.resnet18") as page:
        page.get_by_label("Backbone", exact=True).select_option("*")
        panels = page.locator(".panel.shown")
        assert panels.count() == 2
        for at in range(2):
            assert panels.nth(at).locator("tbody .rank").all_text_contents() == ["1", "2", "3", "4", "5", "6"]
        page.get_by_label("Compare swav", exact=True).check()
        page.get_by_label("Compare swav-vit", exact=True).check()
        page.get_by_role("link", name="Compare side by side").click()
        assert "Submissions of different backbones have no table in common" in page.locator("article").inner_text()
        assert page.locator("article table").count() == 0


@pytest.mark.slow
def test_reported_values_stand_below_and_are_not_ranked(browser, site):
    with reading(browser, site, f"#{PAPER}.resnet50") as page:
        assert "not measured here and not ranked" in page.locator(".literature").inner_text()
        reported = page.locator(".literature .reported").count()
        assert reported > 3 and names(page) == ["moco50"]
        page.get_by_label("Values", exact=True).select_option("measured")
        assert page.locator(".literature").count() == 0 and names(page) == ["moco50"]
        page.get_by_label("Values", exact=True).select_option("reported")
        assert page.locator(".literature .reported").count() == reported and names(page) == []
        page.get_by_role("link", name="definition and published values").locator("visible=true").click()
        assert page.locator("article").get_by_role("link", name="facebookresearch/moco").count() > 0


@pytest.mark.slow
def test_a_comparison_gives_differences_with_intervals(browser, site):
    address = "#compare?" + "&".join(f"rows={sid}" for sid in sids("swav", "byol", "random"))
    with reading(browser, site, address) as page:
        tables = page.locator("article table")
        assert tables.count() == 2
        cells = tables.nth(1).locator("tbody tr").first.locator("td").all_inner_texts()
        assert cells[0].startswith("41.5") and cells[3].startswith("-4.0 ± 1.1") and cells[3].endswith("worse")
        page.get_by_role("button", name="Give differences from random").click()
        assert page.locator("article h2").inner_text() == "Side by side differences from random"
        page.get_by_role("button", name="Remove byol").click()
        assert "byol" not in page.locator("article").inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_submission_shows_its_curves_and_pictures(scheme, browser, tmp_path):
    moco, hostile = make_card("moco").sha256, make_card("byol").sha256
    loss = Curve(name="loss", steps=(10, 20, 30), values=(6.25, 3.0, 2.5), errors=None)
    probe = Curve(name="VOC seg linear mIoU", steps=(0, 30), values=(14.0, 17.5), errors=(0.5, 1.0))
    rows = (PictureRow(name="image", pictures=(PIXEL, PIXEL)), PictureRow(name="features", pictures=(PIXEL, PIXEL)))
    tables = {
        moco: (PictureTable(sha256=moco, title="VOC, linear", rows=rows),),
        hostile: (PictureTable(sha256=hostile, title=HOSTILE[:200], rows=rows[:1]),),
    }
    extras = Extras({moco: (probe, loss)}, tables)
    file = tmp_path / "index.html"
    file.write_text(render(board(), background=Background(extras=extras)), encoding="utf-8")
    with reading(browser, file, f"#submission/{sids('moco')[0]}", color_scheme=scheme) as page:
        figures = page.locator(".curves figure")
        assert figures.locator("figcaption").all_text_contents() == ["VOC seg linear mIoU", "loss"]
        said = figures.nth(1).get_by_role("img").get_attribute("aria-label")
        assert said == "loss: from 6.25 at step 10 to 2.5 at step 30, between 2.5 and 6.25"
        assert figures.nth(1).locator(".line").get_attribute("d") == "M48.0 8.0L170.0 94.7L292.0 108.0"
        assert figures.nth(0).locator(".dot").count() == 2 and figures.nth(1).locator(".dot").count() == 0
        assert figures.nth(1).locator(".line").evaluate("(line) => getComputedStyle(line).fill") == "none"
        pictures = page.get_by_role("region", name="VOC, linear")
        assert pictures.get_by_role("img", name="features, image 2").count() == 1
        assert pictures.locator("img").evaluate_all("(all) => all.every((one) => one.complete && one.naturalWidth)")
        page.evaluate("(place) => { location.hash = place; }", f"#submission/{sids('byol')[0]}")
        page.get_by_text(HOSTILE[:30]).wait_for()
        assert page.locator("article img").count() == 2 and page.locator("article .curves").count() == 0
        page.evaluate("(place) => { location.hash = place; }", f"#submission/{sids('swav')[0]}")
        page.locator("h2", has_text="swav").wait_for()
        assert page.locator("article img, article .curves").count() == 0


@pytest.mark.slow
def test_a_protocols_table_shows_the_checked_level(browser, tmp_path):
    levels = {"moco": ("logs", "re-run"), "byol": ("re-run", "re-run"), "swav": ("logs", "self-reported")}
    results = [
        make_result(name, SEG, s, 50.0 + s, verification=of_run)
        for name, runs in levels.items()
        for s, of_run in enumerate(runs)
    ]
    file = tmp_path / "index.html"
    file.write_text(render(analyse(results)), encoding="utf-8")
    for script in (True, False):
        with reading(browser, file, f"#{SEG}.resnet18", java_script_enabled=script) as page:
            rows = page.locator(f"[id='{SEG}.resnet18'] tbody tr")
            shown = {name: rows.filter(has_text=name).locator("td.num").nth(2).inner_text().split() for name in levels}
            assert shown == {"moco": ["2", "logs"], "byol": ["2", "re-run"], "swav": ["2"]}


@pytest.mark.slow
def test_copies_of_test_images_are_marked_side_by_side(browser, tmp_path):
    copies = (Copies(dataset="voc2012_seg", tested=80, copies=3),)
    cards = [make_card("moco", pretraining=Pretraining.known(copies=copies)), make_card("byol")]
    file = tmp_path / "index.html"
    file.write_text(
        render(analyse([make_result(card, SEG, s, 50.0 + s) for card in cards for s in range(2)])), encoding="utf-8"
    )
    address = "#compare?" + "&".join(f"rows={sid}" for sid in sids("moco", "byol"))
    with reading(browser, file, address) as page:
        cells = page.locator("article tbody tr").first.locator("td")
        assert "‡" in cells.nth(0).inner_text() and "‡" not in cells.nth(1).inner_text()
        assert "copies of 3 of 80 test images" in cells.nth(0).locator(".flag").get_attribute("title")
        assert "‡: copies of test images" in page.locator("article .reading").inner_text()


def sids(*wanted):
    """The identifiers in addresses of submissions."""
    return [f"{name}@{make_card(name).sha256[:16]}" for name in wanted]


@pytest.mark.slow
def test_what_is_shown_can_be_downloaded(browser, site):
    with reading(browser, site, "#overall.mini.resnet18?data=COCO&sort=name") as page:
        with page.expect_download() as found:
            page.get_by_role("button", name="Download these 4 rows as CSV").click()
        assert found.value.suggested_filename == "densebench-overall.mini.resnet18.csv"
        rows = list(csv.DictReader(io.StringIO(found.value.path().read_text(encoding="utf-8"))))
        assert [row["submission"] for row in rows] == names(page)
        assert rows[0]["pretraining_data"] == "COCO" and float(rows[0][f"{DET}.resnet18 AP"]) == 25.5


@pytest.mark.slow
def test_names_of_strangers_are_only_text(browser, tmp_path):
    file = tmp_path / "index.html"
    results = []
    for i, word in enumerate([HOSTILE, *INHERITED]):
        environment = make_result().environment.model_copy(update={"packages": {word: "1.0"}})
        seen = Pretraining.known(data=word, recipe=word, labels=word, crops=word)
        card = make_card(f"x{i}", method=word, pretraining=seen, license=word)
        protocol = make_protocol("p", headline=word, dataset=word, version=i + 1)
        fields = {"seconds": {word: 12.0}, "environment": environment, "metrics": {f"{word} 2": 1.0}}
        results += [make_result(card, protocol, 0, 5.0, **fields), make_result(card, protocol, 1, None, failure=word)]
    file.write_text(render(analyse(results)), encoding="utf-8")
    with reading(browser, file) as page:
        for name in page.locator(".panel.shown .name > a").all_text_contents():
            page.get_by_role("link", name=name, exact=True).locator("visible=true").click()
            page.locator("article details").first.evaluate("(details) => { details.open = true; }")
            text = page.locator("article").inner_text()
            word = [HOSTILE, *INHERITED][int(name[1:])]
            assert f"{word.replace('_', ' ').strip()} 12" in " ".join(text.split()) or word == HOSTILE
            assert f"{word} 1.0" in text and f"failed: {word}" in text
            assert "[object" not in text and "function " not in text
            page.locator("article h4 a").first.click()
            assert page.locator("article img, article script").count() == 0
            page.get_by_role("link", name="← Back to the table").click()
        for word in (HOSTILE, *INHERITED):
            page.get_by_label("Pretrained on").select_option(label=word)
            assert len(names(page)) == 1


@pytest.mark.slow
def test_everything_can_be_done_by_keyboard(browser, site):
    with reading(browser, site, "#overall.mini.resnet18?q=") as page:
        page.locator("[role=tab][aria-selected=true]").focus()
        page.keyboard.press("ArrowRight")
        assert page.locator(".panel.shown").get_attribute("id") == f"{DET}.resnet18"
        assert page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Published values"
        page.locator(".panel.shown [data-key='tier']").focus()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.dataset.key") == "tier"
        assert page.locator(".panel.shown [aria-sort]").inner_text().startswith("Tier")
        page.get_by_label("Compare swav").focus()
        page.keyboard.press("Space")
        assert page.locator("#selection").inner_text().startswith("1 chosen")
        page.get_by_label("License").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        assert "license=MIT" in place(page)
        assert page.evaluate("document.activeElement.id") == "filter-license"


@pytest.mark.slow
def test_controls_and_tables_are_named_for_screen_readers(browser, site):
    unnamed = """() => Array.from(document.querySelectorAll("button, input, select, a[href], [role=region]"))
      .filter((element) => element.checkVisibility())
      .filter((element) => !(element.getAttribute("aria-label") || element.labels?.length || element.innerText?.trim()))
      .map((element) => element.outerHTML)"""
    for address in (
        "",
        f"#{SEG}.resnet18",
        "#published",
        f"#submission/{sids('moco')[0]}",
        f"#protocol/{SEG}.resnet18",
    ):
        with reading(browser, site, address) as page:
            assert page.evaluate(unnamed) == []
            assert page.locator("h1").count() == 1
            assert page.locator("th:not([scope])").count() == 0
            ids = page.eval_on_selector_all("[id]", "(found) => found.map((element) => element.id)")
            assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_on_a_phone_every_column_is_reached_and_the_name_stays(browser, site):
    with reading(browser, site, "#overall.mini.resnet18?q=", viewport={"width": 390, "height": 844}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        scroll = page.locator(".panel.shown .scroll").first
        last, name = scroll.locator("tbody tr").first.locator("td").last, scroll.locator("tbody .name").first
        assert last.bounding_box()["x"] > 390
        scroll.evaluate("(element) => element.scrollTo(9999, 0)")
        assert last.bounding_box()["x"] + last.bounding_box()["width"] <= 390
        assert 0 <= name.bounding_box()["x"] < 30
        assert not page.get_by_label("Backbone", exact=True).is_visible()
        page.locator("#filters summary").click()
        assert page.get_by_label("Backbone", exact=True).is_visible()


@pytest.mark.slow
def test_names_do_not_wrap_beside_empty_space(browser, tmp_path):
    long = "a-submission-with-quite-a-long-name-200ep-coco"
    file = tmp_path / "index.html"
    file.write_text(render(analyse([make_probe(long), make_probe("random", 40.0)])), encoding="utf-8")
    with reading(browser, file, viewport={"width": 1280, "height": 900}) as page:
        assert page.get_by_role("link", name=long).bounding_box()["height"] < 30


@pytest.mark.slow
def test_print_is_dark_on_white_in_both_themes_and_without_controls(browser, site):
    color = "() => getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color"
    with reading(browser, site, color_scheme="light") as page:
        light = page.evaluate(color)
        page.get_by_role("button", name="Use the dark theme").click()
        assert page.evaluate(color) != light
        page.emulate_media(media="print")
        assert page.evaluate(color) == light
        for selector in ("#filters", ".tabs", ".theme", ".panel.shown .action", "th.select, td.select"):
            assert not page.locator(selector).first.is_visible()
        assert page.locator(".panel.shown .name").first.is_visible()


@pytest.mark.slow
def test_thousands_of_rows_are_not_all_drawn(browser, tmp_path):
    results = [make_result(f"m{i:04}", SEG, 0, 10.0 + i % 70) for i in range(600)]
    file = tmp_path / "index.html"
    file.write_text(render(analyse(results)), encoding="utf-8")
    with reading(browser, file) as page:
        assert len(names(page)) == MOST_ROWS
        page.locator(".panel.shown [data-key='name']").click()
        page.locator(".panel.shown [data-key='name']").click()
        assert names(page)[0] == "m0599"
        page.get_by_role("button", name="Show 100 more").click()
        assert len(names(page)) == 2 * MOST_ROWS
        assert page.evaluate("document.querySelectorAll('*').length") < 12_000
        page.get_by_role("button", name="Show all 600").click()
        assert len(names(page)) == 600


@pytest.mark.slow
def test_where_the_script_fails_all_tables_are_shown(browser, tmp_path):
    file = tmp_path / "index.html"
    text = render(board()).replace('id="rows">{', 'id="rows">{{')
    file.write_text(text, encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    assert page.locator(".panel:visible").count() == page.locator(".panel").count() > 10
    page.close()
