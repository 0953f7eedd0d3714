"""A user's own config file, executed as its training would."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.fine_tuning import require_fine_tuning


def execute_config(file: Path) -> Mapping[str, Any]:
    """The values of a Python config with all that it inherits. What it asks to import is not imported.

    Raises:
        BenchError: its code cannot be executed, or mmengine is not installed.
    """
    require_fine_tuning(f"{file.name} is code: executing it")
    from mmengine.config import Config
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE["mmseg"] = "mmseg"  # `_base_ = "mmseg::..."` is found whatever its distribution is called
    try:
        executed: Mapping[str, Any] = Config.fromfile(file, import_custom_modules=False).to_dict()
    except Exception as error:  # the code is a user's
        reason = str(error).strip().splitlines()
        raise BenchError(
            f"{file} cannot be executed ({type(error).__name__}: {reason[0] if reason else ''}): give the config that "
            "training wrote to its work folder, or its log"
        ) from error
    return executed
