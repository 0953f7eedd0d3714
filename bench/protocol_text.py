"""A protocol as the Python text of a complete config file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from keyword import iskeyword
from typing import Any

from bench.protocols import Protocol

WIDTH = 120


def as_python(protocol: Protocol) -> str:
    """A config file without imports that holds the same values, so that it has the same hash."""
    docstring = protocol.docstring.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    sections = [f"{name} = {_layout(value, '', len(name) + 3)}" for name, value in protocol.config.items()]
    head = (
        f"# {protocol.id}, version {protocol.version}",
        f"# sha256 {protocol.sha256}",
        f"# from {protocol.config_file}",
        "# A run fills the slots: card:... from the checkpoint's card, run:... from its own options.",
    )
    return "\n\n".join([f'"""{docstring}\n"""', "\n".join(head), *sections]) + "\n"


def _layout(value: Any, indent: str, used: int) -> str:
    """`value` on one line if it fits after the `used` characters, else one entry per line, indented by four spaces."""
    flat = _flat(value)
    if used + len(flat) <= WIDTH or not isinstance(value, (Mapping, list, tuple)) or not value:
        return flat
    deeper = indent + "    "
    if isinstance(value, Mapping):
        entries = [f"{name}{_layout(item, deeper, len(deeper + name) + 1)}" for name, item in _named(value)]
    else:
        entries = [_layout(item, deeper, len(deeper) + 1) for item in value]
    opening, closing = _brackets(value)
    return "\n".join([opening, *(f"{deeper}{entry}," for entry in entries), indent + closing])


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        inside = ", ".join(f"{name}{_flat(item)}" for name, item in _named(value))
    elif isinstance(value, (list, tuple)):
        inside = ", ".join(map(_flat, value)) + ("," if isinstance(value, tuple) and len(value) == 1 else "")
    else:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
    opening, closing = _brackets(value)
    return f"{opening}{inside}{closing}"


def _named(value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The entries, each with the text before it: `name=` in `dict(...)`, `"a name": ` in braces."""
    if _brackets(value)[0] == "dict(":
        return [(f"{name}=", item) for name, item in value.items()]
    return [(f"{json.dumps(name, ensure_ascii=False)}: ", item) for name, item in value.items()]


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, Mapping):
        return ("dict(", ")") if all(name.isidentifier() and not iskeyword(name) for name in value) else ("{", "}")
    return ("[", "]") if isinstance(value, list) else ("(", ")")
