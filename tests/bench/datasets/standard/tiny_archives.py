"""Archives with the layouts of the authors', a few small files in each."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from bench.datasets.standard.table import Part, Standard

SIZE = (12, 8)
"""Width and height of every picture."""
Files = dict[str, bytes]


def photo(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def mask(*labels: int) -> bytes:
    """A label image whose columns have these labels."""
    row = np.resize(np.array(labels, np.uint8), SIZE[0])
    buffer = io.BytesIO()
    Image.fromarray(np.tile(row, (SIZE[1], 1))).save(buffer, "PNG")
    return buffer.getvalue()


def mat(**variables: object) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, variables)
    return buffer.getvalue()


def sbd_mask(*labels: int) -> bytes:
    row = np.resize(np.array(labels, np.uint8), SIZE[0])
    return mat(GTcls={"Segmentation": np.tile(row, (SIZE[1], 1)), "Boundaries": [], "CategoriesPresent": [1.0]})


def joints(frames: int) -> np.ndarray:
    """Positions (2, 15, frames), counted from 1."""
    return np.arange(2 * 15 * frames, dtype=float).reshape(2, 15, frames) / 4


def lines(*entries: str) -> bytes:
    return "".join(f"{entry}\n" for entry in entries).encode()


def _voc(year: str, lists: dict[str, tuple[str, ...]], segmentation: dict[str, tuple[str, ...]]) -> Files:
    folder = f"VOCdevkit/VOC{year}"
    files = {f"{folder}/ImageSets/Main/{name}.txt": lines(*ids) for name, ids in lists.items()}
    files |= {f"{folder}/ImageSets/Segmentation/{name}.txt": lines(*ids) for name, ids in segmentation.items()}
    for number, image in enumerate({image: None for ids in lists.values() for image in ids}):
        files[f"{folder}/JPEGImages/{image}.jpg"] = photo(number)
        files[f"{folder}/Annotations/{image}.xml"] = b"<annotation/>"
    for ids in segmentation.values():
        files |= {f"{folder}/SegmentationClass/{image}.png": mask(0, 1, 255) for image in ids}
    return files


def _coco_file(split: str, names: tuple[str, ...]) -> bytes:
    images = [
        {"id": i, "file_name": n.split("/")[1], "coco_url": f"http://images.cocodataset.org/{n}"}
        for i, n in enumerate(names)
    ]
    return json.dumps({"annotations": [], "info": {"description": split}, "images": images}).encode()


A, B, C = "000000000009", "000000000025", "000000000139"
ARCHIVES: dict[str, dict[str, Files]] = {
    "voc2007": {
        "VOCtrainval_06-Nov-2007.tar": _voc("2007", {"trainval": ("000005", "000007")}, {}),
        "VOCtest_06-Nov-2007.tar": _voc("2007", {"test": ("000001",)}, {}),
    },
    "voc2012": {
        "VOCtrainval_11-May-2012.tar": _voc(
            "2012",
            {"train": ("2008_000008", "2007_000032"), "val": ("2007_000033",), "trainval": ("2008_000008",)},
            {"train": ("2007_000032",), "val": ("2007_000033",)},
        )
    },
    "sbd": {
        "benchmark.tgz": {
            "benchmark_RELEASE/dataset/cls/2008_000008.mat": sbd_mask(0, 20),
            "benchmark_RELEASE/dataset/cls/2007_000033.mat": sbd_mask(0, 3),
            "benchmark_RELEASE/dataset/train.txt": lines("2008_000008"),
            "benchmark_RELEASE/dataset/val.txt": lines("2007_000033"),
            "benchmark_RELEASE/dataset/img/2008_000008.jpg": photo(1),
            "benchmark_RELEASE/dataset/inst/2008_000008.mat": b"",
            "benchmark_RELEASE/README": b"text",
        }
    },
    "coco2017": {
        "train2017.zip": {f"train2017/{A}.jpg": photo(1), f"train2017/{B}.jpg": photo(2)},
        "val2017.zip": {f"val2017/{C}.jpg": photo(3)},
        "annotations_trainval2017.zip": {
            f"annotations/{task}_{split}2017.json": b"{}"
            for task in ("instances", "captions")
            for split in ("train", "val")
        },
    },
    "cocostuff27": {
        "stuffthingmaps_trainval2017.zip": {
            f"train2017/{A}.png": mask(0),
            f"train2017/{B}.png": mask(0, 91, 181, 255),
            f"val2017/{C}.png": mask(149, 5, 71),
        },
        "COCOStuff164kCurated.tar.gz": {
            f"curated/{split}2017/{name}.txt": lines(image)
            for split, image in (("train", B), ("val", C))
            for name in ("Coco164kFull_Stuff_Coarse_7", "Coco164kFew_Stuff_6")
        },
    },
    "lvis": {
        "lvis_v1_train.json.zip": {"lvis_v1_train.json": _coco_file("train", (f"train2017/{B}.jpg",))},
        "lvis_v1_val.json.zip": {"lvis_v1_val.json": _coco_file("val", (f"val2017/{C}.jpg", f"train2017/{A}.jpg"))},
    },
    "cityscapes": {
        "leftImg8bit_trainvaltest.zip": {
            "README": b"text",
            **{
                f"leftImg8bit/{split}/{city}/{city}_000000_000019_leftImg8bit.png": mask(number)
                for number, (split, city) in enumerate((("train", "aachen"), ("val", "munster"), ("test", "berlin")))
            },
        },
        "gtFine_trainvaltest.zip": {
            f"gtFine/{split}/{city}/{city}_000000_000019_gtFine_{kind}": content
            for split, city in (("train", "aachen"), ("val", "munster"))
            for kind, content in (
                ("labelIds.png", mask(0, 7, 33, 9, 255)),
                ("instanceIds.png", mask(0, 7)),
                ("polygons.json", b"{}"),
            )
        },
    },
    "ade20k": {
        "ADEChallengeData2016.zip": {
            f"ADEChallengeData2016/{kind}/{folder}/ADE_{split}_0000000{number}.{ending}": content
            for folder, split in (("training", "train"), ("validation", "val"))
            for number in (1, 2)
            for kind, ending, content in (
                ("images", "jpg", photo(number + 2 * (split == "val"))),
                ("annotations", "png", mask(0, 150)),
            )
        }
    },
    "cub200": {
        "CUB_200_2011.tgz": {
            "CUB_200_2011/images.txt": lines("1 001.Albatross/a_1.jpg", "2 002.Auklet/b_2.jpg"),
            "CUB_200_2011/train_test_split.txt": lines("1 1", "2 0"),
            "CUB_200_2011/images/001.Albatross/a_1.jpg": photo(1),
            "CUB_200_2011/images/002.Auklet/b_2.jpg": photo(2),
            "attributes.txt": b"",
        },
        "segmentations.tgz": {
            "segmentations/001.Albatross/a_1.png": mask(0, 51, 255),
            "segmentations/002.Auklet/b_2.png": mask(0, 255),
        },
    },
    "davis2017": {
        "DAVIS-2017-trainval-480p.zip": {
            f"DAVIS/{kind}/480p/{video}/0000{frame}.{ending}": content
            for video in ("bear", "blackswan", "gold-fish")
            for frame in (0, 1, 2)
            for kind, ending, content in (
                ("JPEGImages", "jpg", photo(10 * len(video) + frame)),
                ("Annotations", "png", mask(0, 1, 2)),
            )
        }
        | {
            "DAVIS/ImageSets/2016/train.txt": lines("bear"),
            "DAVIS/ImageSets/2016/val.txt": lines("blackswan"),
            "DAVIS/ImageSets/2017/train.txt": lines("bear"),
            "DAVIS/ImageSets/2017/val.txt": lines("blackswan", "gold-fish"),
        }
    },
    "jhmdb": {
        "Rename_Images.tar.gz": {
            f"Rename_Images/{clip}/0000{frame}.png": mask(number, frame)
            for number, clip in enumerate(("catch/a", "catch/b", "wave/c"))
            for frame in (1, 2)
        },
        "joint_positions.zip": {
            f"joint_positions/{clip}/joint_positions.mat": mat(pos_img=joints(2), viewpoint="N")
            for clip in ("catch/a", "catch/b", "wave/c")
        },
        "splits.zip": {
            "splits/catch_test_split1.txt": lines("a.avi 1", "b.avi 2"),
            "splits/catch_test_split2.txt": lines("a.avi 2", "b.avi 1"),
            "splits/wave_test_split1.txt": lines("c.avi 1"),
        },
    },
    "vip": {
        "VIP_Fine.zip": {
            "VIP_Fine/lists/val_videos.txt": lines("videos1"),
            **{f"VIP_Fine/Images/videos1/00000000000{frame}.jpg": photo(frame) for frame in (1, 2, 3)},
            **{f"VIP_Fine/Annotations/Category_ids/videos1/00000000000{frame}.png": mask(0, 19) for frame in (1, 2, 3)},
        }
    },
    "imagenet-subsets": {
        "1percent.txt": {"": lines("n01440764_10026.JPEG")},
        "10percent.txt": {"": lines("n01440764_10026.JPEG", "n01443537_2.JPEG")},
    },
    "imagenet-lt": {
        f"ImageNet_LT_{split}.txt": {"": lines(f"{split}/n01440764/n01440764_190.JPEG 0")}
        for split in ("train", "val", "test")
    },
}  # fmt: skip
ARCHIVES["davis2016"] = ARCHIVES["davis2017"]


def write_archives(folder: Path, name: str) -> None:
    """Write the archives of a data set."""
    folder.mkdir(parents=True, exist_ok=True)
    for archive, files in ARCHIVES[name].items():
        path = folder / archive
        if archive.endswith(".zip"):
            with zipfile.ZipFile(path, "w") as packed:
                for member, content in files.items():
                    packed.writestr(member, content)
        elif archive.endswith(".txt"):
            path.write_bytes(files[""])
        else:
            with tarfile.open(path, "w:gz" if archive.endswith("gz") else "w") as packed:
                for member, content in files.items():
                    info = tarfile.TarInfo(member)
                    info.size = len(content)
                    packed.addfile(info, io.BytesIO(content))


def shrunk(standard: Standard, whole: Path | None = None) -> Standard:
    """The data set without the published numbers and hashes; the numbers are those of the data root `whole`."""

    def small(parts: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple(replace(part, count=part.found(whole) if whole else None, sha256="") for part in parts)

    return replace(
        standard,
        archives=tuple(replace(archive, size=None, digest="") for archive in standard.archives),
        parts=small(standard.parts),
        conversions=tuple(replace(one, makes=small(one.makes)) for one in standard.conversions),
    )
