"""Known traps of fine-tuned detectors, one test each, on what is built from track paper's own protocols.

Numbers are those of the list in the specification of the protocols; those of segmentation and of precise statistics
are tested elsewhere.
"""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from reduced_protocols import reduced
from short_protocols import changed, checkpoint, reference
from torch import nn
from voc_0712 import with_voc2007

from bench.errors import BenchError
from bench.metrics.voc_detection import Detections, Objects, evaluate_voc
from bench.openmmlab import guards, prepare_openmmlab
from bench.openmmlab.build import build_model, resolve
from bench.openmmlab.runner import run_transfer
from bench.protocols import Protocol, load_protocol
from bench.tracks import find_track
from leaderboard.records import Card
from pretrain.exported import read_exported

C4, COCO = "paper_voc0712_det_c4_24k", "paper_coco_mrcnn_fpn_1x_b"
TRACK = find_track("paper")
DETECTORS = [
    name for name in (*TRACK.protocols, *TRACK.further) if load_protocol(name).config["default_scope"] == "mmdet"
]
ROOT = Path("/data")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def card(backbone: Path) -> Card:
    return read_exported(backbone).card


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_voc2007(tiny_data, tmp_path_factory.mktemp("traps") / "data")


def build(protocol: Protocol, backbone: Path) -> Any:
    exported = read_exported(backbone)
    return build_model(resolve(protocol, exported.card, ROOT), dict(exported.tensors), seed=0)


def test_trap_1_a_preprocessor_above_the_model_is_ignored(backbone: Path, data: Path, tmp_path: Path) -> None:
    """mmengine leaves the model's own where the config has another at its top: the run ends before it trains."""

    def misplace(config: dict[str, Any]) -> None:
        right = config["model"]["data_preprocessor"]
        config["data_preprocessor"] = dict(right)
        right |= {"mean": [103.53, 116.28, 123.675], "std": [1.0, 1.0, 1.0], "bgr_to_rgb": False}

    protocol = changed(reduced(C4), misplace)
    with pytest.raises(BenchError, match="the built model normalises with mean"):
        run_transfer(protocol, backbone, data, reference(protocol), 0, tmp_path / "run")


@pytest.mark.parametrize("protocol_id", DETECTORS)
def test_trap_2_milestones_that_are_never_reached(protocol_id: str) -> None:
    prepare_openmmlab()
    from mmengine.registry import PARAM_SCHEDULERS

    protocol = load_protocol(protocol_id)
    plan, (_, steps) = protocol.plan, protocol.config["param_scheduler"]
    assert max(steps["milestones"]) < plan.iterations == protocol.config["train_cfg"]["max_iters"] == steps["end"]
    assert plan.final_learning_rate == pytest.approx(plan.learning_rate * 0.1 ** len(steps["milestones"]))

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=plan.learning_rate)
    late = PARAM_SCHEDULERS.build(
        {**steps, "milestones": [*steps["milestones"][:-1], plan.iterations], "optimizer": optimizer}
    )
    with pytest.raises(BenchError, match="after the last one"):
        guards.check_schedule(plan.iterations, optimizer, [late], plan)


def test_trap_2_every_rate_is_detectron2s() -> None:
    """A warm-up from a thousandth on, complete at iteration 100, and a tenth from each milestone on."""
    prepare_openmmlab()
    from mmengine.registry import PARAM_SCHEDULERS

    protocol = load_protocol(C4)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.02)
    schedulers = [PARAM_SCHEDULERS.build({**s, "optimizer": optimizer}) for s in protocol.config["param_scheduler"]]
    rates = []
    for _ in range(24_000):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    iterations = np.arange(24_000)
    warm = 0.001 + 0.999 * np.minimum(1, iterations / 100)
    drops = (iterations >= 18_000).astype(int) + (iterations >= 22_000)
    np.testing.assert_allclose(rates, 0.02 * warm * 0.1**drops, rtol=1e-9)


def test_trap_5_a_random_res5(backbone: Path) -> None:
    """The head of a C4 detector has the checkpoint's layer4; a detector without a place for it is refused."""
    tensors = dict(read_exported(backbone).tensors)
    head = build(load_protocol(C4), backbone).roi_head.shared_head
    layer4 = {name: tensor for name, tensor in tensors.items() if name.startswith("layer4.")}
    held = head.state_dict()
    assert len(layer4) == 30 and all(torch.equal(held[name], tensor) for name, tensor in layer4.items())
    headless = changed(load_protocol(C4), lambda config: config["model"]["roi_head"].pop("shared_head"))
    with pytest.raises(BenchError, match=r"tensors 25 left over \(layer4"):
        build(headless, backbone)


@pytest.mark.parametrize(
    ("protocol_id", "part", "setting", "message"),
    [
        (C4, "backbone", {"frozen_stages": 0}, "frozen, first backbone.conv1.weight"),
        (COCO, "backbone", {"norm_eval": True}, "fixed statistics"),
        (COCO, "neck", {"norm_cfg": {"type": "BN", "requires_grad": False}}, r"frozen, first neck.lateral_convs.0.bn"),
    ],
)
def test_trap_6_frozen_parts(
    protocol_id: str, part: str, setting: dict[str, Any], message: str, backbone: Path
) -> None:
    protocol = changed(load_protocol(protocol_id), lambda config: config["model"][part].update(setting))
    with pytest.raises(BenchError, match=message):
        guards.check_trained(build(protocol, backbone).train())


def test_trap_6_a_head_with_fixed_statistics(backbone: Path) -> None:
    """mmdet's own res5 head keeps its statistics."""
    stock = {"type": "ResLayer", "depth": "card:depth", "norm_cfg": {"type": "BN"}}
    protocol = changed(load_protocol(C4), lambda config: config["model"]["roi_head"].update(shared_head=stock))
    with pytest.raises(BenchError, match=r"fixed statistics in training \(roi_head.shared_head.layer4"):
        guards.check_trained(build(protocol, backbone).train())


def dataset_of(root: Path, card: Card, loader: str = "train_dataloader") -> Any:
    prepare_openmmlab()
    from mmdet.registry import DATASETS
    from mmengine import DefaultScope

    with DefaultScope.overwrite_default_scope("mmdet"):
        return DATASETS.build(resolve(load_protocol(C4), card, root)[loader]["dataset"])


def test_trap_7_two_years_of_voc_have_one_description(data: Path, card: Card) -> None:
    """mmdet's own classes note their year, and the pair of them then describes itself by a list."""
    both = dataset_of(data, card)
    assert isinstance(both.metainfo, dict) and len(both.metainfo["classes"]) == 20
    assert [len(part) for part in both.datasets] == [4, 4]
    years = [Path(part.get_data_info(0)["img_path"]).parts[-3] for part in both.datasets]
    assert years == ["VOC2007", "VOC2012"]
    tested = dataset_of(data, card, "test_dataloader")
    assert len(tested) == 4 and tested.metainfo.items() <= both.metainfo.items()


def test_trap_8_ap_is_no_ap50_and_is_not_rounded() -> None:
    """One class is found with an IoU of .6, another one exactly, and a third is not found at all."""
    assert load_protocol(C4).config["test_evaluator"] == {"type": "VOCDetectionMetric"}
    boxes = np.array([[0.0, 0, 100, 100], [0, 0, 100, 100], [0, 0, 100, 100]])
    truth = Objects(boxes, np.array([0, 1, 2]), np.zeros(3, bool))
    found = Detections(np.array([[0.0, 0, 100, 60], [0, 0, 100, 100]]), np.array([0.9, 0.9]), np.array([0, 1]))
    scores = evaluate_voc([truth], [found], 20)
    # IoU .6 is above .50 and .55, and not above .60
    assert scores.ap50 == pytest.approx(100 * 2 / 3, abs=1e-9)
    assert scores.ap75 == pytest.approx(100 / 3, abs=1e-9)
    assert scores.ap == pytest.approx(100 * (2 * 2 + 8) / 30, abs=1e-9)


def test_trap_9_difficult_and_small_objects_are_trained_on(data: Path, card: Card, tmp_path: Path) -> None:
    """Boxes of VOC 2007 as they arrive: only the first pixel is counted from 1, and nothing is ignored."""
    root = tmp_path / "data"
    for year in (2007, 2012):
        source, folder = (place / f"VOCdevkit/VOC{year}" for place in (data, root))
        folder.mkdir(parents=True)
        for part in ("JPEGImages", "ImageSets", "Annotations"):
            (folder / part).symlink_to(source / part)
    annotations = root / "VOCdevkit/VOC2007/Annotations"
    annotations.unlink()
    annotations.mkdir()
    for source in (data / "VOCdevkit/VOC2007/Annotations").iterdir():
        tree = ElementTree.parse(source)
        for old in tree.getroot().findall("object"):
            tree.getroot().remove(old)
        tree.getroot().append(
            ElementTree.fromstring(
                "<object><name>cow</name><difficult>1</difficult><truncated>0</truncated><bndbox>"
                "<xmin>11</xmin><ymin>21</ymin><xmax>15</xmax><ymax>22</ymax></bndbox></object>"
            )
        )
        tree.write(annotations / source.name)
    (instance,) = dataset_of(root, card).get_data_info(0)["instances"]
    assert instance == {"bbox": [10, 20, 15, 22], "bbox_label": 9, "ignore_flag": 0, "difficult": True}


@pytest.mark.parametrize("protocol_id", DETECTORS)
def test_trap_14_a_batch_for_which_the_learning_rate_was_not_made(protocol_id: str, card: Card) -> None:
    """However many processes share it, an iteration has the images that the learning rate is for."""
    protocol = load_protocol(protocol_id)
    plan = protocol.plan

    class Loader:
        batch_sampler = None

        def __init__(self, batch_size: int) -> None:
            self.batch_size = batch_size

    for world in (1, 2, 4, 8):
        config = resolve(protocol, card, ROOT, world)
        loader = Loader(config["train_dataloader"]["batch_size"])
        guards.check_batch(loader, plan, world)
        own = {"r2o": 0.1, "retinanet": 0.01, "fcos": 0.01}  # R2O and one-stage detectors have rates of their own
        linear = next((rate for name, rate in own.items() if name in protocol_id), 0.02 * plan.batch_size / 16)
        assert config["optim_wrapper"]["optimizer"]["lr"] == plan.learning_rate == linear
        if world > 1:
            with pytest.raises(BenchError, match="images per iteration"):
                guards.check_batch(loader, plan)


@pytest.mark.parametrize("protocol_id", [C4, "paper_city_inst_mrcnn_fpn_24k"])
def test_trap_15_a_detector_in_place_of_the_backbone(protocol_id: str, backbone: Path) -> None:
    """A stock Cityscapes detector begins with one that was trained on COCO: nothing but the backbone is loaded."""
    named = changed(load_protocol(protocol_id), lambda config: config.update(load_from="mask_rcnn_coco.pth"))
    with pytest.raises(BenchError, match=r"would load 'mask_rcnn_coco.pth' \(load_from\)"):
        build(named, backbone)
    whole = {"type": "Pretrained", "checkpoint": "mask_rcnn_coco.pth"}
    pretrained = changed(load_protocol(protocol_id), lambda config: config["model"]["roi_head"].update(init_cfg=whole))
    with pytest.raises(BenchError, match=r"is initialised from 'mask_rcnn_coco.pth'"):
        build(pretrained, backbone)
