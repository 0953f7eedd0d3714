"""The sanity probe: its measure against a plain loop, its verdicts, its textures."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_nets import StateDict
from torch import nn

from bench.checkpoints import sanity
from bench.checkpoints.sanity import check_sanity, neighbors_agree, texture_score, textures
from bench.cli import run


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_agreement_is_that_of_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(12, 5)), rng.integers(0, 3, 12)
    z = (x - x.mean(0)) / x.std(0, ddof=1)
    shares = []
    for i in range(12):
        cosines = [-np.inf if j == i else z[i] @ z[j] / np.sqrt((z[i] @ z[i]) * (z[j] @ z[j])) for j in range(12)]
        nearest = np.argsort(cosines)[::-1][: sanity.NEIGHBORS]
        shares.append(np.mean(labels[nearest] == labels[i]))
    assert neighbors_agree(torch.from_numpy(x), torch.from_numpy(labels)) == pytest.approx(np.mean(shares))


def test_textures_are_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanity, "EACH", 1)
    pictures, labels = textures()
    assert pictures.shape == (len(sanity.TEXTURES), sanity.SIDE, sanity.SIDE, 3)
    assert labels.tolist() == list(range(len(sanity.TEXTURES)))
    assert np.array_equal(pictures, textures()[0])
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


class Tone(nn.Module):
    """Its maps show how bright a picture is, once normalized."""

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x, x]


def test_pictures_are_normalized() -> None:
    pictures = np.repeat(np.array([10, 12, 14, 200, 210, 220] * 2, np.uint8), 3 * 4).reshape(12, 2, 2, 3)
    labels = np.array([0, 0, 0, 1, 1, 1] * 2)
    score = texture_score(Tone(), pictures, labels, (0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    assert score == 1  # five others of each label are equally bright, and no others are


@pytest.mark.parametrize(
    ("own", "random", "others", "trained", "words"),
    [
        (0.5, 0.05, 0.5, True, "behaves like a trained network: textures 0.50, random initialization 0.05"),
        (0.5, 0.05, 0.55, True, "behaves like a trained network"),
        (0.1, 0.05, 0.5, False, r"normalization may be wrong: .*0.50 with \[-1, 1\] \(--mean 0.5 0.5 0.5 --std"),
        (0.1, 0.05, 0.1, False, "warning: not told from random initialization: textures 0.10, random 0.05"),
    ],
)
def test_verdicts(
    monkeypatch: pytest.MonkeyPatch, own: float, random: float, others: float, trained: bool, words: str
) -> None:
    built: list[nn.Module] = []

    def build(name: str, seed: int) -> nn.Module:
        built.append(nn.Identity())
        return built[-1]

    def score(network: nn.Module, pictures: Any, labels: Any, mean: Any, std: Any) -> float:
        if network is not built[0]:
            return random
        return own if mean == (0.485, 0.456, 0.406) else others

    monkeypatch.setattr(sanity, "_build", build)
    monkeypatch.setattr(sanity, "texture_score", score)
    monkeypatch.setattr(sanity, "textures", lambda: (None, None))
    inspection: Any = SimpleNamespace(architecture="resnet18", input={}, path=Path("a.pth"))
    found = check_sanity(inspection, {})
    assert (found.score, found.random, found.trained) == (own, (random,) * sanity.RANDOM, trained)
    assert re.search(words, found.verdict)


def test_inspect_shows_the_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, resnet18_state: StateDict
) -> None:
    def score(network: Any, *rest: object) -> float:
        return 0.5 if network.conv1.weight.min() >= 0 else 0.1

    monkeypatch.setattr(sanity, "texture_score", score)
    monkeypatch.setattr(sanity, "textures", lambda: (None, None))
    torch.save(resnet18_state, tmp_path / "a.pth")  # its values are positive
    assert run(["inspect", str(tmp_path / "a.pth"), "--probe"]) == 0
    printed = capsys.readouterr().out
    assert "probe: behaves like a trained network: textures 0.50, random initialization 0.10" in printed
