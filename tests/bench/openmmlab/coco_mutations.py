"""A tiny COCO data root, and random ways of damaging one or of writing it otherwise."""

import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as run_length

from bench.datasets.coco import annotation_file, image_folder
from bench.datasets.coco_masks import read_mask
from bench.datasets.names import COCO_CATEGORIES

SIZE = WIDTH, HEIGHT = 60, 40
SPLITS = {"train": 4, "val": 3}
Content = dict[str, Any]


def scene(split: str, images: int, seed: int = 0) -> Content:
    """Annotations of `images` images with two rectangles each, of five classes."""
    draw = random.Random(f"{seed}{split}")
    start = 0 if split == "train" else 100
    annotations: list[Content] = []
    for image in range(start + 1, start + images + 1):
        for part in range(2):
            x, y, w, h = 30 * part + draw.randrange(8), draw.randrange(10), draw.randrange(8, 22), draw.randrange(8, 30)
            annotations.append(
                {
                    "id": start + len(annotations) + 1,
                    "image_id": image,
                    "category_id": draw.choice((1, 2, 3, 17, 90)),
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
    return {
        "images": [
            {"id": n, "file_name": f"{n:06d}.jpg", "width": WIDTH, "height": HEIGHT}
            for n in range(start + 1, start + images + 1)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, (name, _) in COCO_CATEGORIES.items()],
    }


def write_root(root: Path) -> Path:
    """The root as it should be."""
    annotation_file(root, "train").parent.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for split, images in SPLITS.items():
        content = scene(split, images)
        image_folder(root, split).mkdir()
        annotation_file(root, split).write_text(json.dumps(content))
        for image in content["images"]:
            pixels = noise.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(image_folder(root, split) / image["file_name"])
    return root


def runs(entry: Content, *, text: bool = False) -> Content:
    """The mask of an annotation as run lengths."""
    mask = read_mask(entry["segmentation"], SIZE)  # an earlier change may have made a bomb of it
    if mask is None or not isinstance(mask.segmentation, list):
        raise ValueError("no polygons")
    encoded = run_length.merge(run_length.frPyObjects(mask.segmentation, HEIGHT, WIDTH))
    if text:
        return {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}
    flat = run_length.decode(encoded).ravel(order="F")
    bounds = [0, *(np.flatnonzero(np.diff(flat, prepend=0))).tolist(), flat.size]
    return {"size": [HEIGHT, WIDTH], "counts": np.diff(bounds).tolist()}


def _random_text(draw: random.Random) -> str:
    return "".join(chr(draw.randrange(40, 120)) for _ in range(draw.randrange(12)))


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, 2.0, 1e9, -1e9, 1e300, float("nan"), float("inf"), 2**31, 2**63, 10**400),
    *("", "1", "x", "\ud800", "\x1b[2J", [], {}, [[]], [1, 2], [None], {"size": [40, 60]}, [[[1, 2], [3, 4], [5, 6]]]),
)
"""What a program or a person may write in the place of anything."""

BOXES: tuple[Callable[[float, float, float, float], list[Any]], ...] = (
    lambda x, y, w, h: [x, y, x + w, y + h],
    lambda x, y, w, h: [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT],
    lambda x, y, w, h: [y, x, h, w],
    lambda x, y, w, h: [2 * x, 2 * y, 2 * w, 2 * h],
    lambda x, y, w, h: [x, y, -w, h],
    lambda x, y, w, h: [x, y, 0, h],
    lambda x, y, w, h: [x, y, 0.4, 0.4],
    lambda x, y, w, h: [-0.9, y, w, h],
    lambda x, y, w, h: [x, y, WIDTH - x + 0.9, h],
    lambda x, y, w, h: [x, y, WIDTH - x + 1.1, h],
    lambda x, y, w, h: [float(x), y, w, float("nan")],
    lambda x, y, w, h: [x, y, w],
    lambda x, y, w, h: [x, y, w, str(h)],
    lambda x, y, w, h: [x, y, w, 10**400],
)
MASKS: tuple[Callable[[Content, random.Random], Any], ...] = (
    lambda a, draw: runs(a),
    lambda a, draw: runs(a, text=True),
    lambda a, draw: runs(a, text=True) | {"counts": _random_text(draw)},
    lambda a, draw: runs(a, text=True) | {"counts": runs(a, text=True)["counts"][: draw.randrange(6)]},
    lambda a, draw: runs(a, text=True) | {"size": [WIDTH, HEIGHT]},
    lambda a, draw: runs(a) | {"counts": [draw.randrange(-5, 3000) for _ in range(draw.randrange(4))]},
    lambda a, draw: runs(a) | {"counts": [WIDTH * HEIGHT]},
    lambda a, draw: runs(a) | {"size": [float(HEIGHT), float(WIDTH)]},
    lambda a, draw: [],
    lambda a, draw: [[]],
    lambda a, draw: [a["segmentation"][0][:2]],
    lambda a, draw: [a["segmentation"][0][:4]],
    lambda a, draw: [a["segmentation"][0][:4], a["segmentation"][0]],
    lambda a, draw: [a["segmentation"][0][:5]],
    lambda a, draw: [a["segmentation"][0][:6]],
    lambda a, draw: a["segmentation"][0],
    lambda a, draw: [[v * draw.choice((1, 1.5, 3, 1e9, 1e300, -1)) for v in a["segmentation"][0]]],
    lambda a, draw: [[v / WIDTH for v in a["segmentation"][0]]],
    lambda a, draw: [a["segmentation"][0][::-1]],
    lambda a, draw: [[draw.uniform(-70, 130) for _ in range(2 * draw.randrange(3, 9))]],
    lambda a, draw: [[draw.choice(VALUES) for _ in range(8)]],
    lambda a, draw: a["segmentation"] * 3,
)
PICTURES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    lambda data, draw: data[: -draw.randrange(1, 40)],
    lambda data, draw: data[: draw.randrange(len(data))],
    lambda data, draw: data + b"\0" * draw.randrange(9),
    lambda data, draw: bytes(draw.randrange(256) if draw.random() < 0.01 else byte for byte in data),
    lambda data, draw: _saved(data, draw.choice(("PNG", "BMP", "WEBP", "TIFF", "TGA", "PCX", "GIF", "PPM"))),
    lambda data, draw: _saved(data, "PNG", draw.choice(("L", "P", "1", "RGBA", "I;16", "LA"))),
    lambda data, draw: _saved(data, "PNG")[: -draw.randrange(1, 20)],
    lambda data, draw: _saved(data, "JPEG", draw.choice(("L", "CMYK"))),
    lambda data, draw: _saved(data, "JPEG", turned=draw.randrange(1, 9)),
    lambda data, draw: _saved(data, "TIFF", turned=draw.randrange(1, 9)),
)


def _saved(data: bytes, kind: str, mode: str = "RGB", turned: int | None = None) -> bytes:
    out = io.BytesIO()
    picture = Image.open(io.BytesIO(data))
    more = {}
    if turned is not None:
        exif = Image.Exif()
        exif[0x0112] = turned
        more["exif"] = exif
    picture.convert(mode if mode != "I;16" else "L").convert(mode).save(out, kind, **more)
    return out.getvalue()


TEXTS: tuple[Callable[[str, random.Random], bytes], ...] = (
    lambda text, draw: text.encode("utf-8-sig"),
    lambda text, draw: text.encode(draw.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32"))),
    lambda text, draw: text.encode() + draw.choice((b"\n\n", b" ", b"\0", b"}", b"\xff")),
    lambda text, draw: text.replace("person", "pers\xf6n").encode("latin-1"),
    lambda text, draw: text.encode()[: draw.randrange(len(text))],
    lambda text, draw: b"[" * 200_000,
    lambda text, draw: b"",
    lambda text, draw: json.dumps(draw.choice(VALUES)).encode(),
    lambda text, draw: text.replace(":", ": ", 1).replace("60", "1" + "0" * draw.choice((20, 400, 5000)), 1).encode(),
)


def _mutate_entry(content: Content, draw: random.Random) -> None:
    entry = draw.choice(content[draw.choice(("annotations", "annotations", "images", "categories"))] or [{}])
    field = draw.choice(sorted(entry) or ["id"])
    if draw.random() < 0.3:
        entry.pop(field, None)
    else:
        entry[field] = draw.choice(VALUES)


def _mutate_all(content: Content, draw: random.Random) -> None:
    """What a converter does to every annotation alike."""
    change = draw.choice(
        (
            lambda a: a.pop("area", None),
            lambda a: a.pop("iscrowd", None),
            lambda a: a.update(iscrowd=1),
            lambda a: a.update(iscrowd=False, ignore=0),
            lambda a: a.update(ignore=1),
            lambda a: a.update(id=float(a["id"]), image_id=float(a["image_id"])),
            lambda a: a.update(id=a["id"] - content["annotations"][0]["id"]),
            lambda a: a.update(segmentation=runs(a, text=True)),
            lambda a: a.update(area=a["area"] * 2),
            lambda a: a.update(bbox=BOXES[number](*a["bbox"])),
        )
    )
    number = draw.randrange(4)
    for annotation in content["annotations"]:
        change(annotation)


def _write_otherwise(content: Content, draw: random.Random) -> None:
    """What means the same, or as much."""
    content[draw.choice(("info", "licenses", "x"))] = draw.choice(VALUES)
    draw.choice(content["images"])[draw.choice(("license", "coco_url", "date_captured"))] = draw.choice(VALUES)
    draw.choice(content["categories"])["supercategory"] = draw.choice(VALUES)
    for annotation in content["annotations"]:
        change = draw.randrange(12)
        if change < 3:
            annotation["segmentation"] = runs(annotation, text=change > 0)
        elif change == 3:
            annotation["iscrowd"] = draw.choice((True, 1, 1.0, False, None))
        elif change == 4:
            annotation["area"] = draw.choice((None, annotation["area"] * 0.7))
        elif change == 5:
            annotation["segmentation"].append(
                draw.choice(([], [1, 2], [1, 2, 3, 4], annotation["segmentation"][0][2:]))
            )
        elif change == 6:
            annotation["ignore"] = draw.choice((1, 0, None))
        elif change == 7:
            annotation["segmentation"][0][draw.randrange(8)] += draw.choice((-9, -0.5, 3, 30))


def _mutate_lists(content: Content, draw: random.Random) -> None:
    key = draw.choice(("annotations", "images", "categories"))
    entries = content[key]
    action = draw.randrange(5)
    if action == 0:
        content[key] = draw.choice(([], None, {}, "x", entries[:1]))
    elif action == 1:
        entries.append(dict(draw.choice(entries)))
    elif action == 2:
        entries.pop(draw.randrange(len(entries)))
    elif action == 3:
        draw.shuffle(entries)
    else:
        entries.insert(0, draw.choice(VALUES))


def _mutate_file_names(content: Content, draw: random.Random) -> None:
    names = ("", ".", "..", "../train2017/000001.jpg", "/etc/passwd", "a\0.jpg", "\ud800.jpg", "x" * 300, "000001.jpg")
    draw.choice(content["images"])["file_name"] = draw.choice(names)


def mutated_root(good: Path, root: Path, seed: int) -> Path:
    """`good` with one to three random changes."""
    draw = random.Random(seed)
    shutil.copytree(good, root)
    for _ in range(draw.choice((1, 1, 2, 3))):
        split = draw.choice(list(SPLITS))
        path = annotation_file(root, split)
        kind = draw.randrange(15)
        if kind == 0:
            picture = draw.choice(sorted(p for p in image_folder(root, split).iterdir() if p.is_file()))
            picture.write_bytes(draw.choice(PICTURES)(picture.read_bytes(), draw))
        elif kind == 1:
            _replace_file(draw.choice([path, *image_folder(root, split).iterdir()]), draw)
        elif not path.is_file() or not path.stat().st_size < 10**5:
            continue
        elif kind == 2:
            path.write_bytes(draw.choice(TEXTS)(path.read_text(errors="replace"), draw))
        else:
            _mutate_content(path, kind, draw)
    return root


def _mutate_content(path: Path, kind: int, draw: random.Random) -> None:
    try:
        content = json.loads(path.read_bytes())
        annotation = draw.choice(content["annotations"])
        if kind in (3, 4):
            annotation["segmentation"] = draw.choice(MASKS)(annotation, draw)
        elif kind == 5:
            annotation["bbox"] = draw.choice(BOXES)(*annotation["bbox"])
        elif kind == 6:
            _mutate_lists(content, draw)
        elif kind == 7:
            _mutate_file_names(content, draw)
        elif kind in (8, 9):
            _mutate_all(content, draw)
        elif kind == 10:
            _mutate_entry(content, draw)
        else:
            _write_otherwise(content, draw)
        path.write_text(json.dumps(content))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return  # an earlier change has left nothing that this one fits


def _replace_file(path: Path, draw: random.Random) -> None:
    path.unlink(missing_ok=True)
    kind = draw.randrange(4)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.symlink_to("/dev/zero")
    elif kind == 2:
        path.mkdir()
