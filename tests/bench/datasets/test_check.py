import io
import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image
from pycocotools.coco import COCO
from rich.console import Console

from bench.datasets import DATASETS, FURTHER, DatasetReport, check
from bench.datasets import files as files_module
from bench.datasets.report import Findings, Split
from bench.errors import BenchError


def only_error(root: Path, dataset: str) -> str:
    """The message of the one error that the check finds; it must also stop a run."""
    report = check(root, dataset)
    assert len(report.errors) == 1, report.problems
    with pytest.raises(BenchError, match="cannot be used"):
        report.reference()
    return report.errors[0]


def warnings(report: DatasetReport) -> list[str]:
    return [message for severity, message in report.problems if severity == "warning"]


def text(report: DatasetReport) -> str:
    file = io.StringIO()
    report.print(Console(width=120, force_terminal=False, file=file))
    return file.getvalue()


@pytest.mark.parametrize("dataset", DATASETS)
def test_real_data_have_no_errors(shared_data, dataset):
    report = check(shared_data, dataset)
    assert report.errors == ()
    reference = report.reference()
    expected = {"voc2012_det": (420, 220), "voc2012_seg": (420, 220), "coco2017": (294, 284), "cityscapes": (120, 50)}
    assert (reference.train_images, reference.val_images) == expected[dataset]


def test_histograms_are_counted_right(generated):
    voc = check(generated, "voc2012_seg")
    counted: Counter[int] = Counter()
    for path in voc.splits["val"].annotations[1:]:
        counted.update(np.asarray(Image.open(path)).ravel().tolist())
    assert voc.splits["val"].histogram["background"] == counted[0]
    assert voc.splits["val"].histogram["cat"] == counted[8]
    assert voc.splits["val"].histogram["void"] == counted[255]
    coco = check(generated, "coco2017")
    oracle = COCO(str(generated / "coco/annotations/instances_train2017.json"))
    assert coco.splits["train"].counts["objects"] == len(oracle.anns)
    assert coco.splits["train"].histogram["zebra"] == len(oracle.getAnnIds(catIds=[24]))


def test_report_as_text_and_as_json(generated):
    report = check(generated, "voc2012_det")
    shown = text(report)
    for part in ("voc2012_det", "train", "val", "difficult", "sheep", "can be used", report.fingerprint[:16]):
        assert part in shown
    again = json.loads(json.dumps(report.to_dict()))
    assert again["ok"] is True
    assert again["splits"]["train"]["images"] == 6
    assert again["splits"]["train"]["objects"] == sum(again["splits"]["train"]["histogram"].values())


def test_an_unknown_data_set_is_refused(generated):
    with pytest.raises(BenchError, match="unknown data set 'ade21k': choose from voc2012_det"):
        check(generated, "ade21k")


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_missing_folder_names_the_expected_layout(tmp_path, dataset):
    message = only_error(tmp_path / "nowhere", dataset)
    assert message.startswith(f"there is no folder {tmp_path / 'nowhere'}: ")
    assert only_error(tmp_path, dataset).startswith("no ")
    assert "expected" in message
    assert {"voc2012_det": "ImageSets/Main", "voc2012_seg": "SegmentationClass"}.get(dataset, dataset[:4]) in message


def test_what_cannot_be_used_names_the_first_error_and_no_wrong_number(root):
    shutil.rmtree(root / "VOCdevkit" / "VOC2012" / "SegmentationClass")
    report = check(root, "voc2012_seg")
    assert len(report.errors) == 6 and "5 more missing masks" in report.errors[-1]
    with pytest.raises(BenchError) as raised:
        report.require()
    assert str(raised.value).endswith(f"{report.errors[0]} (`densebench data check` tells what else is wrong)")


@pytest.mark.parametrize("dataset", DATASETS)
def test_nothing_has_no_fingerprint(tmp_path, dataset):
    report = check(tmp_path, dataset)
    assert (report.fingerprint, report.to_dict()["fingerprint"]) == ("", None)
    assert "fingerprint" not in text(report)


@pytest.mark.parametrize("entry", (DATASETS | FURTHER).values(), ids=DATASETS | FURTHER)
def test_the_layout_stands_in_the_help_and_in_the_documentation(entry):
    from bench.cli.roots import check_data

    page = (Path(__file__).parents[3] / "docs/evaluate.md").read_text(encoding="utf-8")
    for words in (check_data.__doc__, page):
        plain = words.replace("`", "")
        for part in re.findall(r"\S*[/{]\S*[^\s,)]", entry.layout):
            assert part in plain


def test_classes_that_are_only_in_val_are_named(root):
    for path in check(root, "voc2012_seg").splits["train"].annotations[1:]:
        labels = np.array(Image.open(path))
        Image.fromarray(np.where(labels == 8, 0, labels).astype(np.uint8)).save(path)
    report = check(root, "voc2012_seg")
    assert report.only_in_val == tuple(report.to_dict()["only_in_val"]) == ("cat",)
    assert "in val only, so never trained on: cat" in text(report)


def test_names_that_go_by_id_are_shown_as_such(generated):
    assert "class (by trainId)" in text(check(generated, "cityscapes"))
    assert "class (by VOC's label ids)" in text(check(generated, "voc2012_seg"))


def test_square_brackets_in_names_of_classes_are_text():
    train = Split(histogram=Counter({"nut [/large]": 2, "nut [small]": 0}))
    val = Split(images=[Path("a.png")], histogram=Counter({"nut [/large]": 2, "nut [/old]": 1, "nut [/none]": 0}))
    shown = text(DatasetReport("custom_seg", Path("d [/a]"), "objects", {"train": train, "val": val}, (), "", ""))
    assert "nut [/large]" in shown
    assert "no objects of 2 classes: nut [small], nut [/none]" in shown
    assert "in val only, so never trained on: nut [/old]" in shown


def test_the_same_problem_is_named_once():
    findings = Findings()
    for _ in range(3):
        findings.error("missing images", "a.jpg is missing")
    assert len(findings.problems()) == 1


def test_many_problems_of_a_sort_are_summed_up():
    findings = Findings()
    findings.warning("odd things", "odd")
    for number in range(12):
        findings.error("missing images", f"{number}.jpg is missing")
    problems = findings.problems()
    assert [problem.severity for problem in problems] == ["error"] * 6 + ["warning"]
    assert problems[5].message == "... and 7 more missing images"


class TestFingerprint:
    def test_depends_on_what_is_used_and_on_nothing_else(self, root):
        first = check(root, "voc2012_det").fingerprint
        (root / "VOCdevkit/VOC2012/README").write_text("unused")
        (root / "VOCdevkit/VOC2012/SegmentationClass/extra.png").write_bytes(b"unused")
        assert check(root, "voc2012_det").fingerprint == first
        image = next((root / "VOCdevkit/VOC2012/JPEGImages").iterdir())
        image.write_bytes(image.read_bytes() + b"\0")
        assert check(root, "voc2012_det").fingerprint != first

    def test_does_not_depend_on_where_the_data_lie(self, root, tmp_path):
        elsewhere = shutil.copytree(root, tmp_path / "b" / "c")
        for dataset in DATASETS:
            assert check(root, dataset).fingerprint == check(elsewhere, dataset).fingerprint

    def test_differs_between_data_sets(self, generated):
        assert len({check(generated, dataset).fingerprint for dataset in DATASETS}) == 4

    @pytest.mark.parametrize("dataset", DATASETS)
    def test_annotations_count(self, root, dataset):
        first = check(root, dataset)
        path = first.splits["val"].annotations[-1]
        if path.suffix == ".png":
            image = Image.open(path)
            image.putpixel((0, 0), 0 if image.getpixel((0, 0)) else 8)
            image.save(path)
        else:
            path.write_text(path.read_text() + "\n")
        second = check(root, dataset)
        assert second.errors == ()
        assert first.fingerprint != second.fingerprint

    def test_large_sets_are_fingerprinted_by_name_and_size(self, root, monkeypatch):
        thorough = check(root, "coco2017")
        monkeypatch.setattr(files_module, "THOROUGH_BYTES", 1000)
        quick = check(root, "coco2017")
        assert quick.errors == ()
        assert (thorough.fingerprint_rule, quick.fingerprint_rule) == ("content-v1", "image-name-and-size-v1")
        assert quick.fingerprint != thorough.fingerprint
        image = quick.splits["train"].images[0]
        image.write_bytes(image.read_bytes() + b"\0")
        assert check(root, "coco2017").fingerprint != quick.fingerprint

    def test_a_new_folder_of_results_starts_with_the_same_reference(self, generated):
        assert check(generated, "cityscapes").reference() == check(generated, "cityscapes").reference()


def first_image(root: Path, dataset: str, split: str = "train") -> Path:
    return check(root, dataset).splits[split].images[0]


@pytest.mark.parametrize("dataset", DATASETS)
class TestImages:
    def test_missing(self, root, dataset):
        path = first_image(root, dataset)
        path.unlink()
        if dataset == "cityscapes":
            report = check(root, dataset)
            assert report.errors == ()
            assert "has no image" in warnings(report)[0]
        else:
            assert only_error(root, dataset) == f"{path.relative_to(root)} is missing"

    def test_truncated(self, root, dataset):
        path = first_image(root, dataset)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        message = only_error(root, dataset)
        assert message.startswith(f"{path.relative_to(root)} is damaged: ")
        assert "truncated" in message

    def test_not_an_image(self, root, dataset):
        path = first_image(root, dataset)
        path.write_bytes(b"<html>404</html>")
        name = path.relative_to(root)
        reason = "not an image in a format that is read (JPEG, PNG, WebP, BMP, TIFF, PPM)"
        assert only_error(root, dataset) == f"{name} is damaged: {reason}"

    def test_postscript_runs_no_program(self, root, dataset, tmp_path, monkeypatch):
        """Pillow would hand it to Ghostscript, a program of the machine's that runs the file as a program."""
        called = tmp_path / "called"
        ghostscript = tmp_path / "gs"
        ghostscript.write_text(f"#!/bin/sh\necho 10.0; touch {called}\n")
        ghostscript.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # Pillow looks for it once
        path = first_image(root, dataset)
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 160 128\n%%EndComments\nshowpage\n%%EOF\n")
        assert "not an image in a format that is read" in only_error(root, dataset)
        assert not called.exists()

    @pytest.mark.parametrize("thorough", [True, False])
    @pytest.mark.parametrize(("width", "height"), [(30000, 20000), (10000, 10000)])
    def test_of_too_many_pixels(self, root, dataset, width, height, thorough, monkeypatch):
        """A small file can hold so many that decoding takes all memory: the header is enough to refuse it."""
        if not thorough:
            monkeypatch.setattr(files_module, "THOROUGH_BYTES", 1000)
        path = first_image(root, dataset)
        jpeg = io.BytesIO()
        Image.new("RGB", (8, 8)).save(jpeg, "JPEG")
        content = bytearray(jpeg.getvalue())
        at = content.index(b"\xff\xc0") + 5  # the frame's header: marker, length, bits, height, width
        content[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
        path.write_bytes(content)
        assert "more than the 89,478,485 pixels that are decoded; scale it down" in only_error(root, dataset)

    def test_of_another_size(self, root, dataset):
        path = first_image(root, dataset)
        Image.open(path).resize((50, 40)).save(path)
        message = only_error(root, dataset)
        assert "50x40" in message
        assert path.stem.removesuffix("_leftImg8bit") in message

    def test_the_same_file_in_train_and_val(self, root, dataset):
        """Copied under another name, with its annotation's size made to fit."""
        train, val = (first_image(root, dataset, split) for split in ("train", "val"))
        size = Image.open(val).size
        Image.open(train).resize(size).save(val)
        shutil.copy(val, train)
        assert f"{val.relative_to(root)} (val) is a copy of {train.relative_to(root)} (train)" in " ".join(
            check(root, dataset).errors
        )
