"""Pictures as data for the leaderboard's page."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cli.tables import pictures
from bench.errors import BenchError
from bench.pictures.collect import Seen, Sheet
from bench.pictures.draw import address
from bench.pictures.tables import found_tables, seen_tables
from leaderboard.extras import read_extras
from leaderboard.records import Pretraining, Source
from leaderboard.records.extras import Pictures
from pretrain.data.batches import open_images
from pretrain.errors import PretrainError
from pretrain.exported import make_card
from pretrain.methods import all_recipes
from pretrain.run.folder import RunRecord
from pretrain.run.stages import DONE, PRODUCT


def test_each_submission_has_a_table_with_the_images_of_the_sheet(tmp_path: Path) -> None:
    shades = [np.full((4, 8, 3), shade, np.uint8) for shade in range(0, 240, 40)]
    image, labels, *others = shades
    seen = [Seen(name, digit * 64, "mIoU 17.5", [p], [f]) for name, digit, p, f in (
        ("moco", "1", others[0], others[1]), ("random", "2", others[2], others[3])
    )]  # fmt: skip
    tables = tuple(seen_tables([Sheet("VOC, linear", [image], [labels], seen)]))
    (tmp_path / "pictures.json").write_text(Pictures(schema_version=1, tables=tables).to_json())
    found = read_extras(tmp_path).pictures
    assert sorted(found) == ["1" * 64, "2" * 64]
    (table,) = found["2" * 64]
    assert table.title == "VOC, linear"
    assert [row.name for row in table.rows] == ["image", "labels", "prediction, mIoU 17.5", "features"]
    drawn = [(image, True), (labels, False), (others[2], False), (others[3], False)]
    assert [row.pictures for row in table.rows] == [
        (address(one, labels.shape, smooth=smooth),) for one, smooth in drawn
    ]


def test_objects_of_a_run_stand_with_its_exported_weights(tmp_path: Path) -> None:
    images, run = tmp_path / "images", tmp_path / "run"
    images.mkdir()
    for i in range(7):
        Image.fromarray(np.full((16, 24, 3), 30 * i, np.uint8)).save(images / f"{i}.png")
    source, recipe = open_images(images), all_recipes()["orl-mini"]
    record = RunRecord(
        recipe=recipe.to_dict(), recipe_sha256=recipe.sha256, seed=0, processes=1, data_name="images",
        data_fingerprint=source.fingerprint(), images=7, batch_size=4, steps_per_epoch=3, planned_steps=3,
        method="", architecture=recipe.backbone, views=[], mean=[0.0] * 3, std=[1.0] * 3, code_commit=None,
    )  # fmt: skip
    stage = run / "stages" / "1-proposals-a"
    stage.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(asdict(record)))
    assert list(found_tables([run], images)) == []
    with (stage / PRODUCT).open("wb") as file:
        np.save(file, np.full((7, 2, 4), (2, 2, 20, 10), np.uint16))
    (stage / DONE).write_text(json.dumps({"name": "proposals", "sha256": "a", "seconds": 1.0}))
    with pytest.raises(PretrainError, match="export"):
        list(found_tables([run], images))
    source_of = Source(format="densebench run", file="checkpoint.pt", sha256="a" * 64, key_prefix="backbone.")
    facts = {
        "name": "orl", "method": "ORL", "architecture": "resnet18", "color_order": "RGB", "mean": (0.5,) * 3,
        "std": (0.5,) * 3, "pretraining": Pretraining.known(), "source": source_of, "license": None,
        "code_commit": None,
    }  # fmt: skip
    (run / "export").mkdir()
    (run / "export" / "card.json").write_text(make_card(facts, "b" * 64).to_json())
    (table,) = found_tables([run], images)
    assert table.sha256 == "b" * 64
    assert [(row.name, len(row.pictures)) for row in table.rows] == [("image", 6), ("proposals", 6)]


def test_objects_of_runs_need_their_images(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="--pretraining-images"):
        pictures(data=tmp_path, out=tmp_path / "pictures.json", runs=[tmp_path])
    with pytest.raises(BenchError, match=r"--out \.\.\./pictures\.json"):
        pictures(data=tmp_path, out=tmp_path / "page.html", runs=[tmp_path], pretraining_images=tmp_path)
