"""Pictures: colors as defined, and a page of what probes left."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.errors import BenchError
from bench.pictures.collect import collect
from bench.pictures.draw import NOT_COUNTED, address, addresses, class_map, palette, principal_colors, sample
from bench.pictures.page import render
from bench.submit import plan_submission, submit


def test_the_palette_is_that_of_voc() -> None:
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        4: (0, 0, 128),
        7: (128, 128, 128),
        8: (64, 0, 0),
        20: (0, 64, 128),
    }
    assert {k: tuple(palette(21)[k].tolist()) for k in known} == known
    drawn = class_map(np.array([[0, 20, 255]]), 21)
    assert drawn.tolist() == [[[0, 0, 0], [0, 64, 128], list(NOT_COUNTED)]]


def test_components_are_those_of_a_singular_value_decomposition() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(5, 3, 4)) * np.arange(1, 6)[:, None, None] ** 2 for _ in range(2)]
    maps[0][1] = maps[0][0] + 0.1 * maps[0][1]
    drawn = principal_colors(maps)
    assert [one.shape for one in drawn] == [(3, 4, 3)] * 2
    cells = np.concatenate([one.reshape(5, -1).T for one in maps])
    cells = (cells - cells.mean(0)) / cells.std(0)
    _, _, vectors = np.linalg.svd(cells, full_matrices=False)
    for i in range(3):
        expected = cells @ vectors[i]
        found = np.concatenate([one[..., i].reshape(-1) for one in drawn]).astype(float)
        assert abs(np.corrcoef(expected, found)[0, 1]) > 0.98  # clipped and rounded, up to the sign
    assert all((a == b).all() for a, b in zip(drawn, principal_colors(maps), strict=True))


def test_fewer_channels_than_colors_and_constant_ones_are_drawn() -> None:
    (drawn,) = principal_colors([np.ones((4, 2, 2))])
    assert drawn.shape == (2, 2, 3)


def test_the_sample_does_not_depend_on_the_order() -> None:
    names = [f"{i}.png" for i in range(20)]
    chosen = [names[i] for i in sample(names, 5)]
    assert chosen == [names[::-1][i] for i in sample(names[::-1], 5)] and len(set(chosen)) == 5
    assert sorted(sample(["\udce9.jpg", "a.jpg"], 5)) == [0, 1]  # a name that is not UTF-8


def test_a_picture_travels_in_the_page_in_the_proportions_of_its_labels() -> None:
    square, wide = np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4, 3), np.uint8)
    for found in (address(square, wide.shape, smooth=False), *addresses([square], [wide], smooth=True)):
        assert Image.open(io.BytesIO(base64.b64decode(found.partition(",")[2]))).size == (240, 120)


@pytest.mark.slow
def test_the_page_shows_what_was_probed(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no result of a linear probe"):
        collect(tmp_path, tiny_data)
    plan = plan_submission(
        "random:resnet18:0", name="random", data=tiny_data, work=tmp_path, track="frozen",
        protocols=["frozen_city_seg_linear"],
    )  # fmt: skip
    assert not submit(plan, processes=1).failures
    (sheet,) = collect(tmp_path, tiny_data, images=2)
    assert [seen.name for seen in sheet.seen] == ["random"]
    page = render([sheet])
    assert len(re.findall("<img ", page)) == 2 * 4 and "mIoU" in page
    with pytest.raises(BenchError, match="another has no result"):
        collect(tmp_path, tiny_data, names=["another"])
