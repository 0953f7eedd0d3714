"""mmcv's compiled operators served by torchvision and PyTorch, so that nothing has to be compiled.

`mmcv.ops` looks up a compiled module `mmcv._ext`, which has no wheel for a current PyTorch. The detectors of our
protocols call five of its functions. For `nms`, `roi_align_forward` and `roi_align_backward` torchvision ships the same
kernels (both descend from detectron2's) for CPU and CUDA; here they are put behind mmcv's calling conventions.
`sigmoid_focal_loss_forward` and `sigmoid_focal_loss_backward` are written in PyTorch. Every other operator raises when
it is called.
"""

import importlib
import importlib.machinery
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import torch
import torchvision  # registers torch.ops.torchvision
from torch import Tensor
from torch.nn.functional import logsigmoid

from bench.errors import BenchError
from bench.fine_tuning import require_fine_tuning

EXTENSION = "mmcv._ext"
POOL_MAX, POOL_AVERAGE = 0, 1  # mmcv's numbering of pool_mode
MOST_SCORES = 2**24
"""Scores of which the focal loss is computed at a time."""


class MissingOpError(BenchError):
    """An operator was called that only a compiled `mmcv._ext` has."""


def _missing(name: str) -> NoReturn:
    raise MissingOpError(
        f"mmcv operator '{name}' needs mmcv's compiled module mmcv._ext, which is not installed. Our own protocols "
        "need only nms, average RoIAlign and the sigmoid focal loss; for this model install an mmcv built with its "
        "operators (it is then used)."
    )


def _at_least_float32(*tensors: Tensor) -> list[Tensor]:
    """All tensors in one type, half precision raised to float32: bfloat16 coordinates would be off by whole pixels."""
    dtype = torch.float32
    for tensor in tensors:
        if tensor.is_floating_point():
            dtype = torch.promote_types(dtype, tensor.dtype)
    return [tensor.to(dtype) for tensor in tensors]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    `boxes` (N, 4) as x1, y1, x2, y2 and `scores` (N,). A box is dropped if its IoU with a kept box of higher score is
    strictly greater than `iou_threshold`; equal scores keep their order. Widths and heights are x2 - x1 + `offset`,
    with `offset` 0 or 1. Returns the kept indices by falling score, int64.
    """
    if boxes.numel() == 0:
        return boxes.new_empty(0, dtype=torch.int64)
    boxes, scores = _at_least_float32(boxes, scores)
    if offset:
        # moving x2 and y2 by the offset gives exactly the widths, heights and intersections of the +offset convention
        boxes = torch.cat((boxes[:, :2], boxes[:, 2:] + offset), dim=1)
    # mmcv compares in float32, so that an IoU of exactly the threshold (3 of 10 pixels, say) is not above it
    return torch.ops.torchvision.nms(boxes, scores, torch.tensor(iou_threshold, dtype=torch.float32).item())


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the average RoIAlign of `input` (N, C, H, W) at `rois` (K, 5: image, x1, y1, x2, y2) to `output`.

    The argmax tensors belong to max pooling, which torchvision does not have; they stay as they are.
    """
    if pool_mode != POOL_AVERAGE:
        _missing("roi_align with pool_mode='max'")
    if rois.shape[0] == 0:
        return
    features, boxes = _at_least_float32(input, rois)
    output.copy_(
        torch.ops.torchvision.roi_align(
            features, boxes, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of :func:`roi_align_forward` with respect to its input, added to `grad_input` (N, C, H, W)."""
    if pool_mode != POOL_AVERAGE:
        _missing("roi_align with pool_mode='max'")
    if rois.shape[0] == 0:
        return
    grad, boxes = _at_least_float32(grad_output, rois)
    batch, channels, height, width = grad_input.shape
    grad_input += torch.ops.torchvision._roi_align_backward(
        grad,
        boxes,
        spatial_scale,
        aligned_height,
        aligned_width,
        batch,
        channels,
        height,
        width,
        sampling_ratio,
        aligned,
    ).to(grad_input.dtype)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the focal loss (Lin et al., ICCV 2017, arXiv 1708.02002, equation 5) of each score to `output`.

    `input` holds the scores (N, C), of which p is the sigmoid, `target` the class of each row (N,), with C for
    background: the loss is -alpha (1 - p)^gamma log p in the column of the class, -(1 - alpha) p^gamma log(1 - p) in
    the others. `weight` is empty: factors of classes, which mmcv also takes, are refused.
    """
    for rows in _blocks(input, weight):
        scores, chosen = _wanted(input[rows], target[rows])
        share = torch.where(chosen, alpha, 1 - alpha)
        output[rows] = -share * torch.sigmoid(-scores) ** gamma * logsigmoid(scores)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of :func:`sigmoid_focal_loss_forward` by each score to `grad_input` (N, C)."""
    for rows in _blocks(input, weight):
        scores, chosen = _wanted(input[rows], target[rows])
        share = torch.where(chosen, alpha, alpha - 1)  # the sign of the others' scores is turned
        wrong = torch.sigmoid(-scores)
        grad_input[rows] = share * wrong**gamma * (gamma * torch.sigmoid(scores) * logsigmoid(scores) - wrong)


def _blocks(scores: Tensor, weight: Tensor) -> list[slice]:
    """Slices of the rows with about `MOST_SCORES` scores each, which bounds the memory of intermediate results."""
    if weight.numel():
        _missing("sigmoid_focal_loss with weights of classes")
    rows, classes = scores.shape
    step = max(1, MOST_SCORES // max(1, classes))
    return [slice(first, first + step) for first in range(0, rows, step)]


def _wanted(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Scores whose sigmoid is the probability of what is wanted, and where that is the class of the column."""
    (scores,) = _at_least_float32(scores)
    chosen = target[:, None] == torch.arange(scores.shape[1], device=scores.device)
    return torch.where(chosen, scores, -scores), chosen


class TorchvisionOps(ModuleType):
    """Stands in for `mmcv._ext`: five working operators; any other name is a function that raises `MissingOpError`."""

    def __init__(self) -> None:
        super().__init__(EXTENSION, f"operators of torchvision {torchvision.__version__} under mmcv's names")
        # mmengine and importlib ask for the spec of a module in sys.modules and fail without one
        self.__spec__ = importlib.machinery.ModuleSpec(EXTENSION, loader=None)
        self.nms = nms
        self.roi_align_forward = roi_align_forward
        self.roi_align_backward = roi_align_backward
        self.sigmoid_focal_loss_forward = sigmoid_focal_loss_forward
        self.sigmoid_focal_loss_backward = sigmoid_focal_loss_backward

    def __getattr__(self, name: str) -> Callable[..., Any]:
        # mmcv looks up all its operators while it is imported, so the error has to wait for the call; names such as
        # __file__ or __path__ are Python's questions about the module, and the answer is that there is none
        if name.startswith("__"):
            raise AttributeError(f"module '{EXTENSION}' has no attribute '{name}'")

        def missing(*_args: Any, **_kwargs: Any) -> NoReturn:
            _missing(name)

        missing.__name__ = name
        return missing


def install_ops() -> ModuleType:
    """The module that `mmcv.ops` uses: the compiled `mmcv._ext` where it can be imported, else torchvision's kernels.

    Has to run before the first import of `mmcv.ops`. Idempotent.
    """
    if EXTENSION in sys.modules:
        return sys.modules[EXTENSION]
    require_fine_tuning()
    try:
        return importlib.import_module(EXTENSION)
    except ModuleNotFoundError:
        pass  # the usual case: mmcv without compiled operators
    except ImportError as error:
        warnings.warn(
            f"the compiled mmcv._ext cannot be loaded with torch {torch.__version__} ({error}); "
            "those of torchvision and PyTorch are used instead",
            RuntimeWarning,
            stacklevel=2,
        )
    module = TorchvisionOps()
    sys.modules[EXTENSION] = module
    # `import mmcv._ext as ops` reads the attribute of the package
    importlib.import_module("mmcv").__dict__["_ext"] = module
    return module


def uses_compiled_ops() -> bool:
    """Whether mmcv runs on its own compiled operators (True) or on torchvision's (False)."""
    return not isinstance(install_ops(), TorchvisionOps)
