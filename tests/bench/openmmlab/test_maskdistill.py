"""Segmenters that learn from discovered labels, and the metrics of labels without names."""

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from object_tables import a_table
from short_protocols import changed, checkpoint, reference, short
from torch.nn.functional import cross_entropy

from bench.datasets import check, generate
from bench.datasets.coco import load_coco
from bench.datasets.discovered import read_discovered
from bench.errors import BenchError
from bench.metrics.segmentation import segmentation_scores
from bench.openmmlab.build import resolve
from bench.openmmlab.prepare import prepare_openmmlab
from bench.openmmlab.runner import evaluate_stored, run_transfer
from bench.protocols import Protocol, load_protocol
from pretrain.exported import read_exported

prepare_openmmlab()

from mmdet.registry import DATASETS  # noqa: E402
from mmengine import DefaultScope  # noqa: E402

from bench.openmmlab.discovered import HungarianSegmentationMetric, instance_of  # noqa: E402
from bench.openmmlab.linear import LinearPlan, fit_classifier  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generated") / "data"
    generate(root, train=8, val=4, pretrain=0)
    listed = (root / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt").read_text().split()
    a_table([f"{name}.jpg" for name in listed], root / "maskdistill" / "voc2012.npy")
    images = load_coco(root / "coco/annotations/instances_train2017.json").images.values()
    a_table([image.file_name for image in images], root / "maskdistill" / "coco2017.npy")
    return root


def short_voc() -> Protocol:
    def cut(config: dict[str, Any]) -> None:
        config["linear"] |= {"iterations": 2, "milestones": (1,)}

    return changed(short("mini_voc_maskdistill"), cut)


@pytest.mark.slow
def test_a_segmenter_learns_discovered_labels_and_is_scored_both_ways(data: Path, tmp_path: Path) -> None:
    """And again from its stored weights, to the same values."""
    protocol, backbone = short_voc(), checkpoint(tmp_path / "work")
    result = run_transfer(protocol, backbone, data, reference(protocol), 0, tmp_path / "run")
    names = {"mIoU", "mAcc", "aAcc"}
    assert set(result.metrics) == names | {f"linear_{name}" for name in names}
    assert set(result.standard_errors) == names
    again = evaluate_stored(protocol, backbone, data, tmp_path / "run", tmp_path / "again")
    assert again == result.metrics


@pytest.mark.slow
def test_a_detector_learns_discovered_masks_and_is_scored_without_classes(data: Path, tmp_path: Path) -> None:
    protocol = short("mini_coco_maskdistill")
    result = run_transfer(protocol, checkpoint(tmp_path / "work"), data, reference(protocol), 0, tmp_path / "run")
    names = {"multi_AP", "multi_AP50", "single_AP", "single_AP50"}
    assert set(result.metrics) == set(result.standard_errors) == names
    found = json.loads((tmp_path / "run" / "detections.json").read_text())
    assert {one["category_id"] for one in found} == {1}


def test_the_loss_is_the_mean_of_the_hardest_pixels() -> None:
    from mmengine.config import ConfigDict
    from mmengine.registry import init_default_scope
    from mmengine.structures import PixelData
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample

    init_default_scope("mmseg")
    config = copy.deepcopy(dict(short_voc().config["model"]["decode_head"]))
    config |= {"in_channels": [4], "in_index": (0,), "norm_cfg": {"type": "BN"}}
    head = MODELS.build(ConfigDict(config)).double()
    assert (config["sampler"]["min_kept"], 96 * 96) == (int(0.2 * 96 * 96), 9216)
    logits = torch.randn(2, 21, 96, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 21, (2, 96, 96), generator=torch.Generator().manual_seed(1))
    labels[0, :9] = 255
    samples = []
    for of_image in labels:
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=of_image[None])
        samples.append(sample)
    loss = float(head.loss_by_feat(logits, samples)["loss_ce"])
    hard = sorted(cross_entropy(logits, labels, ignore_index=255, reduction="none")[labels != 255].tolist())
    kept = hard[-2 * int(0.2 * 96 * 96) :]
    assert loss == pytest.approx(sum(kept) / len(kept), rel=1e-9)


def test_labels_are_named_so_that_miou_is_the_highest() -> None:
    """Of all ways to give four labels four classes; image by image by the same names."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        metric = HungarianSegmentationMetric()
        metric.dataset_meta = {"classes": tuple("abcd")}
        matrices = rng.integers(0, 50, (3, 4, 4)) * (rng.random((3, 4, 4)) < 0.6)
        matrices[0, 0, 0] = 1
        results = [
            (str(number), np.flatnonzero(matrix), matrix.reshape(-1)[np.flatnonzero(matrix)])
            for number, matrix in enumerate(matrices)
        ]
        total = matrices.sum(0)
        best = max(segmentation_scores(total[:, list(order)]).miou for order in itertools.permutations(range(4)))
        assert metric.compute_metrics(results)["mIoU"] == pytest.approx(best, abs=1e-9)


def test_only_the_classifier_is_fitted() -> None:
    """Two steps of SGD by hand, on the map before the classifier."""

    class Head(torch.nn.Module):
        align_corners = False

        def __init__(self) -> None:
            super().__init__()
            self.before, self.conv_seg = torch.nn.Conv2d(3, 4, 2, 2), torch.nn.Conv2d(4, 3, 1)

        def _forward_feature(self, x: torch.Tensor) -> torch.Tensor:
            return self.before(x)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decode_head = Head()

        def data_preprocessor(self, batch: Any, training: bool) -> Any:
            return batch

        def extract_feat(self, x: torch.Tensor) -> torch.Tensor:
            return x

    class Sample:
        def __init__(self, labels: torch.Tensor) -> None:
            self.gt_sem_seg = type("Map", (), {"data": labels[None]})()

    torch.manual_seed(0)
    model = Model()
    before = copy.deepcopy(model.decode_head.before.state_dict())
    inputs, labels = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    labels[0, :2] = 255
    batch = {"inputs": inputs, "data_samples": [Sample(one) for one in labels]}
    plan = LinearPlan(2, 0.5, 0.01, (1,), {}, {})
    torch.manual_seed(1)
    fit_classifier(model, itertools.repeat(batch), plan)

    torch.manual_seed(1)
    weight = torch.nn.init.normal_(torch.empty(3, 4, 1, 1), std=0.01).requires_grad_()
    bias = torch.zeros(3, requires_grad=True)
    momentum = [torch.zeros_like(weight), torch.zeros_like(bias)]
    x = model.decode_head.before(inputs).detach()
    for rate in (0.5, 0.05):
        logits = torch.nn.functional.conv2d(x, weight, bias)
        logits = torch.nn.functional.interpolate(logits, size=(8, 8), mode="bilinear", align_corners=False)
        loss = cross_entropy(logits.permute(0, 2, 3, 1)[labels != 255], labels[labels != 255])
        gradients = torch.autograd.grad(loss, [weight, bias])
        with torch.no_grad():
            for place, (value, gradient) in enumerate(zip((weight, bias), gradients, strict=True)):
                momentum[place] = 0.9 * momentum[place] + gradient + 0.01 * value
                value -= rate * momentum[place]
    assert torch.allclose(model.decode_head.conv_seg.weight, weight, atol=1e-6)
    assert torch.allclose(model.decode_head.conv_seg.bias, bias, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in model.decode_head.before.state_dict().items())


def test_every_discovered_object_is_trained_on(data: Path, tmp_path: Path) -> None:
    card = read_exported(checkpoint(tmp_path / "work")).card
    config = resolve(load_protocol("mini_coco_maskdistill"), card, data)
    with DefaultScope.overwrite_default_scope("mmdet"):
        objects = DATASETS.build(config["train_dataloader"]["dataset"])
    assert len(objects) == 8
    for sample in objects:
        found = sample["data_samples"].gt_instances
        assert found.labels.tolist() == [0] and found.masks.masks.any()


def test_the_box_of_a_mask() -> None:
    mask = np.zeros((5, 7), bool)
    mask[1:4, 2:6] = True
    mask[2, 3] = False
    assert instance_of(mask)["bbox"] == [2, 1, 6, 4]


def test_a_data_root_is_checked_with_its_table(data: Path, tmp_path: Path) -> None:
    plain, with_table = check(data, "voc2012_seg"), check(data, "voc2012_maskdistill")
    assert not with_table.errors and with_table.fingerprint != plain.fingerprint
    assert not check(data, "coco2017_maskdistill").errors
    rows = read_discovered(data / "maskdistill" / "voc2012.npy")
    assert sorted(rows.values()) == list(range(1, 9))
    root = tmp_path / "root"
    root.mkdir()
    (root / "VOCdevkit").symlink_to(data / "VOCdevkit")
    assert check(root, "voc2012_maskdistill").errors  # no folder
    a_table(["other.jpg"], root / "maskdistill" / "voc2012.npy")
    problems = [problem.message for problem in check(root, "voc2012_maskdistill").problems]
    assert any("maskdistill/voc2012.npy has no row of" in problem for problem in problems)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "link the table"),
        (lambda path: path.write_bytes(b"no table"), "is not a table of maskdistill"),
        (lambda path: np.save(path, np.zeros(3)), "its rows are float64"),
        (lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True), "is not a table"),
        (lambda path: a_table(["a.jpg", "a.jpg"], path), "two images of the same name"),
        (lambda path: a_table([f"{n}.jpg" for n in range(30)], path, clusters=30), "has 30 clusters, but only 20"),
        (lambda path: np.save(path, larger(np.load(path))), "more cells than there are"),
    ],
)
def test_what_is_no_table_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    path = a_table(["a.jpg", "b.jpg"], tmp_path / "maskdistill" / "voc2012.npy")
    change(path)
    with pytest.raises(BenchError, match=message):
        read_discovered(path, 20)


def larger(rows: NDArray[Any]) -> NDArray[Any]:
    rows["height"][1] = 500
    return rows
