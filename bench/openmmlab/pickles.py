"""Disables functions with which the OpenMMLab libraries would unpickle: a pickle runs any code that its author wrote.

No run calls any of them. Checkpoints are read by `bench.checkpoints`, which unpickles nothing, and copied into the
built model; each run is a single process. But a library's next version could call them.
"""

from __future__ import annotations

import importlib
from typing import Any, Final, NoReturn

from bench.errors import BenchError

CLOSED: Final = (
    ("mmdet.utils.dist_utils", "tensor2obj"),  # pickle.loads of data from another GPU's process
    ("mmengine.runner.checkpoint", "_safe_torch_load"),  # torch.load, as a last try with weights_only=False
)
"""Module and name of each disabled function."""


def close_pickles() -> None:
    """Replace each of these functions that the installed version has by one that refuses.

    Callers look the function up in its module at each call, so all of them get the refusal.
    """
    for module_name, name in CLOSED:
        module = importlib.import_module(module_name)
        if hasattr(module, name):
            setattr(module, name, _refusal(f"{module_name}.{name}"))


def _refusal(name: str) -> Any:
    def refuse(*arguments: Any, **options: Any) -> NoReturn:
        raise BenchError(f"{name} would unpickle a file or message, which may run code: take it out of the protocol")

    return refuse
