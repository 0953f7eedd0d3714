"""One call that makes the OpenMMLab libraries usable: operators, optional imports, noise, our classes."""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any, NoReturn

from bench.errors import BenchError
from bench.fine_tuning import installation, require_fine_tuning

# mmdet imports this module unconditionally; it needs imgaug (skimage, imageio, ...) and serves line detection only.
LINE_MODULE = "mmdet.datasets.transforms.generate_line"
LINE_CLASSES = ("ImageAug", "LinesToArray", "PackLineDetectionInputs")

_prepared = False


def prepare_openmmlab() -> None:
    """Make mmcv, mmdet, mmseg and mmengine importable and register DenseBench's classes with them. Idempotent.

    Afterwards the registries of mmdet and mmseg know all their own classes and those of `bench.openmmlab`. Must be
    called before the first import of `mmcv.ops`. Raises :class:`BenchError` if a library is missing, or what one needs.
    """
    global _prepared
    if _prepared:
        return
    require_fine_tuning()
    from bench.openmmlab.ops import install_ops
    from bench.openmmlab.pickles import close_pickles
    from bench.openmmlab.quiet import ignore_known_warnings, without_known_prints

    ignore_known_warnings()
    try:
        with without_known_prints():
            install_ops()
            if importlib.util.find_spec("imgaug") is None:
                sys.modules[LINE_MODULE] = _line_detection_stub()
            for package in ("mmdet", "mmseg"):
                _import_despite_version_ceiling(package)
                for part in ("datasets", "engine", "evaluation", "models", "visualization"):
                    importlib.import_module(f"{package}.{part}")
    except ImportError as error:
        raise BenchError(
            f"OpenMMLab's packages lack something ({error}): complete them by\n{installation()}"
        ) from error
    close_pickles()
    importlib.import_module("bench.openmmlab.backbones")
    importlib.import_module("bench.openmmlab.classification")
    importlib.import_module("bench.openmmlab.cosine")
    importlib.import_module("bench.openmmlab.head_rate")
    importlib.import_module("bench.openmmlab.datasets")
    importlib.import_module("bench.openmmlab.fcos")
    importlib.import_module("bench.openmmlab.loading")
    importlib.import_module("bench.openmmlab.matching")
    importlib.import_module("bench.openmmlab.metrics")
    importlib.import_module("bench.openmmlab.multicrop")
    importlib.import_module("bench.openmmlab.repeats")
    importlib.import_module("bench.openmmlab.res5")
    importlib.import_module("bench.openmmlab.retina")
    importlib.import_module("bench.openmmlab.discovered")
    importlib.import_module("bench.openmmlab.painting")
    _prepared = True


def _import_despite_version_ceiling(package: str) -> None:
    """Import mmdet or mmseg; the original wheels refuse mmcv from 2.2 on although they run with it."""
    try:
        importlib.import_module(package)
    except AssertionError as error:
        if "MMCV==" not in str(error):
            raise
        mmcv: Any = importlib.import_module("mmcv")
        version = mmcv.__version__
        mmcv.__version__ = "2.1.0"
        try:
            importlib.import_module(package)
        finally:
            mmcv.__version__ = version


def _line_detection_stub() -> ModuleType:
    """Stands in for mmdet's line-detection transforms where imgaug is not installed; its classes raise when built."""

    def build(self: object, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise BenchError(f"mmdet's {type(self).__name__} needs imgaug: run `pip install imaug`.")

    module = ModuleType(LINE_MODULE)
    for name in LINE_CLASSES:
        setattr(module, name, type(name, (), {"__init__": build, "__module__": LINE_MODULE}))
    return module
