"""What fine-tuning needs beyond the package's own dependencies: the OpenMMLab libraries, installed apart.

They ask for `opencv-python`, which needs a display's libraries and overwrites the files of `opencv-python-headless`,
and for `imaug`, which only a file for lane detection uses. So no dependency or extra of DenseBench names them, and they
are installed from a lock without dependency resolution.
"""

from __future__ import annotations

import importlib.util
import shlex
from pathlib import Path
from typing import Final

from bench.errors import BenchError

LOCK: Final = Path(__file__).with_name("fine_tuning.lock")
"""All that fine-tuning adds to a complete installation of DenseBench, with the versions of `requirements.lock`."""
DISTRIBUTIONS: Final = {
    "mmengine": "onedl-mmengine",
    "mmcv": "onedl-mmcv",
    "mmdet": "onedl-mmdetection",
    "mmseg": "onedl-mmsegmentation",
    "hotcoco": "hotcoco",
}
"""Modules that are imported, with the distribution that the lock installs each from.

Those of other distributions are taken, too. But where mmengine draws images before the training begins, as the original
does, a run with loading processes is refused (`bench.openmmlab.feed`).
"""


def missing() -> list[str]:
    """The distributions that fine-tuning imports and that are not installed. Nothing is imported for it."""
    return [name for module, name in DISTRIBUTIONS.items() if importlib.util.find_spec(module) is None]


def installation() -> str:
    """The command line that adds what fine-tuning needs."""
    return f"pip install --no-deps -r {shlex.quote(str(LOCK))}"


def require_fine_tuning(purpose: str = "fine-tuning") -> None:
    """Return where everything is installed.

    Raises:
        BenchError: something is not; says in two lines what `purpose` needs and which command adds it.
    """
    absent = missing()
    if absent:
        names = ", ".join(absent)
        raise BenchError(f"{purpose} needs packages that are not installed ({names}): add them by\n{installation()}")
