"""Traps of the OpenMMLab libraries that change results of segmentation without a word: one test each, on what is built.

The numbers are those of the list from which the guards were made; those that are not here concern detectors.
"""

import csv
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reduced_segmentation import PAPER_SEGMENTATION, reduced
from short_protocols import changed, checkpoint
from torch.nn.functional import cross_entropy
from training_plans import plan_of

from bench.errors import BenchError
from bench.openmmlab import guards, prepare_openmmlab
from bench.openmmlab.build import build_model, prove_backbone, resolve
from bench.protocol_text import as_python
from bench.protocols import _SECTIONS, Protocol, load_protocol, read_protocol
from leaderboard import published
from pretrain.exported import ExportedBackbone, read_exported

prepare_openmmlab()

ROOT = Path("/data")
both = pytest.mark.parametrize("protocol_id", PAPER_SEGMENTATION)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("work"))


@cache
def loaded(folder: Path) -> ExportedBackbone:
    return read_exported(folder)


def built(protocol: Protocol, folder: Path) -> Any:
    return build_model(resolve(protocol, loaded(folder).card, ROOT), dict(loaded(folder).tensors), seed=0)


@cache
def whole(protocol_id: str, folder: Path) -> Any:
    """The protocol's model, for tests that leave it as it is."""
    return built(load_protocol(protocol_id), folder).train()


@both
@pytest.mark.filterwarnings("ignore:DeprecationWarning. pretrained is a deprecated")
def test_trap_3_mmsegs_deep_stem(protocol_id: str, backbone: Path) -> None:
    """Its FCN configs have a ResNetV1c, into which a usual ResNet loads with the stem left at random."""
    from mmengine.config import ConfigDict
    from mmseg.models.backbones import ResNet
    from mmseg.registry import MODELS

    model, exported = whole(protocol_id, backbone), loaded(backbone)
    assert type(model.backbone) is ResNet and not model.backbone.deep_stem and model.backbone.pretrained is None
    assert prove_backbone(model.backbone, dict(exported.tensors)) == 100  # 20 convolutions, 20 norms of 4 tensors
    guards.check_backbone(model.backbone, exported.card)
    if protocol_id != PAPER_SEGMENTATION[0]:
        return  # one protocol shows what is refused
    deep = changed(load_protocol(protocol_id), lambda c: c["model"]["backbone"].update(type="ResNetV1c"))
    with pytest.raises(BenchError, match=r"not filled \(stem"):
        built(deep, backbone)
    named = resolve(load_protocol(protocol_id), exported.card, ROOT)["model"] | {"pretrained": "resnet50_v1c.pth"}
    with pytest.raises(BenchError, match=r"initialised from 'resnet50_v1c\.pth'"):
        guards.check_no_other_weights(MODELS.build(ConfigDict(named)), None)


@both
def test_trap_4_configs_that_documentation_names_and_nobody_has(protocol_id: str, tmp_path: Path) -> None:
    """Ours are in the package, and complete without any other file."""
    protocol = load_protocol(protocol_id)
    (tmp_path / "shown.py").write_text(as_python(protocol))
    assert read_protocol(tmp_path / "shown.py").sha256 == protocol.sha256
    assert set(protocol.config) == {"protocol", *_SECTIONS}


@both
def test_trap_10_padding_of_raw_pixels(protocol_id: str, backbone: Path) -> None:
    """Black raw pixels are a strong color after normalization; papers padded after it, with 0, the mean color."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    protocol = load_protocol(protocol_id)
    steps = [step["type"] for step in protocol.config["train_dataloader"]["dataset"]["pipeline"]]
    assert "Pad" not in steps
    crop, _ = protocol.config["model"]["data_preprocessor"]["size"]
    sample = SegDataSample(metainfo={"img_shape": (40, 30)}, gt_sem_seg=PixelData(data=torch.ones(1, 40, 30).long()))
    image = torch.full((3, 40, 30), 255, dtype=torch.uint8)
    given = whole(protocol_id, backbone).data_preprocessor({"inputs": [image], "data_samples": [sample]}, True)
    inputs, labels = given["inputs"][0], given["data_samples"][0].gt_sem_seg.data[0]
    assert inputs.shape == (3, crop, crop) and labels.shape == (crop, crop)
    assert inputs[:, :40, :30].all() and not inputs[:, 40:].any() and not inputs[:, :, 30:].any()
    assert (labels[:40, :30] == 1).all() and (labels[40:] == 255).all() and (labels[:, 30:] == 255).all()


def plain_miou(pairs: list[tuple[Any, Any]], classes: int, *, absent: float | None = None) -> float:
    """mIoU (%) by counting pixel after pixel; classes in no label and no prediction are left out, or count `absent`."""
    hits, union = [0] * classes, [0] * classes
    for label, found in pairs:
        for true, predicted in zip(label.flatten().tolist(), found.flatten().tolist(), strict=True):
            if true == 255:
                continue
            hits[true] += true == predicted
            for one in {true, predicted}:
                union[one] += 1
    ious = [h / u if u else absent for h, u in zip(hits, union, strict=True)]
    kept = [iou for iou in ious if iou is not None]
    return 100 * sum(kept) / len(kept)


def test_trap_11_rounded_ious_absent_classes_and_means_over_images() -> None:
    from mmseg.registry import METRICS

    generator = torch.Generator().manual_seed(3)
    pairs = [torch.randint(0, 4, (2, 1, 7, 5 + i), generator=generator) for i in range(3)]
    for i, pair in enumerate(pairs):
        pair[0, 0, i] = 255
        pair[1, 0, 0, 0] = 0
    values = {}
    for name in ("SegmentationMetric", "IoUMetric"):
        metric = METRICS.build({"type": name})
        metric.dataset_meta = {"classes": ("a", "b", "c", "d", "absent")}
        for label, found in pairs:
            metric.process({}, [{"gt_sem_seg": {"data": label}, "pred_sem_seg": {"data": found}, "img_path": "x.jpg"}])
        values[name] = metric.evaluate(len(pairs))["mIoU"]
    exact = plain_miou([tuple(pair) for pair in pairs], 5)  # type: ignore[misc]
    assert values["SegmentationMetric"] == pytest.approx(exact, rel=1e-12)
    assert values["IoUMetric"] == pytest.approx(round(exact, 2)) and abs(values["IoUMetric"] - exact) > 1e-4
    assert abs(exact - plain_miou([tuple(pair) for pair in pairs], 5, absent=0.0)) > 1  # type: ignore[misc]
    assert abs(exact - np.mean([plain_miou([tuple(pair)], 5) for pair in pairs])) > 0.01  # type: ignore[list-item]


def test_trap_12_settings_that_nothing_reads(tmp_path: Path) -> None:
    """Configs of another version keep names that are ignored: what then runs is the inherited schedule."""
    for protocol_id in PAPER_SEGMENTATION:
        assert load_protocol(protocol_id).config.keys() <= {"protocol", *_SECTIONS}
        with pytest.raises(BenchError, match="will run 84 iterations, the protocol plans"):
            guards.check_schedule(
                84, torch.optim.SGD([torch.zeros(1)], lr=0.01), [], plan_of(load_protocol(protocol_id))
            )
    text = as_python(load_protocol(PAPER_SEGMENTATION[0]))
    text = text.replace('id="paper_', 'id="own_').replace('track="paper"', 'track="own"')
    (tmp_path / "own.py").write_text(text)
    assert load_protocol(str(tmp_path / "own.py")).track == "own"
    (tmp_path / "own.py").write_text(text + "runner = dict(max_epochs=84)\ncheckpoint_config = dict(interval=10)\n")
    with pytest.raises(BenchError, match="nothing reads checkpoint_config, runner: remove it"):
        load_protocol(str(tmp_path / "own.py"))


def test_trap_13_precise_batch_norm_is_not_in_the_libraries() -> None:
    """Ours is `bench.openmmlab.precise_bn` (test_precise_bn.py). Segmentation of the papers has none, and so says."""
    from mmdet.registry import HOOKS as MMDET_HOOKS
    from mmengine.registry import HOOKS
    from mmseg.registry import HOOKS as MMSEG_HOOKS

    hooks = {*HOOKS.module_dict, *MMDET_HOOKS.module_dict, *MMSEG_HOOKS.module_dict}
    assert len(hooks) > 20 and not [name for name in hooks if "precise" in name.lower()]
    for protocol_id in PAPER_SEGMENTATION:
        assert plan_of(load_protocol(protocol_id)).precise_bn_images == 0


@both
def test_trap_16_values_copied_by_hand(protocol_id: str) -> None:
    """What a protocol's file says was published is what the table of values holds that were read at their source."""
    with (Path(published.__path__[0]) / "values.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["protocol"] == protocol_id]
    told = re.search(r"^Published.*?(?=^[A-Z][a-z ]+:)", load_protocol(protocol_id).docstring, re.M | re.S)
    assert told
    if not rows:
        assert told[0].startswith("Published: none that could be verified")
        return
    values = re.findall(r"(?<![\d.])\d\d\.\d+", told[0])
    assert sorted(values) == sorted(row["value"] for row in rows)
    for row in rows:
        method = re.escape(row["method"])
        assert re.search(rf"{method}[^,;:]*?(?:,[^,;:]*?)?\s{re.escape(row['value'])}", told[0].replace("\n", " ")), row


# What the trap list does not name, and what the same reading of the libraries showed.


@both
def test_the_built_model_is_dilated_and_its_auxiliary_loss_weighs_less(protocol_id: str, backbone: Path) -> None:
    model = whole(protocol_id, backbone)
    guards.check_segmenter(model, plan_of(load_protocol(protocol_id)))
    assert model.training
    # contract_dilation: the first block of a stage keeps half of the stage's dilation
    found = [[block.conv1.dilation[0] for block in getattr(model.backbone, f"layer{stage}")] for stage in (1, 2, 3, 4)]
    assert found == [[1, 1], [1, 1], [1, 2], [2, 4]]
    assert (model.decode_head.loss_decode.loss_weight, model.auxiliary_head.loss_decode.loss_weight) == (1.0, 0.4)
    assert model.decode_head.concat_input and not model.auxiliary_head.concat_input
    assert model.align_corners == model.auxiliary_head.align_corners == ("city" in protocol_id)


def test_another_stride_or_auxiliary_weight_is_refused(backbone: Path) -> None:
    def stock(config: dict[str, Any]) -> None:
        config["model"]["backbone"] |= {"strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 2)}

    plan = plan_of(load_protocol(PAPER_SEGMENTATION[0]))
    with pytest.raises(BenchError, match="a map of stride 16, the protocol plans 8"):
        guards.check_segmenter(built(changed(load_protocol(PAPER_SEGMENTATION[0]), stock), backbone), plan)
    model = whole(PAPER_SEGMENTATION[0], backbone)
    with pytest.raises(BenchError, match=r"an auxiliary loss of weight 0\.4, the protocol plans weight 0\.2"):
        guards.check_segmenter(model, replace(plan, auxiliary_weight=0.2))
    with pytest.raises(BenchError, match=r"has no auxiliary head, the protocol plans weight 0\.4"):
        guards.check_segmenter(torch.nn.Module(), replace(plan, output_stride=None))


def test_ignored_pixels_count_in_the_mean_of_the_loss(backbone: Path) -> None:
    """mmseg divides by all pixels of the crop; dividing by the labelled ones is another learning rate a crop."""
    head = whole(PAPER_SEGMENTATION[0], backbone).decode_head
    scores, labels = torch.randn(2, 21, 6, 6), torch.randint(0, 21, (2, 6, 6))
    labels[:, 3:] = 255
    expected = cross_entropy(scores.double(), labels, ignore_index=255, reduction="sum") / labels.numel()
    found = head.loss_decode(scores, labels, ignore_index=255)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_sliding_windows_average_and_cover_the_whole_image(backbone: Path) -> None:
    """Against a plain loop, on an image that the windows do not divide evenly."""
    protocol = reduced("paper_city_seg_fcn_d8_40k", crop=33)
    model = built(protocol, backbone).eval()
    image = torch.randn(1, 3, 41, 70)
    window, stride = 33, 22
    sums, counts = torch.zeros(1, 19, 41, 70).double(), torch.zeros(41, 70)
    with torch.no_grad():
        meta = {"ori_shape": (41, 70), "img_shape": (41, 70), "pad_shape": (41, 70)}
        found = model.slide_inference(image, [dict(meta)])
        for top in (0, 8):  # the last windows end at the border
            for left in (0, 22, 37):
                part = image[..., top : top + window, left : left + window]
                scores = model.decode_head(model.extract_feat(part))
                scores = torch.nn.functional.interpolate(scores, (window, window), mode="bilinear", align_corners=True)
                sums[..., top : top + window, left : left + window] += scores
                counts[top : top + window, left : left + window] += 1
    assert stride == model.test_cfg.stride[0] and counts.min() == 1
    torch.testing.assert_close(found.double(), sums / counts, rtol=1e-4, atol=1e-4)
