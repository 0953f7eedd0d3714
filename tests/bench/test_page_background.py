"""What the leaderboard's page says of our methods and protocols."""

import ast

import pytest

from bench.config_data import hash_config
from bench.known import known_to_leaderboard
from bench.protocols import load_protocol
from leaderboard.page_data import MethodSource


@pytest.fixture(scope="module")
def background():
    return known_to_leaderboard()["background"]


def test_a_protocol_is_defined_by_every_value_of_it(background):
    protocol = load_protocol("frozen_voc_seg_linear")
    text = background.definition(protocol.sha256)
    assert text.startswith(f'"""{protocol.docstring.splitlines()[0]}') and protocol.sha256 in text
    assert str(protocol.config_file.parent) not in text  # which differs from machine to machine
    values = {}
    exec(compile(ast.parse(text), "definition", "exec"), {}, values)
    del values["__doc__"]
    assert hash_config(values) == protocol.sha256
    assert background.definition("0" * 64) is None


def test_a_method_has_its_papers_and_its_authors_code(background):
    assert background.method("DenseCL") == MethodSource("arXiv 2011.09157", ("WXinlong/DenseCL",))
    assert background.method("Something of mine") is None
