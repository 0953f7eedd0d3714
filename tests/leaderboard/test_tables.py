"""Markdown, LaTeX and terminal tables."""

import io

import pytest
from fabricate import make_card, make_protocol, make_result, make_results
from rich.console import Console

from leaderboard import tables
from leaderboard.analysis import analyse

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
    assert (
        lines[2] == "| Submission | Method | Backbone | VOC det Faster R-CNN FPN AP | VOC seg FCN mIoU | Rank | Score |"
    )
    assert lines[4].startswith("| densecl | DenseCL | resnet18 | 5.6 ± 1.2 | **31.0 ± 2.5** | 1.0 [1.0")
    assert lines[6].startswith("| random | random initialisation | resnet18 | 2.0 ± 2.5 | 11.0 ± 2.5 | 3.0 ")
    assert "3 seeds each)" in lines[8]
    assert lines[-1] == tables.END


def test_seeds_that_differ_failures_and_gaps_are_marked():
    values = {**BASIC, "few": {SEG: [15.0]}, "shaky": {SEG: [16.0, None, 17.0]}, "broken": {SEG: [None]}}
    text = tables.markdown(board_of(values))
    assert "| few | few | resnet18 | – | 15.0 (1) | – | – |" in text  # noqa: RUF001
    assert "16.5 ± 6.4 (2)† |" in text
    assert "| broken | broken | resnet18 | – | failed | – | – |" in text  # noqa: RUF001
    assert "†: some runs failed" in text


def test_one_seed_each_is_said():
    text = tables.markdown(board_of({"a": {SEG: [1.0]}, "b": {SEG: [2.0]}}))
    assert "one seed each: no intervals, no tests" in text
    assert "±" not in text.splitlines()[4]
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
    assert " ".join(text.split()).endswith("And 7 more submissions, in the files that the verb writes.")
    assert "| s00 |" in tables.markdown(board)
    assert "more submissions" not in terminal(board_of(BASIC), 120)


def test_latex_by_hand():
    lines = tables.latex(board_of(BASIC)).splitlines()
    assert lines[0].startswith("% Track mini. ")
    assert lines[1:3] == ["\\begin{tabular}{lllrrrr}", "\\toprule"]
    assert lines[5].startswith("densecl & DenseCL & resnet18 & 5.6 $\\pm$ 1.2 & \\textbf{31.0 $\\pm$ 2.5} & ")
    assert lines[-2:] == ["\\bottomrule", "\\end{tabular}"]


@pytest.mark.parametrize("width", [200, 100, 80, 60])
def test_terminal_loses_nothing(width):
    board = board_of({**BASIC, "a-long-name-of-a-submission": BASIC["moco"]})
    text = terminal(board, width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    words = text.split()
    for word in ["31.0", "2.5", "Rank", "Score", "100", "1.0"]:
        assert word in words


def test_terminal_names_the_backbone_where_it_differs():
    results = [make_result("moco"), make_result(make_card("big", architecture="resnet50"))]
    assert "big (resnet50)" in terminal(analyse(results), 100)
    assert "Track mini, resnet18" in terminal(analyse(results[:1]), 100)


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
