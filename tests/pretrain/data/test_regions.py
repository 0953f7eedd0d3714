from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.segmentation import felzenszwalb, slic
from torch import Tensor
from toy import write_images

from pretrain.data.batches import open_images
from pretrain.data.regions import Felzenszwalb, Grid, Masks, Saliency, Superpixels, prepare_masks
from pretrain.data.views import View
from pretrain.errors import PretrainError


def view(boxes: list[list[float]], flips: list[bool], ids: list[int]) -> View:
    return View(torch.empty(len(ids), 3, 1, 1), torch.tensor(boxes), torch.tensor(flips), torch.tensor(ids))


def stored(folder: Path, maps: np.ndarray[Any, Any]) -> Masks:
    np.save(folder / "masks.npy", maps.astype(np.uint8))
    return Masks(folder / "masks.npy")


def quarters() -> Tensor:
    """An image of four noisy colours: 32 x 48 pixels, boundaries at row 16 and column 24."""
    colours = torch.tensor([[20, 200], [90, 250]]).repeat_interleave(16, 0).repeat_interleave(24, 1)
    noise = torch.from_numpy(np.random.default_rng(0).integers(-4, 5, (3, 32, 48)))
    return (colours[None] + noise).to(torch.uint8)


def test_superpixels_are_slics_of_the_normalised_channels() -> None:
    """Each about as large as the others, and connected, so that colors and places decide together."""
    image = quarters()
    labels = Superpixels(segments=12, side=40)(image)
    resized = torch.nn.functional.interpolate(image[None], size=(40, 40), mode="bicubic", antialias=True)[0] / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((resized - mean[:, None, None]) / std[:, None, None]).permute(1, 2, 0)
    assert np.array_equal(labels, slic(pixels.double().numpy(), n_segments=12, start_label=0))
    assert labels.shape == (40, 40) and 6 <= labels.max() + 1 <= 12
    quarter = (np.arange(40) >= 20)[:, None] * 2 + (np.arange(40) >= 20)
    inside = np.abs(np.arange(40) - 19.5) > 3
    for label in np.unique(labels):
        of = quarter[(labels == label) & inside[:, None] & inside]
        assert len(of) == 0 or np.bincount(of).max() > 0.9 * len(of)  # no superpixel crosses an edge
    assert Superpixels(segments=4, side=40)(image).max() < 4


def test_felzenszwalb_is_scikit_images_ranked_by_size() -> None:
    image = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 24, 30), dtype=np.uint8))
    labels = Felzenszwalb(scale=20, min_size=5)(image)
    theirs = felzenszwalb(image.permute(1, 2, 0).numpy(), scale=20, min_size=5)
    pairs = set(zip(labels.ravel().tolist(), theirs.ravel().tolist(), strict=True))
    assert len(pairs) == theirs.max() + 1 == labels.max() + 1  # a bijection
    sizes = np.bincount(labels.ravel())
    assert (np.diff(sizes) <= 0).all()
    assert sizes.min() >= 5


def test_felzenszwalb_finds_what_is_there() -> None:
    labels = Felzenszwalb(scale=500, min_size=20, sigma=0.0)(quarters())
    assert labels.max() == 3
    assert len({labels[0, 0], labels[0, -1], labels[-1, 0], labels[-1, -1]}) == 4
    assert (labels[:16, :24] == labels[0, 0]).all()


def test_more_regions_than_labels_are_joined() -> None:
    image = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 40, 40), dtype=np.uint8))
    assert felzenszwalb(image.permute(1, 2, 0).numpy(), scale=1, min_size=1, sigma=0).max() > 255
    assert Felzenszwalb(scale=1, min_size=1, sigma=0.0)(image).max() == 255


def test_grid_has_equal_rectangles() -> None:
    labels = Grid(3)(quarters())
    assert np.bincount(labels.ravel()).tolist() == [labels.size // 9] * 9
    assert (labels[0, 0], labels[0, -1], labels[-1, 0]) == (0, 2, 6)


def test_saliency_is_what_stands_out_from_the_border() -> None:
    image = torch.full((3, 60, 80), 90, dtype=torch.uint8)
    image[0, 20:40, 30:50] = 230
    labels = Saliency(side=32)(image)
    assert labels.shape == (32, 32)
    assert (labels[12:20, 13:19] == 1).all()
    assert labels[:9].sum() == labels[:, :10].sum() == 0
    assert (Saliency(side=8)(image[:, :10]) == 1).all()  # nothing stands out: nothing is background


def test_crop_follows_box_and_flip(tmp_path: Path) -> None:
    maps = np.stack([np.arange(16).reshape(4, 4), np.full((4, 4), 9)])
    masks = stored(tmp_path, maps)
    out = masks.crop(view([[0.5, 0, 1, 0.5]] * 2 + [[0, 0, 1, 1]], [False, True, True], [0, 0, 1]), 2)
    assert out.dtype == torch.uint8
    assert out.tolist() == [[[2, 3], [6, 7]], [[3, 2], [7, 6]], [[9, 9], [9, 9]]]
    assert torch.equal(masks.of(torch.tensor([0]))[0], torch.from_numpy(maps[0]).to(torch.uint8))


def test_a_cell_has_its_most_frequent_label_and_of_equals_the_smallest(tmp_path: Path) -> None:
    image = np.array([[5, 5, 7, 3], [5, 1, 3, 7], [0, 0, 200, 255], [2, 0, 255, 255]])
    cells = stored(tmp_path, image[None]).cells(view([[0, 0, 1, 1]], [False], [0]), 2, samples=2)
    assert cells.tolist() == [[[5, 3], [0, 255]]]


def test_cells_are_average_pooled_one_hot_maps(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).integers(0, 4, (3, 16, 16))
    masks = stored(tmp_path, maps)
    where = view([[0, 0, 1, 1], [0.1, 0.2, 0.7, 0.9], [0, 0, 0.5, 0.5]], [False, True, False], [0, 1, 2])
    points = torch.nn.functional.one_hot(masks.crop(where, 24).long(), 4).permute(0, 3, 1, 2).double()
    pooled = torch.nn.functional.avg_pool2d(points, 8)
    expected = (pooled - 1e-6 * torch.arange(4).view(4, 1, 1)).argmax(1)
    assert torch.equal(masks.cells(where, 3, samples=8), expected)


class Counting(Grid):
    calls: list[int] = []

    def __call__(self, image: Tensor) -> Any:
        self.calls.append(1)
        return super().__call__(image)


def test_masks_are_made_once_and_continue_where_they_were_cut_off(tmp_path: Path) -> None:
    source = open_images(write_images(tmp_path / "images", 6))
    Counting.calls.clear()
    masks = prepare_masks(source, tmp_path, Counting(2), side=8)
    assert masks.maps.shape == (6, 8, 8)
    assert len(Counting.calls) == 6
    (path,) = tmp_path.glob("masks-*.npy")
    whole = path.read_bytes()
    prepare_masks(source, tmp_path, Counting(2), side=8)
    assert len(Counting.calls) == 6

    path.rename(path.with_name(path.name + ".partial")).write_bytes(whole[:-130])  # two maps and a bit are missing
    prepare_masks(source, tmp_path, Counting(2), side=8)
    assert len(Counting.calls) == 9
    assert path.read_bytes() == whole

    prepare_masks(source, tmp_path, Counting(4), side=8)
    prepare_masks(source, tmp_path, Counting(2), side=4)
    assert len(list(tmp_path.glob("masks-*.npy"))) == 3


def test_processes_write_what_one_would(tmp_path: Path) -> None:
    source = open_images(write_images(tmp_path / "images", 70))
    masks = prepare_masks(source, tmp_path, Felzenszwalb(scale=50, min_size=20), side=8)
    for i in (0, 33, 69):
        labels = Felzenszwalb(scale=50, min_size=20)(source.decode(i))
        rows, columns = (((np.arange(8) + 0.5) * n / 8).astype(int) for n in labels.shape)
        assert np.array_equal(masks.maps[i], labels[rows[:, None], columns])


def test_damaged_image_gets_one_region(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 3)
    (folder / "001.png").write_bytes(b"no image")
    masks = prepare_masks(open_images(folder), tmp_path, Grid(2), side=4)
    assert not masks.maps[1].any()
    assert masks.maps[2].max() == 3


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    source = open_images(write_images(tmp_path / "images", 2))
    with pytest.raises(PretrainError, match=r"cannot write .*masks-"):
        prepare_masks(source, tmp_path / "missing", Grid(2))


def test_real_photographs_have_several_regions(shared_data: Path) -> None:
    source = open_images(shared_data / "pretrain" / "images")
    counts = [Felzenszwalb(scale=500, min_size=200)(source.decode(i)).max() + 1 for i in range(0, 3000, 300)]
    assert 3 < np.median(counts) < 40
    shares = [Saliency()(source.decode(i)).mean() for i in range(0, 3000, 300)]
    assert all(0.01 < share < 0.7 for share in shares)
