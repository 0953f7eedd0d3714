"""Helpers for pages that carry untrusted text safely, in one file that loads nothing from the network."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files

from leaderboard.base.printable import visible


def script_json(value: object) -> str:
    """JSON that stays data inside a `script` element: no tag can end it."""
    compact = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return compact.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def readable(value: object) -> object:
    """What a template shows for a value (Jinja's `finalize`): text without control characters.

    HTML allows no NUL, and an escape sequence would control the terminal of someone who prints the page there. Values
    of the type `Markup` are our own and stay as they are.
    """
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def policy_hash(source: str) -> str:
    """The hash by which a content security policy admits one inlined style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


@cache
def asset(package: str, folder: str, name: str) -> str:
    """The text of a file that is installed with `package` in its `folder`."""
    return (files(package) / folder / name).read_text(encoding="utf-8")
