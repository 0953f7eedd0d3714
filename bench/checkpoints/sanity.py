"""Checks with generated textures, within a minute and without any data, whether a network behaves like a trained one.

Each of the twenty textures of the generated data is drawn several times, in random colors, scales, angles and light. A
picture is described by the means of the network's last two maps, standardized over the pictures, and scored by the
share of its five nearest pictures (cosine) that show the same texture. The purpose of the training matters little: the
network is compared with random initialization of its own architecture, and with itself under other normalizations.
Colors are drawn at random, so that textures say nothing about the color order. Networks trained for hours score well
above chance, random ones at chance; a network trained for minutes on small images may look like a random one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.checkpoints.inspection import Inspection
from bench.checkpoints.values import convert
from bench.datasets.synthetic.stage import colours, grid, mix, photograph
from bench.datasets.synthetic.textures import TEXTURES, sample
from bench.patches import features
from pretrain.exported import WEIGHTS, is_exported, read_card
from pretrain.nets.architectures import build_backbone, find_architecture

Triple = tuple[float, float, float]
SIDE, EACH, NEIGHBORS, BATCH = 96, 6, 5, 32
RANDOM = 2
"""Number of random networks with which a network is compared."""
ABOVE_RANDOM, BETTER = 0.05, 0.1
"""Differences of scores that count: from random networks, which differ by .02, and from another normalization."""
NORMALIZATIONS: Mapping[str, tuple[Triple, Triple]] = {
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "[-1, 1]": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "values from 0 to 255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
}


@dataclass(frozen=True)
class Sanity:
    """Scores in [0, 1] of a network, and what they mean."""

    score: float
    """Score with the normalization that the card would have."""
    random: tuple[float, ...]
    """Scores of random networks of the same architecture."""
    others: Mapping[str, float]
    """Scores with the other `NORMALIZATIONS`, by name."""
    trained: bool
    """Whether the score is above that of every random network by more than `ABOVE_RANDOM`."""
    verdict: str
    """Conclusion in one or two sentences."""


def check_sanity(inspection: Inspection, tensors: Mapping[str, Tensor]) -> Sanity:
    """Compare the network of a checkpoint (`read_backbone`), which has no problems, with random ones of its kind.

    On one machine the same file always gives the same scores; the caller's random generator is not used.
    """
    name = str(inspection.architecture)
    one = find_architecture(name)
    own = inspection.input.get("mean", one.mean), inspection.input.get("std", one.std)
    if inspection.path.name == WEIGHTS and is_exported(inspection.path.parent):
        card = read_card(inspection.path.parent)
        own = card.mean, card.std
    pictures, labels = textures()
    network = _build(name, 0)
    network.load_state_dict({key: convert(key, tensor) for key, tensor in tensors.items()}, strict=False)
    score = texture_score(network, pictures, labels, *own)
    random = tuple(texture_score(_build(name, seed), pictures, labels, *own) for seed in range(RANDOM))
    others = {
        label: texture_score(network, pictures, labels, *other)
        for label, other in NORMALIZATIONS.items()
        if other != own
    }
    best = max(others, key=lambda label: others[label])
    trained = score > max(random) + ABOVE_RANDOM
    verdict = f"behaves like a trained network: textures {score:.2f}, random initialization {max(random):.2f}"
    if others[best] > score + BETTER:
        mean, std = (" ".join(f"{value:.3g}" for value in triple) for triple in NORMALIZATIONS[best])
        verdict = (
            f"warning: the normalization may be wrong: textures {score:.2f}, but {others[best]:.2f} with {best} "
            f"(--mean {mean} --std {std}); random initialization {max(random):.2f}"
        )
    elif not trained:
        verdict = (
            f"warning: not told from random initialization: textures {score:.2f}, random {max(random):.2f}, and no "
            f"other normalization does better ({best}: {others[best]:.2f}): untrained, or trained for minutes alone?"
        )
    return Sanity(score, random, others, trained, verdict)


def textures() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """RGB pictures (N, SIDE, SIDE, 3), `EACH` of every texture, and the number of its texture (N,)."""
    x, y = grid(SIDE, SIDE)
    pictures = []
    for number, texture in enumerate(TEXTURES):
        for index in range(EACH):
            rng = np.random.default_rng((number, index))
            angle, period = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(np.log(6), np.log(20)))
            cos, sin = np.float32(np.cos(angle) / period), np.float32(np.sin(angle) / period)
            shift = rng.uniform(0, 16, 2).astype(np.float32)
            t = sample(texture, cos * x - sin * y + shift[0], sin * x + cos * y + shift[1])
            pictures.append(photograph(rng, mix(t, colours(rng, rng.uniform(0.2, 0.6)))))
    return np.stack(pictures), np.repeat(np.arange(len(TEXTURES)), EACH)


@torch.inference_mode()
def texture_score(
    network: nn.Module, pictures: NDArray[np.uint8], labels: NDArray[np.int64], mean: Triple, std: Triple
) -> float:
    """Share of the nearest pictures that show the same texture, in [0, 1]; chance is (EACH - 1) / (N - 1).

    Args:
        network: the network, in evaluation mode.
        pictures: RGB pictures (N, H, W, 3).
        labels: numbers of the textures (N,).
        mean, std: normalization of the three channels, for values in [0, 1].
    """
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    described = torch.cat(
        [torch.cat([m.mean((2, 3)) for m in features(network, part)[-2:]], 1) for part in torch.split(x, BATCH)]
    )
    return neighbors_agree(described, torch.from_numpy(labels))


def neighbors_agree(x: Tensor, labels: Tensor) -> float:
    """Mean share of the `NEIGHBORS` most similar rows of `x` (N, C), standardized, that have the row's label (N,)."""
    x = nn.functional.normalize((x - x.mean(0)) / x.std(0).clamp(min=1e-12), dim=1)
    nearest = (x @ x.T).fill_diagonal_(-torch.inf).topk(NEIGHBORS).indices
    return float((labels[nearest] == labels[:, None]).float().mean())


def _build(name: str, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_backbone(name).eval()
