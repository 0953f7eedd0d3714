"""Pictures of what stages and methods found: each form of table, the newest checkpoint, and whose images they are."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from toy import write_images

from pretrain.data.batches import ImageSource, open_images
from pretrain.discovery.object_table import row_type
from pretrain.errors import PretrainError
from pretrain.methods import all_recipes
from pretrain.recipes import override
from pretrain.run import drawing
from pretrain.run.folder import RunRecord
from pretrain.run.pictures import Gallery
from pretrain.run.plots import render
from pretrain.run.stages import DONE, PRODUCT, STAGES

COUNT = 13


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ImageSource:
    return open_images(write_images(tmp_path_factory.mktemp("data") / "images", COUNT))


def a_run(folder: Path, source: ImageSource, recipe: str, *settings: str) -> RunRecord:
    """The record of a run that has done nothing yet, in its folder."""
    changed = override(all_recipes()[recipe], settings)
    record = RunRecord(
        recipe=changed.to_dict(), recipe_sha256=changed.sha256, seed=0, processes=1, data_name="images",
        data_fingerprint=source.fingerprint(), images=COUNT, batch_size=4, steps_per_epoch=3, planned_steps=3,
        method="", architecture=changed.backbone, views=[], mean=[0.0] * 3, std=[1.0] * 3, code_commit=None,
    )  # fmt: skip
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(asdict(record)))
    return record


def leave(folder: Path, number: int, name: str, table: npt.NDArray[Any], sha256: str = "a") -> None:
    """What a computing stage leaves in a run's folder."""
    at = folder / "stages" / f"{number}-{name}-{sha256}"
    at.mkdir(parents=True)
    with (at / PRODUCT).open("wb") as file:
        np.save(file, table)
    (at / DONE).write_text(json.dumps({"name": name, "sha256": sha256, "seconds": 1.0}))


def pixels(address: str) -> npt.NDArray[np.int64]:
    content = base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))
    return np.asarray(Image.open(io.BytesIO(content))).astype(int)


def test_the_tables_of_orl_in_the_order_of_its_stages(source: ImageSource, tmp_path: Path) -> None:
    run = tmp_path / "run"
    a_run(run, source, "orl-mini")
    gallery = Gallery(source)
    assert gallery.of(run) is None
    boxes = np.zeros((COUNT, 5, 4), np.uint16)
    boxes[:, :2] = [(2, 2, 20, 10), (5, 5, 9, 20)]
    leave(run, 1, "proposals", boxes)
    found = gallery.of(run)
    assert found is not None and found.titles == ("image", "proposals") and len(found.rows) == 6
    assert not np.array_equal(pixels(found.rows[0][0]), pixels(found.rows[0][1]))
    neighbors = np.stack([(np.arange(COUNT) + k) % COUNT for k in (1, 2, 3)], axis=1).astype(np.int32)
    pairs = np.zeros((COUNT, 3, 2, 8), np.uint16)
    pairs[:, :, 0] = (2, 2, 20, 10, 5, 5, 9, 20)
    leave(run, 3, "neighbors", neighbors)
    leave(run, 4, "pairs", pairs)
    found = gallery.of(run)
    assert found is not None and found.titles == ("image", "proposals", "neighbors", "pairs")
    assert all(picture.startswith("data:image/jpeg;base64,") for row in found.rows for picture in row)
    page = render([], [found])
    assert page.count("<img") == 24 and "Found in images by run" in page


def test_of_several_stages_that_of_the_run_is_drawn(source: ImageSource, tmp_path: Path) -> None:
    """While none is listed, the newest; then the listed one, also in a shared folder."""
    run = tmp_path / "run"
    a_run(run, source, "cyborgs-mini")
    plain, halves = np.zeros((COUNT, 8, 8), np.uint8), np.zeros((COUNT, 8, 8), np.uint8)
    halves[:, :, 4:] = 1
    leave(run, 1, "masks-0", halves, "b")
    before = Gallery(source).of(run)
    leave(run, 1, "masks-0", plain, "c")
    assert before != Gallery(source).of(run)
    (run / STAGES).write_text(json.dumps([{"name": "masks-0", "sha256": "b", "seconds": 1.0}]))
    assert before == Gallery(source).of(run)
    (run / "stages").rename(tmp_path / "shared")
    assert Gallery(source).of(run) is None and before == Gallery(source, tmp_path / "shared").of(run)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["odin-mini", "r2o-mini"])
def test_regions_by_the_newest_checkpoint(
    recipe: str, source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that the method forms itself, and drawn again only for another checkpoint."""
    run = tmp_path / "run"
    record = a_run(run, source, recipe, "method.whole_size=64")
    torch.manual_seed(0)
    method = override(all_recipes()[recipe], ["method.whole_size=64"]).method.build()
    about = {"format": 1, "recipe_sha256": record.recipe_sha256, "data_fingerprint": record.data_fingerprint, "seed": 0}
    torch.save({**about, "method": method.state_dict()}, run / "checkpoint.pt")
    method.eval().prepare(source, run)
    gallery = Gallery(source)
    found = gallery.of(run)
    assert found is not None and found.titles[-1] == "regions by the newest checkpoint"
    torch.manual_seed(0)
    regions = method.found(gallery._whole(method))
    assert regions is not None and len(torch.unique(regions)) > 1
    expected = [
        drawing.as_address(drawing.with_regions(p, r.numpy())) for p, r in zip(gallery.images, regions, strict=True)
    ]
    assert [row[-1] for row in found.rows] == expected
    assert ("masks of the images" in found.titles) is (recipe == "r2o-mini")
    monkeypatch.setattr(gallery, "_of_method", None)  # not called again: nothing is new
    assert gallery.of(run) is not None


def test_runs_of_other_images_and_damaged_tables_are_refused(source: ImageSource, tmp_path: Path) -> None:
    run = tmp_path / "run"
    a_run(run, source, "cyborgs-mini")
    others = open_images(write_images(tmp_path / "others", 5))
    with pytest.raises(PretrainError, match="made with other images"):
        Gallery(others).of(run)
    leave(run, 1, "masks-0", np.zeros((COUNT, 8, 8), np.uint8))
    (run / "stages" / "1-masks-0-a" / PRODUCT).write_bytes(b"nothing")
    with pytest.raises(PretrainError, match="is damaged"):
        Gallery(source).of(run)


def test_an_object_is_bright_and_the_rest_is_dark() -> None:
    picture = np.full((20, 30, 3), 200, np.uint8)
    row = np.zeros((), row_type(4))
    row["height"], row["width"], row["cell"] = 20, 30, 10
    row["cells"][:2, :3] = [(0, 3, 0), (0, 3, 0)]
    drawn = drawing.with_object(picture, row)
    assert (drawn[:, :10] == 60).all() and (drawn[:, 20:] == 60).all() and (drawn[:, 10:20] >= 119).all()
    row["height"] = 0
    assert (drawing.with_object(picture, row) == 60).all()


def test_boxes_lie_where_they_are_and_the_first_is_on_top() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    drawn = drawing.with_boxes(picture, [(5, 6, 10, 8), (5, 6, 30, 20)])
    assert drawn[6:14, 5].any(1).all() and drawn[6:26, 34].any(1).all() and not drawn[7:13, 6:14].any()
    assert (drawn[6, 5:15] == drawn[6, 5]).all() and (drawn[6, 20] != drawn[6, 5]).any()
