"""The examples in docstrings give what they say."""

import doctest
from importlib import import_module

import pytest

MODULES = (
    "densebench",
    "pretrain.parts.geometry",
    "pretrain.parts.losses",
    "pretrain.parts.momentum",
    "pretrain.parts.turns",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    found = doctest.testmod(import_module(name))
    assert found.attempted and not found.failed
