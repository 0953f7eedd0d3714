"""Tables in Markdown."""

from bench.markdown import markdown_table


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    text = markdown_table(["a", "b"], [["x|y", r"z\|w"], ["", "|"]])
    assert text.split("\n") == ["| a | b |", "| --- | --- |", r"| x\|y | z\|w |", r"|  | \| |"]
