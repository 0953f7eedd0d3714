import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.datasets.names import CITYSCAPES_CLASSES, VOID
from bench.datasets.synthetic.scene import scene
from bench.datasets.synthetic.silhouettes import KINDS
from bench.datasets.synthetic.stage import Stage, colours, mix
from bench.datasets.synthetic.street import STREET_CLASSES, street

SIZES = st.sampled_from([(160, 128), (96, 128), (65, 97)])
SEEDS = st.integers(0, 2**32 - 1)


@given(seed=SEEDS, size=SIZES, crowd=st.booleans())
@settings(max_examples=20, deadline=None)
def test_masks_are_disjoint_visible_and_inside(seed, size, crowd):
    picture = scene(np.random.default_rng(seed), size, tuple(KINDS), crowd=crowd)
    assert picture.image.shape == (size[1], size[0], 3)
    assert picture.image.dtype == np.uint8
    total = np.zeros((size[1], size[0]), int)
    for instance in picture.instances:
        assert instance.kind in KINDS
        assert instance.mask.shape == total.shape
        assert instance.mask.sum() >= 36
        assert 0 < instance.visible <= 1
        total += instance.mask
    assert total.max(initial=0) <= 1


@given(seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_the_same_generator_gives_the_same_scene(seed):
    first, second = (scene(np.random.default_rng(seed), (128, 96), tuple(KINDS)) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    assert len(first.instances) == len(second.instances)
    for a, b in zip(first.instances, second.instances, strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)


def test_scenes_hold_several_objects_some_hidden_some_cut_off():
    scenes = [scene(np.random.default_rng(k), (160, 128), tuple(KINDS)) for k in range(40)]
    instances = [instance for picture in scenes for instance in picture.instances]
    assert {instance.kind for instance in instances} == set(KINDS)
    assert 2.5 < len(instances) / len(scenes) < 6
    assert sum(instance.truncated for instance in instances) > 10
    assert sum(not i.truncated and i.visible < 0.9 for i in instances) > 10
    sides = [np.sqrt(instance.mask.sum()) for instance in instances]
    assert np.quantile(sides, 0.9) > 2 * np.quantile(sides, 0.1)


def test_colour_does_not_tell_the_class():
    """Mean colours of a class vary far more within it than between classes."""
    colour: dict[str, list[np.ndarray]] = {}
    for k in range(120):
        picture = scene(np.random.default_rng((5, k)), (128, 96), tuple(KINDS))
        for instance in picture.instances:
            colour.setdefault(instance.kind, []).append(picture.image[instance.mask].mean(0))
    within = np.mean([np.var(values, axis=0).mean() for values in colour.values()])
    between = np.var([np.mean(values, axis=0) for values in colour.values()], axis=0).mean()
    assert between < 0.15 * within


@pytest.mark.parametrize("name", sorted(KINDS))
def test_outlines_fill_their_box(name):
    """Each silhouette is of about unit half size, is one piece, and is not the same twice."""
    areas = set()
    for k in range(5):
        parts = KINDS[name].outline(np.random.default_rng(k))
        points = np.concatenate(parts)
        assert 0.8 < np.abs(points).max() < 1.6
        canvas = np.zeros((400, 400), np.uint8)
        for part in parts:
            cv2.fillPoly(canvas, [np.round(part * 100 + 200).astype(np.int32)], 1)
        assert cv2.connectedComponents(canvas)[0] == 2
        areas.add(int(canvas.sum()))
    assert len(areas) > 1


def test_placing_keeps_what_must_stay_visible():
    stage = Stage(np.zeros((3, 64, 64), np.float32), 0.0)
    square = [np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)]

    def put(label: int, keep: list[float]) -> object:
        rng = np.random.default_rng(0)
        return stage.place(
            rng, square, centre=(32, 32), half=10, tilt=0.0, texture="dots", period=4, label=label, keep=keep
        )

    assert put(1, []) is not None
    before = stage.labels.copy()
    assert put(2, [50.0]) is None
    np.testing.assert_array_equal(stage.labels, before)
    assert put(2, [0.0]) is not None
    assert (stage.labels == 1).sum() == 0


def test_mix_gives_the_two_colours_at_the_ends():
    pair = colours(np.random.default_rng(0), 0.3)
    planes = mix(np.array([[0.0, 1.0]], np.float32), pair)
    np.testing.assert_allclose(planes[:, 0, 0], pair[0])
    np.testing.assert_allclose(planes[:, 0, 1], pair[1], atol=1e-6)
    assert abs(pair[0].mean() - pair[1].mean()) > 0.1


@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_streets_have_trainids_of_their_classes_only(seed):
    picture = street(np.random.default_rng(seed), (224, 128))
    assert picture.image.shape == (128, 224, 3)
    allowed = {CITYSCAPES_CLASSES.index(name) for name in STREET_CLASSES} | {VOID}
    found = set(np.unique(picture.labels).tolist())
    assert found <= allowed
    assert {0, 1, 10} <= found
