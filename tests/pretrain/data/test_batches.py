"""Sources and batches: the same crops whatever the workers, processes and restarts, and errors that help."""

from __future__ import annotations

import gc
import hashlib
import logging
import multiprocessing
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from pretrain.data.augment import MOCO_V2_COLOUR
from pretrain.data.batches import CropBatches, ImageSource, Loading, crop_batches, open_images, steps_per_epoch
from pretrain.data.views import Crop, ViewPlan, ViewSpec, WholeImage
from pretrain.errors import PretrainError

COUNT = 22
PLAN = ViewPlan(
    (
        ViewSpec("query", 16, (0.2, 1.0), colour=MOCO_V2_COLOUR),
        ViewSpec("key", 12, (0.5, 1.0), interpolation="bicubic", flip=0.0),
    )
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    root = tmp_path / "images"
    for k in range(COUNT):
        path = root / f"part{k % 3}" / f"{k:02d}.{'png' if k % 2 else 'JPG'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (20 + k, 45 - k, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, "PNG" if k % 2 else "JPEG")
    (root / "notes.md").write_text("no image")
    (root / "part0" / "._00.JPG").write_bytes(b"resource fork")
    (root / ".cache").mkdir()
    (root / ".cache" / "thumbnail.png").write_bytes(b"")
    return root


def batches(source: ImageSource, **options: int | str) -> CropBatches:
    when = {name: options.pop(name) for name in ("epoch", "first_step") if name in options}
    loading = Loading(**({"batch_size": 4, "seed": 7, "workers": 0} | options))  # type: ignore[arg-type]
    return crop_batches(source, PLAN, loading, **when)  # type: ignore[arg-type]


def same(a: list[Crop], b: list[Crop]) -> bool:
    names = ("pixels", "box", "flip", "image_id", "colour")
    return len(a) == len(b) and all(
        torch.equal(getattr(x, name), getattr(y, name)) for x, y in zip(a, b, strict=True) for name in names
    )


def all_same(a: list[list[Crop]], b: list[list[Crop]]) -> bool:
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def damage(source: ImageSource, *ids: int) -> None:
    for image_id in ids:
        (source.root / source.name(image_id)).write_bytes(b"\xff\xd8\xff\xe0 damaged")


# Sources


def test_a_folder_is_searched_recursively_in_sorted_order(folder: Path) -> None:
    source = open_images(folder)
    names = [source.name(k) for k in range(len(source))]
    expected = sorted(f"part{k % 3}/{k:02d}.{'png' if k % 2 else 'JPG'}" for k in range(COUNT))
    assert names == expected
    for k, name in enumerate(names):
        height, width = 20 + int(Path(name).stem), 45 - int(Path(name).stem)
        assert source.decode(k).shape == (3, height, width)
    for outside in (-1, COUNT):
        with pytest.raises(IndexError):
            source.name(outside)


def test_symbolic_links_are_followed_once(folder: Path, tmp_path: Path) -> None:
    subset = tmp_path / "subset"
    subset.mkdir()
    (subset / "a").symlink_to(folder / "part0")
    (subset / "again").symlink_to(folder / "part0")
    (subset / "loop").symlink_to(subset)
    source = open_images(subset)
    assert len(source) == len(list((folder / "part0").glob("[0-9]*")))
    assert source.name(0).startswith("a/")


def test_names_of_any_bytes(tmp_path: Path) -> None:
    name = os.fsdecode("größe-".encode() + b"\xff.png")
    Image.new("RGB", (4, 4)).save(tmp_path / name)
    source = open_images(tmp_path)
    assert source.name(0) == name
    assert source.decode(0).shape == (3, 4, 4)
    assert len(source.fingerprint()) == 64


def test_a_list_is_relative_to_its_folder(folder: Path, tmp_path: Path) -> None:
    source = open_images(folder)
    chosen = [source.name(k) for k in (5, 1, 3)]
    file = folder / "list.txt"
    file.write_text("\n".join([chosen[0], "", chosen[1], str(folder / chosen[2])]) + "\n")
    listed = open_images(file)
    assert len(listed) == 3
    assert {listed.root / listed.name(k) for k in range(3)} == {folder / name for name in chosen}
    assert torch.equal(listed.decode(1), source.decode(1))
    file.write_text(f"{chosen[0]}\n{chosen[1]}\n{chosen[0]}\n")
    with pytest.raises(PretrainError, match=f"lists {chosen[0]} more than once"):
        open_images(file)
    file.write_text("\n")
    with pytest.raises(PretrainError, match="lists no images"):
        open_images(file)


@pytest.mark.parametrize("column", [" 17", "\t-1", ",3", " 0 12"])
def test_a_column_of_labels_in_a_list_is_left_out(folder: Path, column: str) -> None:
    names = [open_images(folder).name(k) for k in (0, 2)]
    file = folder / "list.txt"
    file.write_text("".join(f"{name}{column}\n" for name in names), encoding="utf-16")
    listed = open_images(file)
    assert [listed.name(k) for k in range(2)] == sorted(names)
    # a name that ends in a number is a name where it exists
    shutil.copy(folder / names[0], folder / "image 5")
    file.write_text("image 5\n")
    assert open_images(file).name(0) == "image 5"


def test_what_cannot_be_read_is_no_silence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "locked").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    with monkeypatch.context() as context:
        context.setattr(os, "scandir", refuse)
        with pytest.raises(PretrainError, match=r"cannot read the folder .*locked: Permission denied"):
            open_images(folder)
    os.mkfifo(folder / "locked" / "pipe.jpg")
    with pytest.raises(PretrainError, match=r"cannot read image .*pipe\.jpg: it is not a regular file"):
        open_images(folder).fingerprint()


def test_unusable_paths_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PretrainError, match=r"no images in .*empty.*\n.*\.jpg"):
        open_images(tmp_path / "empty")
    with pytest.raises(PretrainError, match="does not exist"):
        open_images(tmp_path / "missing")
    (tmp_path / "images.zip").write_bytes(b"PK")
    with pytest.raises(PretrainError, match=r"of no known kind.*\.txt list"):
        open_images(tmp_path / "images.zip")


def test_fingerprint_is_of_names_and_sizes(folder: Path) -> None:
    source = open_images(folder)
    names = sorted(source.name(k) for k in range(COUNT))
    lines = "".join(f"{name}\0{(folder / name).stat().st_size}\n" for name in names)
    first = source.fingerprint()
    assert first == hashlib.sha256(lines.encode()).hexdigest()
    assert ImageSource(folder, names[::-1]).fingerprint() == first
    path = folder / names[0]
    path.write_bytes(path.read_bytes() + b"\0")
    second = open_images(folder).fingerprint()
    path.rename(path.with_name("zz.jpg"))
    assert len({first, second, open_images(folder).fingerprint()}) == 3
    with pytest.raises(PretrainError, match="cannot read image"):
        source.fingerprint()


# Batches


def test_an_epoch_visits_every_image_once_but_for_the_last_incomplete_batch(folder: Path) -> None:
    source = open_images(folder)
    assert steps_per_epoch(COUNT, 4) == 5
    ids = [torch.cat([crops[0].image_id for crops in batches(source, epoch=epoch)]).tolist() for epoch in (0, 1)]
    assert all(len(set(epoch)) == 20 for epoch in ids)
    assert ids[0] != ids[1]
    for crops in batches(source):
        assert torch.equal(crops[0].image_id, crops[1].image_id)


def test_shapes_and_ranges(folder: Path) -> None:
    for crops in batches(open_images(folder)):
        for crop, spec in zip(crops, PLAN.specs, strict=True):
            assert crop.pixels.shape == (4, 3, spec.size, spec.size) and crop.pixels.dtype == torch.uint8
            assert crop.pixels.is_contiguous()
            assert crop.box.shape == (4, 4) and crop.box.dtype == torch.float32
            assert crop.flip.shape == (4,) and crop.flip.dtype == torch.bool
            assert crop.image_id.shape == (4,) and crop.image_id.dtype == torch.int64
            assert crop.colour.shape == (4, sum(op.parameters for op in spec.colour))
            assert crop.colour.dtype == torch.float32
            assert (crop.box[:, :2] >= 0).all() and (crop.box[:, 2:] <= 1).all()
            assert (crop.box[:, :2] < crop.box[:, 2:]).all()
        assert not crops[1].flip.any()
    flips = torch.cat([crops[0].flip for epoch in range(8) for crops in batches(open_images(folder), epoch=epoch)])
    assert 0.35 < flips.float().mean() < 0.65


def test_workers_change_nothing_and_neither_does_the_global_generator(folder: Path) -> None:
    source = open_images(folder)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    alone = list(batches(source))
    torch.rand(3)
    moved = torch.get_rng_state()
    for workers in (1, 2):
        assert all_same(alone, list(batches(source, workers=workers)))
    assert torch.equal(torch.get_rng_state(), moved)
    assert not torch.equal(before, moved)


def test_resuming_at_any_step_continues_exactly(folder: Path) -> None:
    source = open_images(folder)
    whole = list(batches(source, epoch=3))
    for step in range(6):
        rest = batches(source, epoch=3, first_step=step)
        assert len(rest) == 5 - step
        assert all_same(list(rest), whole[step:])


@pytest.mark.parametrize("world", [2, 4])
def test_the_global_batch_is_the_same_for_any_number_of_processes(folder: Path, world: int) -> None:
    source = open_images(folder)
    whole = list(batches(source))
    parts = [list(batches(source, batch_size=4 // world, rank=rank, world=world)) for rank in range(world)]
    for step, crops in enumerate(whole):
        for view, crop in enumerate(crops):
            for name in ("pixels", "box", "flip", "image_id", "colour"):
                joined = torch.cat([getattr(part[step][view], name) for part in parts])
                assert torch.equal(joined, getattr(crop, name))


def test_every_part_of_the_key_changes_the_draws(folder: Path) -> None:
    source = open_images(folder)

    def boxes(**options: int) -> dict[int, tuple[float, ...]]:
        crops = [crops[0] for crops in batches(source, batch_size=COUNT, **options)]
        return {int(k): tuple(box.tolist()) for c in crops for k, box in zip(c.image_id, c.box, strict=True)}

    first = boxes()
    for other in (boxes(seed=8), boxes(epoch=1)):
        assert all(first[k] != other[k] for k in first)
    twice = ViewPlan((PLAN.specs[0], PLAN.specs[0]))
    a, b = next(crop_batches(source, twice, Loading(COUNT, seed=7, workers=0)))
    assert (a.box != b.box).any(dim=1).all()
    assert (a.colour != b.colour).any(dim=1).all()


def test_a_view_bound_to_another_moves_towards_it_and_leaves_the_others_as_they_were(folder: Path) -> None:
    source = open_images(folder)
    small = ViewSpec("small", 8, (0.05, 0.14))
    key = replace(PLAN.specs[1], scale=(0.2, 0.3))
    free, bound = (
        next(crop_batches(source, ViewPlan((PLAN.specs[0], key, s)), Loading(COUNT, seed=7, workers=0)))
        for s in (small, replace(small, overlap=("key", 0.5)))
    )
    assert same(free[:2], bound[:2])

    def shares(crops: list[Crop]) -> torch.Tensor:
        key, small = crops[1].box, crops[2].box
        sides = (torch.minimum(key[:, 2:], small[:, 2:]) - torch.maximum(key[:, :2], small[:, :2])).clamp_min(0)
        return sides.prod(1) / (small[:, 2:] - small[:, :2]).prod(1)

    enough = shares(free) >= 0.6  # well above the share, whatever rounding to pixels does
    assert 0 < enough.sum() < COUNT
    assert torch.equal(free[2].box[enough], bound[2].box[enough])
    assert (shares(bound) >= 0.4).float().mean() > max(0.8, (shares(free) >= 0.4).float().mean())


@dataclass(frozen=True)
class Neighbor:
    """The view `key` shows the left half of the next image."""

    sizes: tuple[tuple[int, int], ...]

    def draw(
        self, rng: np.random.Generator, image_id: int, width: int, height: int
    ) -> dict[str, tuple[int, tuple[int, int, int, int]]]:
        assert self.sizes[image_id] == (width, height)
        other = (image_id + 1) % COUNT
        return {"key": (other, (0, int(rng.integers(2)), self.sizes[other][0] // 2, self.sizes[other][1] - 1))}


def test_a_view_may_show_a_place_in_another_image(folder: Path) -> None:
    source = open_images(folder)
    sizes = tuple((image.shape[2], image.shape[1]) for image in map(source.decode, range(COUNT)))
    plan, loading = replace(PLAN, places=Neighbor(sizes)), Loading(batch_size=4, seed=7, workers=0)
    plain, placed = list(batches(source)), list(crop_batches(source, plan, loading))
    tops = set()
    for (query, _), (same_query, key) in zip(plain, placed, strict=True):
        assert same([query], [same_query])
        assert torch.equal(key.image_id, (query.image_id + 1) % COUNT)
        for row, other in enumerate(key.image_id.tolist()):
            width, height = sizes[other]
            x_1, top, x_2, bottom = key.box[row].tolist()
            assert (x_1, x_2) == (0, pytest.approx(width // 2 / width))
            assert bottom - top == pytest.approx((height - 1) / height)
            tops.add(round(top * height))
            crop = source.decode(other)[:, round(top * height) : round(bottom * height), : width // 2]
            assert torch.equal(key.pixels[row], interpolate(crop[None], (12, 12), mode="bicubic", antialias=True)[0])
    assert tops == {0, 1}
    workers = list(crop_batches(source, plan, replace(loading, workers=2)))
    assert all_same(placed, workers)


def test_a_view_may_show_the_whole_image(folder: Path) -> None:
    """Also where its scale would give a crop; the other view is drawn as without it."""
    source = open_images(folder)
    plan = replace(PLAN, places=WholeImage(PLAN.specs[1].name))
    for crops, (first, whole) in zip(
        batches(source), crop_batches(source, plan, Loading(4, seed=7, workers=0)), strict=True
    ):
        assert same([crops[0]], [first])
        assert whole.box.tolist() == [[0, 0, 1, 1]] * 4
        image = source.decode(int(whole.image_id[0]))
        resized = interpolate(image[None], (12, 12), mode="bicubic", antialias=True)[0]
        assert torch.equal(whole.pixels[0], resized.flip(-1) if whole.flip[0] else resized)


def test_too_few_images_for_a_batch(folder: Path) -> None:
    with pytest.raises(PretrainError, match="22 images do not fill one batch of 32"):
        batches(open_images(folder), batch_size=16, world=2)
    with pytest.raises(PretrainError):
        steps_per_epoch(10, 0)
    with pytest.raises(PretrainError, match="seed -1"):
        batches(open_images(folder), seed=-1)
    with pytest.raises(PretrainError, match="on_damaged is 'ignore'"):
        batches(open_images(folder), on_damaged="ignore")


# Damage


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_stops_with_its_name_and_no_worker_traceback(folder: Path, workers: int) -> None:
    source = open_images(folder)
    damage(source, 9)
    with pytest.raises(PretrainError) as caught:
        list(batches(source, batch_size=COUNT, workers=workers))
    message = str(caught.value)
    assert str(folder / source.name(9)) in message
    assert "Traceback" not in message and len(message.splitlines()) == 2


def test_a_damaged_image_is_replaced_by_the_next_readable_one(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = open_images(folder)
    clean = next(batches(source, batch_size=COUNT))
    damage(source, 9, 10, COUNT - 1)
    with caplog.at_level(logging.WARNING):
        run = batches(source, batch_size=COUNT, on_damaged="skip", workers=1)
        crops = next(run)
    wanted, used = clean[0].image_id, crops[0].image_id
    instead = {9: 11, 10: 11, COUNT - 1: 0}
    assert used.tolist() == [instead.get(k, k) for k in wanted.tolist()]
    assert run.skipped == 3
    assert sum(source.name(9) in record.getMessage() for record in caplog.records) == 1
    kept = wanted == used
    for a, b in zip(clean, crops, strict=True):
        assert torch.equal(a.pixels[kept], b.pixels[kept])
    # The stand-ins are not the same crops as those of the image itself.
    boxes = crops[0].box[used == 11]
    assert len(boxes) == 3 and len({tuple(box.tolist()) for box in boxes}) == 3


def test_nothing_readable(folder: Path) -> None:
    source = open_images(folder)
    damage(source, *range(COUNT))
    with pytest.raises(PretrainError, match="none of the 22 images"):
        next(batches(source, on_damaged="skip"))


def test_an_abandoned_epoch_leaves_no_process_behind(folder: Path) -> None:
    gc.collect()  # the workers of a test that failed on purpose live as long as its error does
    others = torch.multiprocessing.active_children()
    run = batches(open_images(folder), workers=2)
    next(run)
    workers = [worker for worker in torch.multiprocessing.active_children() if worker not in others]
    assert len(workers) == 2
    del run
    for worker in workers:
        worker.join(20)
        assert not worker.is_alive()


def test_real_photographs(shared_data: Path) -> None:
    source = open_images(shared_data / "pretrain" / "images")
    assert len(source) > 1000
    crops = next(crop_batches(source, PLAN, Loading(64, workers=0)))
    assert crops[0].pixels.float().std() > 30


def test_loader_processes_are_forked_where_a_server_started_the_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job's process inherits the start method of its parent: each epoch would import PyTorch anew."""
    server = multiprocessing.get_context("forkserver")
    monkeypatch.setattr(torch.multiprocessing, "Process", server.Process)
    run = batches(open_images(folder), workers=1)
    (worker,) = run._loader._workers  # type: ignore[attr-defined]
    assert isinstance(worker, multiprocessing.context.ForkProcess)
    assert len(list(run)) == COUNT // 4
