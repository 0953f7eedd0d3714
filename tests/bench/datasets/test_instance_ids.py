"""Images of instance ids: what is read of them, what is reported, and where they are asked for."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instance_ids import with_instance_ids
from PIL import Image
from pycocotools import mask as run_length

from bench.datasets import check, expected_in
from bench.datasets.cityscapes_instances import find_instances, load_ids
from bench.datasets.names import CITYSCAPES_THINGS
from bench.errors import BenchError

NAMES = list(CITYSCAPES_THINGS.values())


@pytest.fixture
def root(tiny_data: Path, tmp_path: Path) -> Path:
    return with_instance_ids(tiny_data, tmp_path / "data")


values = st.sampled_from([0, 7, 24, 24000, 24001, 26, 26003, 29001, 33001])


@settings(max_examples=50)
@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_boxes_and_masks_are_those_of_the_pixels(height: int, width: int, data: st.DataObject) -> None:
    flat = data.draw(st.lists(values, min_size=height * width, max_size=height * width))
    ids = np.array(flat, np.int32).reshape(height, width)
    found = find_instances(ids)
    wanted = [value for value in np.unique(ids).tolist() if (value if value < 1000 else value // 1000) in (24, 26, 33)]
    assert len(found) == len(wanted)
    for instance, value in zip(found, wanted, strict=True):
        rows, columns = np.nonzero(ids == value)
        assert instance.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert instance.group == (value < 1000)
        assert list(CITYSCAPES_THINGS)[instance.label] == (value if value < 1000 else value // 1000)
        packed = run_length.frPyObjects({"counts": instance.counts, "size": [height, width]}, height, width)
        np.testing.assert_array_equal(run_length.decode(packed).astype(bool), ids == value)


def test_objects_and_groups_are_counted(root: Path) -> None:
    report = check(root, "cityscapes_inst")
    assert report.errors == ()
    split = report.splits["val"]
    numbers: Counter[int] = Counter()
    for path in split.annotations:
        numbers.update(np.unique(np.asarray(Image.open(path))).tolist())
    objects = [number for number in numbers.elements() if number >= 1000]
    assert split.counts["objects"] == len(objects) == sum(split.histogram.values()) > 0
    assert split.histogram["car"] == sum(number // 1000 == 26 for number in objects)
    assert split.counts["groups"] == sum(number in CITYSCAPES_THINGS for number in numbers.elements())
    told = [message for severity, message in report.problems if severity == "warning"]
    assert "train has 4 images, published results 2,975: your values cannot be compared with theirs" in told


def test_they_are_asked_for_where_one_is(root: Path) -> None:
    paths = list(root.rglob("*_instanceIds.png"))
    paths[0].unlink()
    assert "cityscapes_inst" in expected_in(root)
    for path in paths[1:]:
        path.unlink()
    assert "cityscapes_inst" not in expected_in(root)
    assert any("instanceIds.png is missing" in message for message in check(root, "cityscapes_inst").errors)


@pytest.mark.parametrize(("kind", "message"), [("L", "is a L image"), ("damaged", "is damaged")])
def test_what_is_no_image_of_ids_is_refused(root: Path, kind: str, message: str) -> None:
    path = next((root / "cityscapes/gtFine/train").glob("*/*_instanceIds.png"))
    if kind == "L":
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    else:
        path.write_bytes(path.read_bytes()[:60])
    assert any(message in error for error in check(root, "cityscapes_inst").errors)
    with pytest.raises(BenchError, match=message):
        load_ids(path)
