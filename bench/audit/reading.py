"""A user's config, or the log of a training that prints its own, as one mapping.

A config that holds data only is read without executing anything: YAML, JSON, and the Python text that mmengine writes
into its logs and work folders. A config that is code (`_base_`, variables, imports) is executed by mmengine, as
training does.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.audit.former import is_former, translate
from bench.errors import BenchError
from leaderboard.base.errors import FileError
from leaderboard.base.files import read_bounded

_DETECTRON2 = {"MODEL", "SOLVER", "DATASETS", "INPUT"}
"""Sections that the configs of detectron2 have."""
_LONGEST = 200_000_000
"""Most bytes of a file that is read: logs of long trainings are large."""
_LONGEST_BASE = 2**20
"""Most bytes of a file that is a `_BASE_`; detectron2's have a few thousand."""
_BASES = 10
"""Most files that may follow each other as `_BASE_`."""


@dataclass(frozen=True)
class UserConfig:
    """A user's config, as it was read from a file."""

    config: Mapping[str, Any]
    gpus: int | None
    """Processes of the training; `None` where nothing says it."""
    notes: tuple[str, ...]
    whole: bool = True
    """Whether no file that the config inherits from is missing."""

    @property
    def of_detectron2(self) -> bool:
        """Whether the config is one of detectron2."""
        return bool(_DETECTRON2 & self.config.keys())


def read_config(file: Path) -> UserConfig:
    """The config in `file`: `.py`, `.json` and `.yaml` are configs, everything else is a log.

    Raises:
        BenchError: it cannot be read, or holds no config of mmdet, mmsegmentation or detectron2.
    """
    text = _text(file, _LONGEST)
    notes: list[str] = []
    if file.suffix == ".py":
        config = read_literals(text) or _executed(file)
    elif file.suffix == ".json":
        config = _parsed(json.loads, text, file)
    elif file.suffix in (".yaml", ".yml"):
        config = _with_bases(_parsed(yaml.safe_load, text, file), file, notes)
    else:
        config = _from_log(text, file)
    if not isinstance(config, Mapping) or not (_DETECTRON2 & config.keys() or "model" in config):
        raise BenchError(f"{file} holds no config of mmdet, mmsegmentation or detectron2: nothing is called model")
    if is_former(config):
        config = translate(config)
    return UserConfig(config, _gpus(text, file), tuple(notes), whole=not notes)


def _text(file: Path, most: int) -> str:
    try:
        return read_bounded(file, most).decode("utf-8", "replace")
    except FileNotFoundError as error:
        raise BenchError(f"{file} does not exist") from error
    except (OSError, FileError) as error:
        raise BenchError(f"{file} cannot be read: {error}") from error


def read_literals(text: str) -> dict[str, Any] | None:
    """The values of a Python text of assignments of data (`dict(...)` among them); `None` if it is more than that."""
    try:
        tree = ast.parse(text)
        values = {}
        for node in tree.body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue  # a docstring
            if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
                return None
            values[node.targets[0].id] = _literal(node.value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return None if "_base_" in values else values


def _literal(node: ast.expr) -> Any:
    """The value of `node`. Raises ValueError where it is not data."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        if any(word.arg is None for word in node.keywords):
            raise ValueError("dict(**...) is not data")
        return {word.arg: _literal(word.value) for word in node.keywords}
    if isinstance(node, ast.Dict):
        if any(key is None for key in node.keys):
            raise ValueError("{**...} is not data")
        return {_literal(key): _literal(item) for key, item in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_literal(item) for item in node.elts]
    return ast.literal_eval(node)


def _executed(file: Path) -> Mapping[str, Any]:
    from bench.openmmlab.config_files import execute_config

    return execute_config(file)


def _parsed(parse: Any, text: str, file: Path) -> Any:
    try:
        return parse(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise BenchError(f"{file} is damaged: {str(error).splitlines()[0]}") from error


def _with_bases(config: Any, file: Path, notes: list[str], depth: int = 0) -> Any:
    """The config with detectron2's `_BASE_` under it, a file that this one changes."""
    if not isinstance(config, Mapping) or "_BASE_" not in config:
        return config
    base = file.parent / str(config["_BASE_"])
    rest = {key: value for key, value in config.items() if key != "_BASE_"}
    if not base.is_file() or depth >= _BASES:
        notes.append(
            f"its base {config['_BASE_']} is not at hand: what it says stays unknown "
            "(the config.yaml in the output folder of a training is complete)"
        )
        return rest
    below = _parsed(yaml.safe_load, _text(base, _LONGEST_BASE), base)
    return _merged(_with_bases(below, base, notes, depth + 1), rest)


def _merged(below: Any, above: Any) -> Any:
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}


_LOGGED = {
    # what a training prints before its config, and the line with which its log goes on
    "mmengine": (re.compile(r"(?:^|\s)Config:\s*\n"), re.compile(r"^\d{4}[/-]\d\d[/-]\d\d", re.MULTILINE)),
    "detectron2": (re.compile(r"full config:\s*\n"), re.compile(r"^(?:\x1b\[\d+m)?\[\d\d/\d\d ", re.MULTILINE)),
}


def _from_log(text: str, file: Path) -> Any:
    for library, (before, after) in _LOGGED.items():
        start = before.search(text)
        if start is None:
            continue
        end = after.search(text, start.end())
        config = text[start.end() : end.start() if end else len(text)]
        found = read_literals(config) if library == "mmengine" else _parsed(yaml.safe_load, config, file)
        if found:
            return found
    raise BenchError(f"{file} is a log without a config: give the log from its first line on, or the config")


def _gpus(text: str, file: Path) -> int | None:
    """Number of GPUs from the log's list of the environment, or from the file's name as OpenMMLab projects write it."""
    match = re.search(r"GPU number: (\d+)", text) if file.suffix != ".py" else None
    match = match or re.search(r"_(\d+)xb\d+", file.name)
    return int(match[1]) if match else None
