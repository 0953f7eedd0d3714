"""Parts and joints of people followed through videos, on folders in the layouts of VIP and JHMDB."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from bench.clock import Clock
from bench.datasets import check
from bench.datasets.jhmdb import JHMDB, JOINTS, list_clips, load_joints
from bench.datasets.report import Strict
from bench.datasets.vip import CLASSES, VIP
from bench.probes.kinds.video_joints import LOST, decode, draw, normalized_distances
from bench.probes.kinds.videos import FOLLOW, follow
from bench.probes.plans import PropagationPlan
from bench.protocols import all_protocols, load_protocol

CPU = torch.device("cpu")
PLAN = PropagationPlan("propagation", rules="crw", neighbors=3, context=2, radius=4, temperature=0.05, side=64)
FRAMES, HEIGHT, WIDTH = 4, 96, 128


def colors(images: Tensor) -> Tensor:
    return normalize(avg_pool2d(images - 0.5, 8), dim=1)


def write_frames(folder: Path, image: np.ndarray, suffix: str) -> None:
    folder.mkdir(parents=True)
    for t in range(FRAMES):
        assert cv2.imwrite(str(folder / f"{t + 1:05}{suffix}"), image)


def write_vip(root: Path) -> np.ndarray:
    """A video that stands still, of four rectangles of whole cells; the label map."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[48:, :64], labels[:48, 64:], labels[48:, 64:] = 4, 13, 19
    bgr = np.zeros((20, 3), np.uint8)
    bgr[[0, 4, 13, 19]] = [[250, 20, 20], [20, 250, 20], [20, 20, 250], [250, 250, 20]]
    folder = root / "VIP" / "VIP_Fine"
    write_frames(folder / "Images" / "videos1", bgr[labels], ".jpg")
    write_frames(folder / "Annotations" / "Category_ids" / "videos1", labels, ".png")
    (folder / "lists").mkdir()
    (folder / "lists" / "val_videos.txt").write_text("videos1\n")
    return labels


def write_jhmdb(root: Path) -> np.ndarray:
    """A clip that stands still, of cells of random colors, and one that is not of the test part; the joints."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8).repeat(12, 0).repeat(16, 1)
    joints = rng.uniform(12, 84, (FRAMES, JOINTS, 2))
    joints[1:] = joints[0]
    folder = root / "JHMDB"
    for clip in ("a", "b"):
        write_frames(folder / "Rename_Images" / "jump" / clip, image, ".png")
        (folder / "joint_positions" / "jump" / clip).mkdir(parents=True)
        file = folder / "joint_positions" / "jump" / clip / "joint_positions.mat"
        savemat(file, {"pos_img": joints.transpose(2, 1, 0) + 1})
    (folder / "splits").mkdir()
    (folder / "splits" / "jump_test_split1.txt").write_text("a.avi 2\nb.avi 1\n")
    return joints


def test_parts_of_a_still_video(tmp_path: Path) -> None:
    labels = write_vip(tmp_path)
    report = check(tmp_path, VIP)
    assert not report.errors and report.splits["val"].histogram["face"] == FRAMES * 48 * 64
    found, names = follow(PLAN, colors, tmp_path, VIP, CPU, Clock())
    assert names == ["videos1"] and found.images == FRAMES and found.channels == 3
    counts = found.arrays["counts"][0]
    assert counts.sum() == FRAMES * labels.size  # the first frame counts
    assert counts.shape == (20, 20) and np.flatnonzero(counts.sum(1)).tolist() == [0, 4, 13, 19]
    assert found.metrics["mIoU"] == 100


def test_labels_that_are_no_part_are_an_error(tmp_path: Path) -> None:
    write_vip(tmp_path)
    mask = tmp_path / "VIP/VIP_Fine/Annotations/Category_ids/videos1/00002.png"
    assert cv2.imwrite(str(mask), np.full((HEIGHT, WIDTH), len(CLASSES), np.uint8))
    assert any("labels are 0 to 19" in error for error in check(tmp_path, VIP).errors)


def test_joints_of_a_still_clip(tmp_path: Path) -> None:
    joints = write_jhmdb(tmp_path)
    assert not check(tmp_path, JHMDB).errors
    (clip,) = list_clips(tmp_path, Strict())
    np.testing.assert_allclose(load_joints(clip.joints, FRAMES), joints)

    def still(images: Tensor) -> Tensor:
        return torch.eye(64).view(1, 64, 8, 8)

    found, names = follow(PLAN, still, tmp_path, JHMDB, CPU, Clock())
    assert names == ["jump/a"] and found.images == FRAMES
    assert found.arrays["counted"].tolist() == [[FRAMES - 1.0] * JOINTS]
    scale = np.array([8 / WIDTH, 8 / HEIGHT])
    drawn = decode(draw(joints[0] * scale, 8, 8)) / scale  # what cells can show of them stays as it is
    box = 0.6 * math.dist(joints[0].min(0), joints[0].max(0))
    for threshold in (0.1, 0.2):
        right = [math.dist(a, b) / box <= threshold for a, b in zip(drawn, joints[0], strict=True)]
        assert found.metrics[f"PCK@{threshold}"] == pytest.approx(100 * np.mean(right))


@pytest.mark.parametrize(
    ("content", "message"),
    [({"other": np.zeros(3)}, "holds no positions"), ({"pos_img": np.zeros((2, 14, 4))}, "not finite numbers")],
)
def test_files_without_joints_are_an_error(content: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    write_jhmdb(tmp_path)
    savemat(tmp_path / "JHMDB/joint_positions/jump/a/joint_positions.mat", content)
    assert any(message in error for error in check(tmp_path, JHMDB).errors)


def test_a_joint_is_a_patch_of_four_by_four_cells() -> None:
    """Its middle, of value 1, in the third row and column, from the nearest cell; cut at the border."""
    rows, columns = 7, 9
    places = [(4.2, 3.6), (0.2, 0.8), (8.4, 6.9), (3.5, 1.4), (-4.0, 2.0), (20.0, 2.0)]
    maps = draw(np.array(places), rows, columns)
    for (x, y), got in zip(places, maps[1:], strict=True):
        expected = np.zeros((rows, columns))
        left, top = math.trunc(x - 1.5), math.trunc(y - 1.5)
        for v in range(max(0, top), min(rows, math.trunc(y + 2.5))):
            for u in range(max(0, left), min(columns, math.trunc(x + 2.5))):
                expected[v, u] = math.exp(-((u - left - 2) ** 2 + (v - top - 2) ** 2) / (2 * 0.5**2))
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)
    assert torch.equal(maps[0], (maps[1:].sum(0) == 0).float())


def test_a_joint_is_found_where_it_was_drawn_and_an_empty_channel_is_lost() -> None:
    """Within .5 for rounding and .107 for the two of four equal neighbors that are kept."""
    rng = np.random.default_rng(1)
    joints = rng.uniform(2, 35, (JOINTS, 2))
    found = decode(draw(joints, 40, 40))
    assert np.abs(found - joints).max() <= 0.61
    away = np.full((JOINTS, 2), 100.0)
    assert (decode(draw(away, 40, 40)) == LOST).all()


def test_distances_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(2)
    truth, found = rng.uniform(0, 90, (2, 3, JOINTS, 2))
    found[1, 4] = found[2, :] = LOST
    distances = normalized_distances(truth, found)
    assert np.isnan(distances[0, 4]) and np.isnan(distances[1]).all()
    seen = [j for j in range(JOINTS) if j != 4]
    low, high = truth[1, seen].min(0), truth[1, seen].max(0)
    for j in seen:
        assert distances[0, j] == pytest.approx(math.dist(found[1, j], truth[1, j]) / (0.6 * math.dist(low, high)))


def test_every_data_set_of_videos_is_followed_and_the_settings_are_those_of_crw() -> None:
    plans = {p.dataset for p in all_protocols() if isinstance(p.plan, PropagationPlan)}
    assert plans == set(FOLLOW)
    crw = {"kind": "propagation", "rules": "crw", "neighbors": 10, "radius": 12, "temperature": 0.05}
    assert load_protocol("frozen_vip_crw").plan == PropagationPlan(**crw, context=4, side=560)
    assert load_protocol("frozen_jhmdb_crw").plan == PropagationPlan(**crw, context=7, side=320)
