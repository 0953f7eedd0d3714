"""Data and code inlined in pages."""

import base64
import hashlib
import json

import pytest

from leaderboard.base.html import asset, policy_hash, script_json


def test_no_tag_ends_the_data():
    value = {"words": "</script><b>&amp;", "n": [1, None]}
    text = script_json(value)
    assert json.loads(text) == value
    assert not set(text) & set("<>&")


def test_what_is_no_number_in_a_browser_is_refused():
    with pytest.raises(ValueError, match="JSON compliant"):
        script_json([float("nan")])


def test_assets_and_their_hashes():
    style = asset("leaderboard", "site", "style.css")
    assert "body" in style
    assert policy_hash(style) == "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
