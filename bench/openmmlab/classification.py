"""Fine-tuning for images with one class each: a linear classifier on the backbone's last map, averaged.

The libraries here have no classifiers of images. These classes are mmengine's own kinds, so that the runner, its
checkpoints and its guards serve them as they serve detectors. Import after :func:`bench.openmmlab.prepare_openmmlab`,
which does. Protocols find the classes in mmengine's scope.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS, TRANSFORMS
from mmengine.structures import BaseDataElement
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bench.datasets.classified import Part, classified_images
from bench.errors import BenchError
from bench.metrics.classification import class_metrics
from bench.metrics.outputs import keep_counts
from bench.openmmlab.datasets import Share
from bench.openmmlab.metrics import Metric
from bench.probes.images import central_square
from leaderboard.shares import SHARES, Shares
from pretrain.data.crops import draw_box

Mode = Literal["tensor", "loss", "predict"]


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """A backbone and a linear layer on the mean of its last map's cells; the loss is the cross entropy.

    Args:
        backbone: a backbone of mmdet's, of which the last map is read.
        channels: channels of this map.
        classes: number of classes.
        std: weights start from N(0, std) and biases from 0; None: from the distributions of PyTorch's `Linear`.
        data_preprocessor: what normalizes images.
    """

    with_neck = False

    def __init__(
        self,
        backbone: Mapping[str, Any],
        channels: int,
        classes: int,
        data_preprocessor: Mapping[str, Any],
        std: float | None = None,
    ) -> None:
        super().__init__(data_preprocessor=dict(data_preprocessor))
        self.backbone = MMDET_MODELS.build({**backbone, "_scope_": "mmdet"})
        self.head = nn.Linear(channels, classes)
        if std is not None:
            nn.init.normal_(self.head.weight, std=std)
            nn.init.zeros_(self.head.bias)

    def scores(self, maps: Sequence[Tensor]) -> Tensor:
        """Scores (N, classes) from the backbone's maps."""
        found: Tensor = self.head(maps[-1].mean((2, 3)))
        return found

    def forward(
        self, inputs: Tensor, data_samples: list[BaseDataElement] | None = None, mode: Mode = "tensor"
    ) -> Tensor | dict[str, Tensor] | list[BaseDataElement]:
        """Scores (N, classes) of normalized images (N, 3, H, W); or their loss; or the samples, each with `scores`."""
        scores = self.scores(self.backbone(inputs))
        if mode == "tensor":
            return scores
        assert data_samples is not None
        if mode == "loss":
            labels = torch.tensor([sample.label for sample in data_samples], device=scores.device)
            return {"loss_cls": cross_entropy(scores, labels)}
        for sample, own in zip(data_samples, scores, strict=True):
            sample.scores = own
        return data_samples


@DATASETS.register_module()
class DenseBenchClassified(Share, BaseDataset):
    """The images of a `part` of one of ImageNet's variants below `data_root`; `name` is one of `TREES`.

    A `share` is one of each class (`bench.datasets.shares`).
    """

    def __init__(self, *, name: str, part: Part, data_root: str, **kwargs: Any) -> None:
        self.name, self.part = name, part
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """All images; raises :class:`BenchError` if a list or folder is missing or damaged."""
        images = classified_images(Path(self.data_root), self.name, self.part)
        self._metainfo["classes"] = images.classes
        return [
            {"img_path": str(path), "name": name, "label": int(label), "class": images.classes[label]}
            for path, name, label in zip(images.paths, images.names, images.labels, strict=True)
        ]


class _Square(BaseTransform):
    """Makes a square of the loaded image `img`."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace `img`, BGR (H, W, 3), by the square."""
        square = np.array(self._square(Image.fromarray(results["img"])))
        results["img"], results["img_shape"] = square, square.shape[:2]
        return results

    def _square(self, picture: Image.Image) -> Image.Image:
        raise NotImplementedError


@TRANSFORMS.register_module()
class RandomSquare(_Square):
    """torchvision's `RandomResizedCrop` to `side` pixels by Pillow's bilinear filter, flipped with probability 1/2.

    Args:
        side: height and width.
        area: range of the crop's share of the image.
        ratio: range of its width / height.
    """

    def __init__(
        self, side: int, area: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
    ) -> None:
        self.side, self.area, self.ratio = side, area, ratio

    def _square(self, picture: Image.Image) -> Image.Image:
        # numpy's own generator is the one that a checkpoint holds, and that loading processes are given
        rng = np.random.default_rng(np.random.randint(2**31))
        left, top, width, height = draw_box(rng, *picture.size, self.area, self.ratio)
        square = picture.crop((left, top, left + width, top + height))
        square = square.resize((self.side, self.side), Image.Resampling.BILINEAR)
        return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else square


@TRANSFORMS.register_module()
class CentralSquare(_Square):
    """The central `side` pixels after the shorter side was scaled to 8/7 of it, as papers evaluate (224 of 256)."""

    def __init__(self, side: int) -> None:
        self.side = side

    def _square(self, picture: Image.Image) -> Image.Image:
        return central_square(picture, self.side)


@TRANSFORMS.register_module()
class PackClassified(BaseTransform):
    """Packs the image as the input (3, H, W), with its label, name and path."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """`inputs` and `data_samples` of the runner."""
        sample = BaseDataElement(metainfo={key: results[key] for key in ("img_path", "name", "label")})
        return {"inputs": torch.from_numpy(results["img"]).permute(2, 0, 1), "data_samples": sample}


@METRICS.register_module()
class ClassificationMetric(Metric):
    """top-1, top-5 (of more than five classes) and the mean accuracy of classes, in per cent.

    `dump` is a folder for `counts.npz` with the images' `labels` and `predicted` classes, and for `shares.npz`.
    """

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep each image's scores."""
        for sample in data_samples:
            scores = sample["scores"].detach().float().cpu().numpy()
            self.results.append((sample["name"], sample["label"], scores))

    def compute_metrics(self, results: list[tuple[str, int, Any]]) -> dict[str, float]:
        """The values of the whole set; raises :class:`BenchError` where an image was evaluated twice."""
        names = [name for name, _, _ in results]
        if len(set(names)) != len(names):
            raise BenchError("an image was evaluated twice: its name occurs more than once in the validation set")
        labels = np.array([label for _, label, _ in results], np.int64)
        scores = np.stack([own for _, _, own in results]).astype(np.float64)
        found = class_metrics(scores, labels)
        if self.dump:
            keep_counts(self.dump, names, {"labels": labels, "predicted": scores.argmax(1)})
            shares = {name: of_images for name, (_, of_images) in found.items()}
            Shares(tuple(names), shares).write(self.dump / SHARES)
        return {name: value for name, (value, _) in found.items()}
