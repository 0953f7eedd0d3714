"""Markdown, LaTeX and terminal tables."""

import csv
import io
import re

import pytest
from fabricate import make_card, make_probe, make_protocol, make_result, make_results
from rich.console import Console

from leaderboard import frame, page, tables
from leaderboard.analysis import analyse
from leaderboard.records import Pretraining
from leaderboard.text import DASH

SEG, DET = "mini_voc_seg_fcn", "mini_voc_det_frcnn_fpn"
BASIC = {
    "random": {SEG: [10.0, 11.0, 12.0], DET: [1.0, 2.0, 3.0]},
    "moco": {SEG: [20.0, 20.5, 21.0], DET: [5.0, 5.5, 6.0]},
    "densecl": {SEG: [30.0, 31.0, 32.0], DET: [5.1, 5.6, 6.1]},
}


def board_of(values):
    return analyse(make_results(values))


def terminal(board, width):
    console = Console(file=io.StringIO(), width=width)
    for track in board.tracks:
        console.print(tables.TerminalTable(track))
    return console.file.getvalue()


def test_markdown_by_hand():
    lines = tables.markdown(board_of(BASIC)).splitlines()
    assert lines[0] == tables.BEGIN
    assert lines[2] == "### Track mini, resnet18"
    assert [line.replace(DASH, "-") for line in lines[4:9]] == [
        "| Submission | Method | VOC det Faster R-CNN FPN AP | VOC seg FCN mIoU | Rank | Score | Tier |",
        "|---|---|---:|---:|---:|---:|---:|",
        "| densecl | DenseCL | 5.6 ± 1.2 | **31.0 ± 2.5** | 1.0 [1.0-1.5] | 13.1 ± 1.2 | 1 |",
        "| moco | MoCo v2 | 5.5 ± 1.2 | 20.5 ± 1.2 | 2.0 [1.5-2.0] | 7.1 ± 1.1 | 2 |",
        "| random | random initialisation | 2.0 ± 2.5 | 11.0 ± 2.5 | 3.0 [3.0-3.0] | 0.0 | 3 |",
    ]
    assert "95 % interval over 3 seeds of one checkpoint." in lines[10]
    assert lines[-1] == tables.END


def figures_of(text):
    """What a table says of ties: the values, scores and tiers of each row."""
    rows = [re.sub(r"\\pm|[$|&*\\{}]|textbf", " ", line.replace("\\pm", "±")).split() for line in text.splitlines()]
    return {row[0]: row[-5:] for row in rows if row and row[0] in BASIC}


def test_all_outputs_show_the_same_ties():
    """`one truth`: score, its interval and the tier are the last words of a row everywhere; also in CSV and page."""
    board = board_of(BASIC)
    shown = {name: figures[-4:] for name, figures in figures_of(tables.markdown(board)).items()}
    assert shown["densecl"] == ["13.1", "±", "1.2", "1"]
    for text in (tables.latex(board), terminal(board, 120)):
        found = {name: figures[-4:] for name, figures in figures_of(text).items()}
        assert {name: found[name] for name in ("densecl", "moco")} == {
            name: shown[name] for name in ("densecl", "moco")
        }
    for row in csv.DictReader(io.StringIO(frame.csv(board))):
        low, high = (float(row[f"overall_score_{end}"] or "nan") for end in ("low", "high"))
        if row["submission"] != "random":
            assert shown[row["submission"]] == [
                f"{float(row['overall_score']):.1f}", "±", f"{(high - low) / 2:.1f}", row["overall_tier"]
            ]  # fmt: skip
    html = page.render(board)
    for name, (score, _, half, tier) in ((name, shown[name]) for name in ("densecl", "moco")):
        row = next(row for row in html.split("<tr") if f">{name}<span" in row)
        assert f'>{score}<span class="half"> ± {half}</span>' in row
        assert f'<td class="num">{tier}</td>' in row


def test_seeds_that_differ_failures_and_gaps_are_marked():
    values = {**BASIC, "few": {SEG: [15.0]}, "shaky": {SEG: [16.0, None, 17.0]}, "broken": {SEG: [None]}}
    text = tables.markdown(board_of(values))
    assert "| few | few | – | 15.0 (1) | 4.0 1/2 | 4.5 | – |" in text  # noqa: RUF001
    assert "16.5 ± 6.4 (2s)† |" in text
    assert "| broken | broken | – | failed | – | – | – |" in text  # noqa: RUF001
    assert "(s) over that number of seeds of one checkpoint; (1) a single run." in text
    assert "1/2" in text and "m/2: has m of 2 protocols" in text
    assert "†: some runs failed" in text


def test_one_seed_each_is_said():
    text = tables.markdown(board_of({"a": {SEG: [1.0]}, "b": {SEG: [2.0]}}))
    assert "A single run each, without an interval." in text
    assert "takes part in no test" in text
    assert "±" not in text.splitlines()[6]
    assert "**" not in text


def test_strangers_words_cannot_break_the_tables():
    hostile = make_card("x", method="<script>alert(1)</script>|a | **b** \\end{tabular} 100%")
    board = analyse([make_result(hostile), make_result("moco", seed=1)])
    text = tables.markdown(board)
    assert "<script" not in text
    assert all(line.count("|") == 7 for line in text.splitlines() if line.startswith("|"))
    latex = tables.latex(board)
    assert latex.count("\\end{tabular}") == 1
    assert all(line.count(" & ") == 5 for line in latex.splitlines() if line.endswith("\\\\"))


def test_a_terminal_shows_the_best_and_counts_the_rest():
    board = board_of({f"s{i:02}": {SEG: [float(i)]} for i in range(tables.MOST_SHOWN + 7)})
    text = terminal(board, 120)
    assert "s56" in text
    assert "s07" in text
    assert "s06" not in text
    assert " ".join(text.split()).endswith("And 7 more rows, in the files that the command writes.")
    assert "| s00 |" in tables.markdown(board)
    assert "more rows" not in terminal(board_of(BASIC), 120)


def test_latex_by_hand():
    lines = tables.latex(board_of(BASIC)).splitlines()
    assert lines[0].startswith("% Track mini, resnet18. ")
    assert lines[1:3] == ["\\begin{tabular}{llrrrrr}", "\\toprule"]
    assert lines[5].startswith("densecl & DenseCL & 5.6 $\\pm$ 1.2 & \\textbf{31.0 $\\pm$ 2.5} & ")
    assert lines[-2:] == ["\\bottomrule", "\\end{tabular}"]


@pytest.mark.parametrize("width", [200, 100, 80, 60])
def test_terminal_loses_nothing(width):
    board = board_of({**BASIC, "a-long-name-of-a-submission": BASIC["moco"]})
    text = terminal(board, width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    words = text.replace("±", " ± ").split()
    for word in ["31.0", "2.5", "Rank", "Score", "Tier", "13.1", "1.0"]:
        assert word in words


def test_four_protocols_fit_80_columns():
    four = [SEG, DET, "mini_coco_mrcnn_fpn", "mini_city_seg_fcn"]
    several = {
        name: {id: [base, base + 0.7, base + 1.3] for id in four}
        for name, base in (("densecl-mini", 31.2), ("moco-v2-mini", 24.1), ("random", 12.3))
    }
    several["moco-v2-mini-imagenet-800ep"] = {id: [28.0, 28.9] for id in four}
    lines = terminal(board_of(several), 80).splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines if line.startswith(("densecl-mini", "moco-v2-mini ", "random"))]
    assert [(row[0], len(row)) for row in rows] == [("densecl-mini", 8), ("moco-v2-mini", 8), ("random", 8)]
    assert all(re.fullmatch(r"\d+\.\d±\d+\.\d", value) for row in rows for value in row[1:5])
    assert [line.count("(2s)") for line in lines if "(2s)" in line] == [4]


def test_each_architecture_has_a_table():
    results = [make_result("moco"), make_result(make_card("big", architecture="resnet50"))]
    text = terminal(analyse(results), 100)
    assert text.index("Track mini, resnet18") < text.index("moco") < text.index("Track mini, resnet50")


def test_a_missing_zero_is_explained():
    text = tables.markdown(board_of({name: found for name, found in BASIC.items() if name != "random"}))
    assert "(none: `densebench submit random:resnet18` gives it its zero)" in text
    partly = tables.markdown(board_of({**BASIC, "random": {SEG: [10.0, 11.0]}}))
    assert "(none in VOC det Faster R-CNN FPN: `densebench submit random:resnet18`" in partly


def test_tables_without_results_of_the_declared_protocols_say_so():
    board = analyse([make_result("moco")], {"mini": [make_protocol(SEG, version=2)]})
    assert "There are no results under the protocols that this track declares." in tables.markdown(board)


def test_what_an_interval_is_over_is_marked():
    seen = [Pretraining.known(group="a" * 16, seed=seed) for seed in range(2)]
    runs = [
        make_result(make_card(f"m-{i}", method="M", pretraining=one), SEG, 0, 20.0 + i) for i, one in enumerate(seen)
    ]
    text = tables.markdown(analyse([*make_results(BASIC), *runs]))
    assert "20.5 ± 6.4 (2p)" in text and "; (p) over that number of pretraining runs of the method (of random" in text
    probes = tables.markdown(analyse([make_probe("moco", 52.0), make_probe("random", 48.0)]))
    assert "| **52.0 ± 1.0** |" in probes and "for the draw of the validation images, given the one run." in probes


def test_terminal_takes_no_markup():
    text = terminal(analyse([make_result(protocol=make_protocol(headline="[red]AP[/]"))]), 100)
    assert "[red]AP[/]" in text


def test_embed_renews_only_the_table():
    first, second = tables.markdown(board_of(BASIC)), tables.markdown(board_of({"a": {SEG: [1.0]}}))
    page = f"# Title\n\n{first}\nText below.\n"
    renewed = tables.embed(page, second)
    assert renewed == f"# Title\n\n{second}\nText below.\n"
    assert tables.embed(renewed, second) == renewed
    assert tables.embed("no marks", second) is None
    assert tables.embed(tables.END + tables.BEGIN, second) is None


def test_no_results():
    board = analyse([])
    assert "No results yet." in tables.markdown(board)
    assert tables.latex(board).startswith("%")


def test_a_title_in_the_caption_is_text(tmp_path):
    """A protocol without random initialization is named there; its title may hold the mark that ends the table."""
    hostile = make_protocol("mine_b", track="mine", short_title="a | b <img src=x> <!-- leaderboard: end -->")
    known = make_protocol("mine_a", track="mine", short_title="known")
    results = [make_result(name, known, s, 10.0 + s) for name in ("random", "moco") for s in range(2)]
    results += [make_result("moco", hostile, s, 10.0 + s) for s in range(2)]
    table = tables.markdown(analyse(results))
    assert "none in" in table and "<img" not in table and table.count(tables.END) == 1
    once = tables.embed(f"before\n{table}after", table)
    assert once is not None and tables.embed(once, table) == once
