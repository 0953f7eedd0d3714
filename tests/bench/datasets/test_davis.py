"""Videos in DAVIS' layout: what is listed, what is an object, and what the check reports."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from moving_squares import FRAMES, write_videos

from bench.datasets import check, expected_in
from bench.datasets.davis import DAVIS_2016, DAVIS_2017, list_videos, load_objects
from bench.datasets.report import Strict
from bench.errors import BenchError

MASKS = Path("DAVIS/Annotations/480p")


def test_videos_and_objects(tmp_path: Path) -> None:
    write_videos(tmp_path, ("b", "a", "c"))
    (tmp_path / "DAVIS/ImageSets/2017/val.txt").write_text("b\na\n")
    videos = list_videos(tmp_path, DAVIS_2017, Strict())
    assert [video.name for video in videos] == ["b", "a"]
    assert [frame.name for frame in videos[0].frames] == [f"{t:05}.jpg" for t in range(FRAMES)]
    first = videos[0].masks[0]
    assert np.unique(load_objects(first, DAVIS_2017)).tolist() == [0, 1, 2]  # void is background
    assert np.unique(load_objects(first, DAVIS_2016)).tolist() == [0, 1]
    report = check(tmp_path, DAVIS_2017)
    assert not report.errors
    assert report.splits["val"].counts == {"videos": 2, "objects": 4}
    reference = report.reference()
    assert (reference.train_images, reference.val_images) == (0, 2 * FRAMES)
    assert {DAVIS_2016, DAVIS_2017} <= set(expected_in(tmp_path))


def test_a_root_without_a_list_has_only_val_videos(tmp_path: Path) -> None:
    write_videos(tmp_path, year="2016", listed=False)
    report = check(tmp_path, DAVIS_2016)
    assert not report.errors and report.splits["val"].counts["objects"] == 2
    assert any("is missing: all videos with masks are val" in problem.message for problem in report.problems)
    assert "if 255 is its object, use davis2016" in " ".join(check(tmp_path, DAVIS_2017).errors)


def _remove_mask(root: Path) -> None:
    (root / MASKS / "a/00002.png").unlink()


def _shrink_mask(root: Path) -> None:
    assert cv2.imwrite(str(root / MASKS / "a/00001.png"), np.ones((8, 8), np.uint8))


def _empty_first(root: Path) -> None:
    assert cv2.imwrite(str(root / MASKS / "a/00000.png"), np.zeros((48, 64), np.uint8))


def _damage_mask(root: Path) -> None:
    (root / MASKS / "a/00001.png").write_bytes(b"no picture")


def _remove_frames(root: Path) -> None:
    for frame in sorted((root / "DAVIS/JPEGImages/480p/a").iterdir())[2:]:
        frame.unlink()


def _list_unknown(root: Path) -> None:
    (root / "DAVIS/ImageSets/2017/val.txt").write_text("a\nunknown\n")


def _damage_list(root: Path) -> None:
    (root / "DAVIS/ImageSets/2017/val.txt").write_bytes(b"a\0b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_remove_mask, "a/00002.png is missing"),
        (_shrink_mask, "a/00001.png is 8x8, but its image 00001.jpg is 64x48"),
        (_empty_first, "a/00000.png shows no object to follow"),
        (_damage_mask, "a/00001.png is damaged"),
        (_remove_frames, "a has 2 frames; at least 3 are used"),
        (_list_unknown, "unknown has no frames: it does not exist"),
        (_damage_list, "val.txt cannot be read"),
    ],
)
def test_problems(change, message: str, tmp_path: Path) -> None:
    change(write_videos(tmp_path))
    report = check(tmp_path, DAVIS_2017)
    assert message in " | ".join(report.errors)
    with pytest.raises(BenchError, match="cannot be used"):
        report.reference()
