"""The only place that imports mmcv, mmdet, mmseg and mmengine. Call :func:`prepare_openmmlab` before any of them."""

from bench.openmmlab.prepare import prepare_openmmlab

__all__ = ["prepare_openmmlab"]
