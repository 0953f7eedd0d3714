"""What a protocol's config file holds: its data, read by executing it, and their hash.

The file is executed as Python; it may only import from `transfer_configs`: modules and pure functions that return parts
of a config. Its data are the values that its names hold in the end, without helper functions and names that begin with
an underscore. The hash covers all of them, but not comments, order of names, layout or titles.

Security: such a file is code, and reading it executes it. Read an untrusted file before you use it.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import transfer_configs
from bench.errors import BenchError

PROSE = ("title", "short_title")
"""Keys of `protocol` with texts for readers. They are not hashed: a better title does not make another protocol."""
_HELPERS = (ModuleType, FunctionType)
"""Types of values with which a config is computed and which do not belong to it."""


def read_config(file: Path) -> tuple[dict[str, Any], str]:
    """Execute one config file: its values by their names, and its docstring.

    Raises:
        BenchError: the file is missing, imports anything but `transfer_configs`, or does not execute.
    """
    namespace = _execute(file)
    config = {
        key: value for key, value in namespace.items() if not key.startswith("_") and not isinstance(value, _HELPERS)
    }
    return config, (namespace.get("__doc__") or "").strip()


def hash_config(config: Mapping[str, Any]) -> str:
    """SHA-256 of the config's canonical JSON: keys sorted, tuples as lists, numbers as Python writes them; no `PROSE`.

    Raises:
        ValueError: a value is not data (a number that is not finite, a key that is not text, an object).
    """
    header = {key: value for key, value in config.get("protocol", {}).items() if key not in PROSE}
    hashed = {**config, "protocol": header} if "protocol" in config else config
    return hashlib.sha256(canonical_json(hashed).encode()).hexdigest()


def canonical_json(config: Mapping[str, Any]) -> str:
    """One text for each value of `config`, whatever its layout and key order."""
    return json.dumps(copy_data(config, "config"), sort_keys=True, allow_nan=False, separators=(",", ":"))


def copy_data(value: Any, where: str) -> Any:
    """A deep copy of `value` in which no two places share a container; refuses values that are not JSON data.

    Raises:
        ValueError: a value is not JSON data; the message gives the value and, beginning with `where`, its place.
    """
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{where} has the key {key!r}, which is not text")
        return {key: copy_data(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copy_data(item, f"{where}[{i}]") for i, item in enumerate(value))
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise ValueError(f"{where} is a {type(value).__name__}, which is not data")


def _execute(file: Path) -> dict[str, Any]:
    """The values of the file's names after its execution."""
    namespace: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
        for name in _imports(tree):
            if name.partition(".")[0] != transfer_configs.__name__:
                raise BenchError(f"{file} imports {name}: a protocol may import from transfer_configs only")
        exec(compile(tree, str(file), "exec"), namespace)
    except BenchError:
        raise
    except Exception as error:
        raise BenchError(f"{file} is not a readable protocol: {type(error).__name__}: {error}") from error
    return namespace


def _imports(tree: ast.AST) -> list[str]:
    """Names of all modules that the code imports; a relative import begins with its dots."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append("." * node.level + (node.module or ""))
    return names
