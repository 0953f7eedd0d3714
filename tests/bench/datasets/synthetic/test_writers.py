import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from bench.datasets.names import VOC_CLASSES, VOID, voc_palette
from bench.datasets.synthetic.scene import Instance, Scene
from bench.datasets.synthetic.write_coco import polygons, rle
from bench.datasets.synthetic.write_voc import bounding_box, is_difficult, masks

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


@given(mask=MASKS)
@settings(max_examples=150, deadline=None)
def test_run_lengths_are_those_of_pycocotools(mask):
    mine = rle(mask)
    decoded = coco_mask.decode(coco_mask.frPyObjects(mine, *mask.shape))
    np.testing.assert_array_equal(decoded, mask)
    assert all(count > 0 for count in mine["counts"][1:])


@given(mask=MASKS)
@settings(max_examples=150, deadline=None)
def test_bounding_box_by_a_plain_loop(mask):
    assume(mask.any())
    points = [(x, y) for y in range(mask.shape[0]) for x in range(mask.shape[1]) if mask[y, x]]
    xs, ys = zip(*points, strict=True)
    assert bounding_box(mask) == (min(xs), min(ys), max(xs), max(ys))


@given(
    centre=st.tuples(st.floats(0, 40), st.floats(0, 30)),
    axes=st.tuples(st.floats(4, 15), st.floats(4, 15)),
)
@settings(max_examples=60, deadline=None)
def test_polygons_cover_the_mask(centre, axes):
    y, x = np.mgrid[:30, :40]
    mask = ((x - centre[0]) / axes[0]) ** 2 + ((y - centre[1]) / axes[1]) ** 2 < 1
    assume(mask.sum() > 60)
    outline = polygons(mask)
    assert outline is not None
    for polygon in outline:
        assert min(polygon) >= 0
        assert max(polygon[::2]) <= 40
        assert max(polygon[1::2]) <= 30
    filled = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(outline, 30, 40))).astype(bool)
    assert (filled & mask).sum() / (filled | mask).sum() > 0.85


def test_masks_that_polygons_cannot_tell_are_left_to_run_lengths():
    ring = np.zeros((20, 20), bool)
    ring[4:16, 4:16] = True
    assert polygons(ring) is not None
    ring[7:13, 7:13] = False
    assert polygons(ring) is None


def test_voc_masks_mark_outlines_and_difficult_objects_as_void():
    image = np.zeros((40, 60, 3), np.uint8)
    left, right = np.zeros((40, 60), bool), np.zeros((40, 60), bool)
    left[10:30, 5:25] = True
    right[10:30, 35:55] = True
    easy, hard = Instance("cat", left, False, 0.9), Instance("cow", right, True, 0.2)
    assert not is_difficult(easy)
    assert is_difficult(hard)
    classes, objects = masks(Scene(image, (easy, hard)))
    assert classes[20, 15] == VOC_CLASSES.index("cat") + 1
    assert objects[20, 15] == 1
    assert set(classes[11:29, 36:54].ravel()) == {VOID}
    assert classes[0, 0] == objects[0, 0] == 0
    assert classes[10, 15] == classes[9, 15] == VOID
    assert classes[8, 15] == 0


def test_tiny_objects_are_difficult():
    mask = np.zeros((40, 40), bool)
    mask[:8, :9] = True
    assert is_difficult(Instance("cat", mask, False, 1.0))


def test_palette_has_vocs_colours():
    """The colours of the first labels, from the development kit's figure: black, maroon, green, olive, navy."""
    colours = np.frombuffer(voc_palette(), np.uint8).reshape(256, 3)
    assert colours[:5].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert colours[15].tolist() == [192, 128, 128]
    assert colours[VOID].tolist() == [224, 224, 192]
    assert len({tuple(colour) for colour in colours.tolist()}) == 256
