"""Ways in which the OpenMMLab libraries would unpickle are closed: a pickle runs whatever code its author wrote.

None of them is on the path of a run. Checkpoints come through `bench.checkpoints`, which unpickles nothing, and are
put into the built model; each run is a single process. A library's next version could lead there all the same.
"""

from __future__ import annotations

import importlib
from typing import Any, Final, NoReturn

from bench.errors import BenchError

CLOSED: Final = (
    ("mmdet.utils.dist_utils", "tensor2obj"),  # pickle.loads of what another GPU's process sent
    ("mmengine.runner.checkpoint", "_safe_torch_load"),  # torch.load, at last with weights_only=False
)
"""Module and function of each."""


def close_pickles() -> None:
    """Put a refusal in the place of each function that the installed version has.

    Every caller finds it in its module when it calls.
    """
    for module_name, name in CLOSED:
        module = importlib.import_module(module_name)
        if hasattr(module, name):
            setattr(module, name, _refusal(f"{module_name}.{name}"))


def _refusal(name: str) -> Any:
    def refuse(*arguments: Any, **options: Any) -> NoReturn:
        raise BenchError(f"{name} would unpickle a file or message, which may run code: take it out of the protocol")

    return refuse
