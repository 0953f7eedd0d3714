"""The cells of a frozen backbone: one vector for each 16 x 16 pixels of a scaled image, and the label at its center."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from bench.datasets.pairs import Pair
from bench.errors import BenchError
from bench.patches import features
from bench.probes.plans import STRIDE
from leaderboard.records import Card
from pretrain.exported import ExportedBackbone
from pretrain.nets.architectures import Backbone, find_architecture

BATCH = 16
"""Number of images that pass through the network at once; it affects nothing but rounding."""


@dataclass(frozen=True)
class Network:
    """A frozen backbone in evaluation mode on a device, with inputs as its card says."""

    card: Card
    backbone: Backbone
    device: torch.device
    tensors: int
    """Number of tensors proven equal to the checkpoint's, bit for bit."""

    @property
    def channels(self) -> int:
        """Number of channels of a cell."""
        return sum(find_architecture(self.card.architecture).channels[-2:])

    @torch.inference_mode()
    def cells(self, images: NDArray[np.uint8]) -> Tensor:
        """Cells, float32 (N, C, H / 16, W / 16) on the device, of RGB images (N, H, W, 3)."""
        x = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float() / 255
        return self.cells_of_input(normalized(x, self.card))

    @torch.inference_mode()
    def cells_of_input(self, x: Tensor) -> Tensor:
        """Cells of the backbone's input (N, 3, H, W), which is normalized and has its channels in the card's order.

        The last two maps are concatenated at stride 16, after upsampling the one of a larger stride: C4 and C5 of a
        ResNet, the maps after blocks 9 and 12 of a ViT.

        Raises:
            BenchError: a value is not finite.
        """
        size = (x.shape[2] // STRIDE, x.shape[3] // STRIDE)
        maps = features(self.backbone, x)[-2:]
        cells = torch.cat([m if m.shape[2:] == size else interpolate(m, size, mode="bilinear") for m in maps], 1)
        if not cells.isfinite().all():
            raise BenchError(f"a cell of {self.card.name} is not finite: has its training diverged?")
        return cells


def normalized(images: Tensor, card: Card) -> Tensor:
    """RGB images in [0, 1] (N, 3, H, W), normalized and with channels ordered as the card says."""
    ordered = images.flip(1) if card.color_order == "BGR" else images
    mean, std = (images.new_tensor(values)[:, None, None] for values in (card.mean, card.std))
    return (ordered - mean) / std


def freeze(exported: ExportedBackbone, device: torch.device) -> Network:
    """The network of an exported backbone, proven to hold its weights.

    Raises:
        BenchError: a tensor of the built network differs from the checkpoint's.
    """
    backbone = exported.build().requires_grad_(False).eval().to(device)
    state = backbone.state_dict()
    other = [name for name, value in exported.tensors.items() if not torch.equal(state[name].cpu(), value)]
    if other or state.keys() != exported.tensors.keys():
        raise BenchError(f"{exported.folder}: the network that was built does not hold the checkpoint's weights")
    return Network(exported.card, backbone, device, len(state))


def read_scaled(pair: Pair, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture of a pair, RGB (H, W, 3), scaled to (H, W) as Pillow's bilinear filter does, which smooths before it
    shrinks.

    Raises:
        BenchError: it is missing or damaged.
    """
    picture = Image.fromarray(np.ascontiguousarray(pair.load_pixels()[:, :, ::-1]))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def cell_labels(labels: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """The labels (rows, columns) of the pixels at the cells' centers, from a label map of any size."""
    height, width = labels.shape
    y = ((np.arange(rows) + 0.5) * height / rows).astype(np.int64)
    x = ((np.arange(columns) + 0.5) * width / columns).astype(np.int64)
    return np.ascontiguousarray(labels[y[:, None], x[None, :]])
