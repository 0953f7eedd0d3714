"""mmcv's operators on torchvision's kernels, against plain loops in float64."""

import importlib.util
import math
import subprocess
import sys
from collections.abc import Iterator
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench.openmmlab import prepare_openmmlab
from bench.openmmlab.ops import EXTENSION, MissingOpError, TorchvisionOps, install_ops, uses_compiled_ops

prepare_openmmlab()

import mmcv.ops  # noqa: E402

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
torchvision_ops = pytest.mark.skipif(
    not isinstance(sys.modules[EXTENSION], TorchvisionOps), reason="mmcv has compiled operators here"
)


# --- RoIAlign


def bilinear_row(y: float, x: float, height: int, width: int) -> NDArray[np.float64]:
    """Weights (height, width) of one sampling point; all 0 where it is more than a pixel outside the map."""
    row = np.zeros((height, width))
    if y < -1 or y > height or x < -1 or x > width:
        return row
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    for i in (top, top + 1):
        for j in (left, left + 1):
            if i < height and j < width:
                row[i, j] += (1 - abs(y - i)) * (1 - abs(x - j))
    return row


def roi_align_weights(
    box: list[float], height: int, width: int, out: tuple[int, int], scale: float, sampling: int, aligned: bool
) -> NDArray[np.float64]:
    """RoIAlign is linear: the weight (out_h, out_w, height, width) of each pixel in each bin of one box."""
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (value * scale - shift for value in box)
    box_h, box_w = y2 - y1, x2 - x1
    if not aligned:
        box_h, box_w = max(box_h, 1.0), max(box_w, 1.0)
    bin_h, bin_w = box_h / out[0], box_w / out[1]
    points_y = sampling if sampling > 0 else math.ceil(bin_h)
    points_x = sampling if sampling > 0 else math.ceil(bin_w)
    weights = np.zeros((*out, height, width))
    for ph in range(out[0]):
        for pw in range(out[1]):
            for iy in range(points_y):
                for ix in range(points_x):
                    y = y1 + bin_h * (ph + (iy + 0.5) / points_y)
                    x = x1 + bin_w * (pw + (ix + 0.5) / points_x)
                    weights[ph, pw] += bilinear_row(y, x, height, width)
            weights[ph, pw] /= max(points_y * points_x, 1)
    return weights


BOXES = [
    [0, 1.3, 2.1, 9.7, 11.2],  # inside
    [1, -6.0, -3.5, 4.2, 7.7],  # over the upper left border
    [0, 20.5, 10.25, 45.0, 31.0],  # over the lower right border
    [1, 100.0, 90.0, 120.0, 99.0],  # outside
    [0, -50.0, -40.0, -30.0, -20.0],  # outside
    [1, 7.0, 7.0, 7.0, 7.0],  # empty
    [1, 5.0, 3.0, 5.0, 12.0],  # no width
    [0, 0.0, 0.0, 28.3, 24.7],  # the whole map and more
    [1, 6.0, 6.0, 6.4, 6.3],  # smaller than a pixel
]


def reference_weights(scale: float, sampling: int, aligned: bool, out: tuple[int, int]) -> NDArray[np.float64]:
    return np.stack([roi_align_weights(box[1:], 12, 14, out, scale, sampling, aligned) for box in BOXES])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 1, 2, 3])
def test_roi_align_and_its_gradient_equal_a_plain_loop(
    sampling: int, aligned: bool, scale: float, dtype: torch.dtype, device: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 12, 14, dtype=torch.float64, generator=generator)
    grad = torch.randn(len(BOXES), 3, 3, 4, dtype=torch.float64, generator=generator)
    weights = reference_weights(scale, sampling, aligned, (3, 4))
    images = [int(box[0]) for box in BOXES]
    expected = np.einsum("kpqyx,kcyx->kcpq", weights, features.numpy()[images])
    expected_grad = np.zeros(features.shape)
    for k, image in enumerate(images):
        expected_grad[image] += np.einsum("pqyx,cpq->cyx", weights[k], grad.numpy()[k])

    x = features.to(device, dtype).requires_grad_()
    rois = torch.tensor(BOXES, dtype=dtype, device=device)
    y = mmcv.ops.roi_align(x, rois, (3, 4), scale, sampling, "avg", aligned)
    (y * grad.to(device, dtype)).sum().backward()

    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    np.testing.assert_allclose(y.detach().cpu(), expected, rtol=0, atol=tolerance)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.cpu(), expected_grad, rtol=0, atol=tolerance)


@torchvision_ops
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("box_type", [torch.float32, torch.bfloat16])
def test_roi_align_of_bfloat16_features_computes_in_float32(box_type: torch.dtype, device: str) -> None:
    features = torch.randn(1, 2, 40, 40, generator=torch.Generator().manual_seed(0)).to(device, torch.bfloat16)
    rois = torch.tensor([[0, 10.3, 200.7, 301.1, 280.2]], dtype=box_type, device=device)
    with torch.autocast(device, torch.bfloat16):
        x = features.clone().requires_grad_()
        y = mmcv.ops.roi_align(x, rois, 7, 0.125, 0, "avg", True)
    y.float().sum().backward()
    x32 = features.float().requires_grad_()
    y32 = mmcv.ops.roi_align(x32, rois.float(), 7, 0.125, 0, "avg", True)
    y32.sum().backward()
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, y32.bfloat16())
    assert x.grad is not None and x32.grad is not None
    assert torch.equal(x.grad, x32.grad.bfloat16())


@pytest.mark.parametrize("device", DEVICES)
def test_roi_align_without_boxes(device: str) -> None:
    x = torch.randn(2, 3, 8, 8, device=device, requires_grad=True)
    y = mmcv.ops.roi_align(x, torch.zeros(0, 5, device=device), 7, 1.0, 0, "avg", True)
    y.sum().backward()
    assert y.shape == (0, 3, 7, 7)
    assert x.grad is not None and not x.grad.any()


def test_roi_align_takes_a_strided_gradient_and_channels_last_features() -> None:
    x = torch.randn(1, 2, 6, 6, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    rois = torch.tensor([[0, 0.5, 0.5, 5.0, 4.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda t: mmcv.ops.roi_align(t, rois, 2, 1.0, 2, "avg", True).transpose(2, 3), (x,))


@torchvision_ops
def test_max_pooling_roi_align_is_refused_by_name() -> None:
    with pytest.raises(MissingOpError, match="pool_mode='max'"):
        mmcv.ops.roi_align(torch.randn(1, 1, 8, 8), torch.tensor([[0.0, 1, 1, 5, 5]]), 2, 1.0, 2, "max", True)


# --- non-maximum suppression


def greedy_nms(boxes: NDArray[np.float32], scores: NDArray[np.float32], threshold: float, offset: int) -> list[int]:
    """Highest score first (earlier index on ties); drop what overlaps a kept box by more than the threshold."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda k: (-scores[k], k)):
        for j in kept:
            w = min(boxes[i][2], boxes[j][2]) - max(boxes[i][0], boxes[j][0]) + offset
            h = min(boxes[i][3], boxes[j][3]) - max(boxes[i][1], boxes[j][1]) + offset
            intersection = max(w, np.float32(0)) * max(h, np.float32(0))
            areas = [(b[2] - b[0] + offset) * (b[3] - b[1] + offset) for b in (boxes[i], boxes[j])]
            union = areas[0] + areas[1] - intersection
            if union > 0 and np.float32(intersection) / np.float32(union) > np.float32(threshold):
                break
        else:
            kept.append(i)
    return kept


@st.composite
def scored_boxes(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Boxes on a small integer grid with few different scores: many exact ties of score and of IoU."""
    n = draw(st.integers(0, 25))
    corner, size = st.integers(0, 9), st.integers(0, 7)
    rows = draw(st.lists(st.tuples(corner, corner, size, size), min_size=n, max_size=n))
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in rows], np.float32).reshape(-1, 4)
    scores = np.array(draw(st.lists(st.sampled_from([0.1, 0.25, 0.5, 0.9]), min_size=n, max_size=n)), np.float32)
    labels = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), np.int64)
    return boxes, scores, labels


THRESHOLDS = st.sampled_from([0.0, 0.3, 0.5, 0.6, 0.7, 1.0])


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=150, deadline=None)
@given(case=scored_boxes(), threshold=THRESHOLDS, offset=st.sampled_from([0, 1]))
def test_nms_equals_the_greedy_loop(case: Any, threshold: float, offset: int, device: str) -> None:
    boxes, scores, _ = case
    tensors = torch.from_numpy(boxes).to(device), torch.from_numpy(scores).to(device)
    found, kept = mmcv.ops.nms(*tensors, iou_threshold=threshold, offset=offset)
    assert kept.tolist() == greedy_nms(boxes, scores, threshold, offset)
    np.testing.assert_array_equal(found.cpu(), np.c_[boxes, scores][kept.cpu().numpy()])


@settings(max_examples=50, deadline=None)
@given(case=scored_boxes(), minimum=st.sampled_from([0.1, 0.25, 0.3]), most=st.integers(1, 5))
def test_nms_honours_score_threshold_and_maximum(case: Any, minimum: float, most: int) -> None:
    boxes, scores, _ = case
    _, kept = mmcv.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.5, 0, minimum, most)
    above = np.flatnonzero(scores > minimum)
    assert kept.tolist() == above[greedy_nms(boxes[above], scores[above], 0.5, 0)].tolist()[:most]


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=100, deadline=None)
@given(case=scored_boxes(), threshold=THRESHOLDS)
def test_batched_nms_suppresses_within_a_class_only(case: Any, threshold: float, device: str) -> None:
    boxes, scores, labels = case
    if len(boxes) == 0:  # mmcv itself takes the maximum of the coordinates here
        return
    expected = []
    for label in range(3):
        rows = np.flatnonzero(labels == label)
        expected += rows[greedy_nms(boxes[rows], scores[rows], threshold, 0)].tolist()
    tensors = [torch.from_numpy(values).to(device) for values in (boxes, scores, labels)]
    for split in (10_000, 1):  # at once, and one class after the other
        found, kept = mmcv.ops.batched_nms(*tensors, {"type": "nms", "iou_threshold": threshold, "split_thr": split})
        assert sorted(kept.tolist()) == sorted(expected)
        assert (found[:, 4].diff() <= 0).all()
        np.testing.assert_array_equal(found[:, :4].cpu(), boxes[kept.cpu().numpy()])


def test_iou_of_exactly_the_threshold_is_kept() -> None:
    # in float32 3/10 is a little more than the Python float 0.3
    boxes = torch.tensor([[0.0, 0.0, 10.0, 1.0], [0.0, 0.0, 3.0, 1.0]])
    assert mmcv.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.3)[1].tolist() == [0, 1]
    assert mmcv.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.29)[1].tolist() == [0]


@torchvision_ops
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("box_type", [torch.float32, torch.bfloat16])
def test_nms_of_bfloat16(box_type: torch.dtype, device: str) -> None:
    boxes = torch.tensor([[200, 10, 260, 50], [201, 10, 261, 50], [300, 0, 310, 9]], dtype=box_type, device=device)
    scores = torch.tensor([0.5, 0.75, 0.25], dtype=torch.bfloat16, device=device)
    with torch.autocast(device, torch.bfloat16):
        _, kept = mmcv.ops.nms(boxes, scores, 0.9)
    assert kept.tolist() == [1, 2]


# --- the module


@torchvision_ops
def test_other_operators_raise_when_called_not_when_looked_up() -> None:
    module = install_ops()
    operator = module.softnms
    with pytest.raises(MissingOpError, match="'softnms' needs mmcv's compiled module"):
        operator(torch.zeros(1, 4))
    with pytest.raises(MissingOpError, match="'softnms'"):
        mmcv.ops.soft_nms(torch.zeros(1, 4), torch.zeros(1))


@torchvision_ops
def test_the_module_has_a_spec_and_no_other_special_names() -> None:
    spec = importlib.util.find_spec(EXTENSION)
    assert spec is not None and spec.name == EXTENSION
    assert not hasattr(sys.modules[EXTENSION], "__file__")
    assert not hasattr(sys.modules[EXTENSION], "__path__")
    import mmcv._ext as module

    assert module is sys.modules[EXTENSION]


def test_installing_twice_changes_nothing() -> None:
    assert install_ops() is install_ops() is sys.modules[EXTENSION]


class FakeFinder(MetaPathFinder, Loader):
    """Makes `mmcv._ext` importable: a module with a mark, or an import error of the loader."""

    def __init__(self, error: ImportError | None = None) -> None:
        self.error = error

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(EXTENSION, self) if name == EXTENSION else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        if self.error:
            raise self.error
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.compiled = True  # type: ignore[attr-defined]


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As before `install_ops`; restored afterwards."""
    monkeypatch.setattr(mmcv, "_ext", None, raising=False)
    monkeypatch.delitem(sys.modules, EXTENSION)
    yield monkeypatch
    sys.modules.pop(EXTENSION, None)


def test_compiled_operators_are_preferred(not_installed: pytest.MonkeyPatch) -> None:
    not_installed.setattr(sys, "meta_path", [FakeFinder(), *sys.meta_path])
    assert install_ops().compiled is True
    assert uses_compiled_ops()


def test_mmcv_calls_the_compiled_operators(not_installed: pytest.MonkeyPatch) -> None:
    asked = []

    def compiled_nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, offset: int) -> torch.Tensor:
        asked.append((iou_threshold, offset))
        return torch.tensor([1])

    not_installed.setattr(sys, "meta_path", [FakeFinder(), *sys.meta_path])
    compiled: Any = install_ops()
    compiled.nms = compiled_nms
    compiled.__getattr__ = lambda name: None  # of the others, mmcv only asks whether they are there
    spec = importlib.util.spec_from_file_location("mmcv.ops.nms_anew", Path(mmcv.ops.__file__).with_name("nms.py"))
    assert spec is not None and spec.loader is not None
    anew: Any = importlib.util.module_from_spec(spec)  # mmcv looks up its operators as it is imported
    spec.loader.exec_module(anew)
    _, kept = anew.nms(torch.zeros(2, 4), torch.ones(2), iou_threshold=0.5)
    assert kept.tolist() == [1] and asked == [(0.5, 0)]


def test_compiled_operators_that_do_not_load_are_reported_and_replaced(not_installed: pytest.MonkeyPatch) -> None:
    finder = FakeFinder(ImportError("undefined symbol: _ZN2at4_ops"))
    not_installed.setattr(sys, "meta_path", [finder, *sys.meta_path])
    with pytest.warns(RuntimeWarning, match="undefined symbol"):
        assert isinstance(install_ops(), TorchvisionOps)


# --- the libraries around it

LEAN = """
import sys
for name in ("imgaug", "imagecorruptions", "numba", "skimage", "imageio", "albumentations", "faster_coco_eval"):
    sys.modules[name] = None  # as if it were not installed
from bench.openmmlab import prepare_openmmlab
prepare_openmmlab()
import pytest, torch
from bench.errors import BenchError
from mmdet.datasets.transforms import ImageAug
from mmdet.registry import MODELS as DETECTORS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine import ConfigDict, DefaultScope
from mmengine.structures import InstanceData
from mmseg.registry import MODELS as SEGMENTORS
DefaultScope.get_instance("test", scope_name="mmdet")
sampler = dict(type="RandomSampler", num=8, pos_fraction=0.5)
coder = dict(type="DeltaXYWHBBoxCoder")
proposals = dict(nms_pre=20, max_per_img=9, min_bbox_size=0, nms=dict(type="nms", iou_threshold=0.7))
iou = dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5)
levels = dict(type="SingleRoIExtractor", out_channels=8, featmap_strides=[4, 8, 16, 32],
              roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0))
detector = DETECTORS.build(ConfigDict(type="MaskRCNN",
    backbone=dict(type="ResNet", depth=18, norm_eval=False),
    neck=dict(type="FPN", in_channels=[64, 128, 256, 512], out_channels=8, num_outs=5),
    rpn_head=dict(type="RPNHead", in_channels=8, feat_channels=8, bbox_coder=coder,
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True),
        anchor_generator=dict(type="AnchorGenerator", scales=[8], ratios=[1.0, 2.0], strides=[4, 8, 16, 32, 64])),
    roi_head=dict(type="StandardRoIHead", bbox_roi_extractor=levels, mask_roi_extractor=levels,
        bbox_head=dict(type="Shared2FCBBoxHead", in_channels=8, fc_out_channels=8, roi_feat_size=7, num_classes=2,
                       bbox_coder=coder),
        mask_head=dict(type="FCNMaskHead", num_convs=1, in_channels=8, conv_out_channels=8, num_classes=2)),
    train_cfg=dict(rpn=dict(assigner=iou, sampler=sampler, allowed_border=-1, pos_weight=-1),
                   rpn_proposal=proposals,
                   rcnn=dict(assigner=iou, sampler=sampler, pos_weight=-1, mask_size=14)),
    test_cfg=dict(rpn=proposals,
                  rcnn=dict(score_thr=0.0, max_per_img=5, mask_thr_binary=0.5, nms=proposals["nms"]))))
truth = InstanceData(bboxes=torch.tensor([[8.0, 8, 40, 50]]), labels=torch.tensor([1]),
                     masks=BitmapMasks([torch.ones(64, 64).byte().numpy()], 64, 64))
sample = DetDataSample(gt_instances=truth, metainfo=dict(
    img_shape=(64, 64), ori_shape=(64, 64), pad_shape=(64, 64), batch_input_shape=(64, 64), scale_factor=(1, 1)))
images, samples = torch.randn(2, 3, 64, 64), [sample, sample.clone()]
losses, _ = detector.parse_losses(detector.loss(images, samples))
losses.backward()
assert losses.isfinite() and detector.backbone.conv1.weight.grad.any()
found = detector.eval().predict(images, samples)[0].pred_instances
assert len(found) == 5 and found.masks.shape == (5, 64, 64)
segmentor = SEGMENTORS.build(dict(type="mmseg.EncoderDecoder", backbone=dict(type="mmseg.ResNet", depth=18),
    decode_head=dict(type="mmseg.FCNHead", in_channels=512, channels=8, num_classes=3, norm_cfg=dict(type="BN"))))
assert segmentor.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 1, 1)
with pytest.raises(BenchError, match="ImageAug needs imgaug"):
    ImageAug([])
"""


def test_the_libraries_work_without_optional_packages_and_without_noise() -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", LEAN], cwd=root, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
