"""Damaged, unusual and hostile VOC and Cityscapes roots, drawn from a seed."""

import io
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

Change = Callable[[Random, Path], object]
VOC = "VOCdevkit/VOC2012"
PHOTOS = {"voc2012_det": f"{VOC}/JPEGImages/*.*", "voc2012_seg": f"{VOC}/JPEGImages/*.*"}
PHOTOS["cityscapes"] = "cityscapes/leftImg8bit/*/*/*"
MASKS = {"voc2012_seg": f"{VOC}/SegmentationClass/*", "cityscapes": "cityscapes/gtFine/*/*/*_labelTrainIds.png"}
LISTS = {"voc2012_det": f"{VOC}/ImageSets/Main/*.txt", "voc2012_seg": f"{VOC}/ImageSets/Segmentation/*.txt"}
XML = f"{VOC}/Annotations/*.xml"


def mutate(draw: Random, root: Path, dataset: str) -> list[str]:
    """Change a root in one to three ways; returns their names."""
    changes: dict[str, tuple[str, Change]] = {}
    for kind, patterns, table in (("photo", PHOTOS, _PHOTO), ("mask", MASKS, _MASK), ("list", LISTS, _LIST)):
        if dataset in patterns:
            changes |= {f"{kind}: {name}": (patterns[dataset], change) for name, change in table.items()}
    if dataset == "voc2012_det":
        changes |= {f"xml: {name}": (XML, change) for name, change in _XML.items()}
    if dataset == "cityscapes":
        changes |= {f"folder: {name}": ("cityscapes/*/*/*", change) for name, change in _FOLDER.items()}
    done = []
    for name in draw.sample(sorted(changes), draw.choice([1, 1, 2, 3])):
        pattern, change = changes[name]
        files = sorted(root.glob(pattern))
        # one file, some of them, or all
        for path in draw.sample(files, draw.choice([min(1, len(files)), len(files) // 2, len(files)])):
            if path.is_file() or (path.is_dir() and name.startswith("folder")):  # no pipe, no device
                change(draw, path)
        done.append(name)
    return done


def _bytes(change: Callable[[Random, bytes], bytes]) -> Change:
    return lambda draw, path: path.write_bytes(change(draw, path.read_bytes())) if path.is_file() else None


def _text(change: Callable[[Random, str], str]) -> Change:
    def apply(draw: Random, data: bytes) -> bytes:
        return change(draw, data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    return _bytes(apply)


def _flip(draw: Random, data: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(draw.choice([1, 3, 30])):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _cut(draw: Random, data: bytes) -> bytes:
    return data[: len(data) - draw.choice([1, 2, 4, 8, 12, 13, 20, len(data) // 2, len(data)])]


def _picture(change: Callable[[Random, Image.Image], Image.Image], **options: object) -> Change:
    """Save a changed picture under the same name, in the format of the options or its own."""

    def apply(draw: Random, path: Path) -> None:
        try:
            with Image.open(path) as picture:
                kind = picture.format or "PNG"
                changed = change(draw, picture.copy())
        except Exception:
            return  # another change has damaged it
        buffer = io.BytesIO()
        if options.get("format", kind) == "JPEG" and changed.mode not in ("L", "RGB", "CMYK"):
            changed = changed.convert("RGB")
        try:
            changed.save(buffer, **{"format": kind, **options})
        except OSError:  # a mode that the format has not
            return
        path.write_bytes(buffer.getvalue())

    return apply


def _tagged(draw: Random, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = draw.randrange(0, 10)
    _picture(lambda _, picture: picture, exif=exif)(draw, path)


def _shape(draw: Random, picture: Image.Image) -> Image.Image:
    return picture.resize(draw.choice([(1, 1), (1, 90), (300, 1), (5, 1500), (64, 48), picture.size[::-1]]), 0)


def _pixels(change: Callable[[Random, np.ndarray], object]) -> Change:
    def apply(draw: Random, picture: Image.Image) -> Image.Image:
        labels = np.array(picture.convert("L") if picture.mode not in ("L", "P") else picture)
        change(draw, labels)
        return Image.fromarray(labels)

    return _picture(apply)


def _fill(draw: Random, labels: np.ndarray) -> None:
    height, width = labels.shape
    labels[draw.randrange(height) :, draw.randrange(width) :] = draw.choice([0, 1, 18, 19, 20, 21, 33, 100, 255])


def _void(_: Random, labels: np.ndarray) -> None:
    labels[:] = 255


def _shift(_: Random, labels: np.ndarray) -> None:
    labels[labels != 255] += 1


def _as_link(draw: Random, path: Path) -> None:
    hidden = path.with_name(f".{path.name}.moved")
    path.rename(hidden)
    path.symlink_to(draw.choice([hidden, hidden.name, path.name, "/dev/zero", "nowhere"]))


def _as_pipe(_: Random, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _as_folder(_: Random, path: Path) -> None:
    path.unlink()
    path.mkdir()


def _renamed(draw: Random, path: Path) -> None:
    path.rename(path.with_suffix(draw.choice([".jpeg", ".JPG", ".png", ".PNG", ".tif", ".x\udcff"])))


def _littered(_: Random, path: Path) -> None:
    path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")


def _copied(draw: Random, path: Path) -> None:
    path.with_suffix(draw.choice([".png", ".jpg", ".JPEG"])).write_bytes(path.read_bytes())


def _lines(change: Callable[[Random, list[str]], list[str]]) -> Change:
    return _text(lambda draw, text: "\n".join(change(draw, text.splitlines())) + "\n")


_FILE: dict[str, Change] = {
    "bytes flipped": _bytes(_flip),
    "cut": _bytes(_cut),
    "empty": _bytes(lambda *_: b""),
    "zeros": _bytes(lambda *_: bytes(1000)),
    "bytes behind it": _bytes(lambda _, data: data + b"more"),
    "missing": lambda _, path: path.unlink(),
    "a link": _as_link,
    "a pipe": _as_pipe,
    "a folder": _as_folder,
    "macOS's litter": _littered,
}
_FORMATS = ("TGA", "PCX", "GIF", "EPS", "TIFF", "WEBP", "BMP", "PPM", "PNG", "JPEG", "JPEG2000", "ICO")


def _in_mode(mode: str, **options: object) -> Change:
    return _picture(lambda _, picture: picture.convert(mode), **options)


_PHOTO = _FILE | {
    **{f"as {kind}": _in_mode("RGB", format=kind) for kind in _FORMATS},
    **{f"mode {mode}": _in_mode(mode, format="PNG") for mode in ("1", "L", "P", "RGBA", "LA", "I;16")},
    **{f"TIFF of mode {mode}": _in_mode(mode, format="TIFF") for mode in ("1", "L", "P", "RGBA", "I", "F", "CMYK")},
    "CMYK": _in_mode("CMYK", format="JPEG"),
    "LZW TIFF": _picture(lambda _, picture: picture, format="TIFF", compression="tiff_lzw"),
    "progressive": _picture(lambda _, picture: picture.convert("RGB"), format="JPEG", progressive=True),
    "EXIF orientation": _tagged,
    "another shape": _picture(_shape),
    "another name": _renamed,
    "twice": _copied,
}
_MASK = _FILE | {
    **{f"mode {mode}": _in_mode(mode) for mode in ("1", "L", "RGB", "RGBA", "LA", "I;16")},
    "as TIFF": _picture(lambda _, picture: picture, format="TIFF"),
    "EXIF orientation": _tagged,
    "transparent": _picture(lambda _, picture: picture, transparency=0),
    "another shape": _picture(_shape),
    "some label": _pixels(_fill),
    "void": _pixels(_void),
    "from 1": _pixels(_shift),
}
_WIDE = ["utf-16", "utf-16-le", "utf-32"]
_ODD = ["..", "\x1b[2J", "x" * 5000, "a\0b", "\udcff", "#"]
_LIST = _FILE | {
    "CRLF": _text(lambda _, text: text.replace("\n", "\r\n")),
    "CR": _text(lambda _, text: text.replace("\n", "\r")),
    "blank lines": _text(lambda _, text: text.replace("\n", "\n\n \n")),
    "blanks": _text(lambda draw, text: text.replace("\n", draw.choice(["  \n", "\t\n", "\u00a0\n", "\n  "]))),
    "byte order mark": _bytes(lambda _, data: b"\xef\xbb\xbf" + data),
    "UTF-16": _bytes(lambda draw, data: data.decode("latin-1").encode(draw.choice(_WIDE))),
    "labels": _lines(lambda draw, lines: [f"{line} {draw.choice([-1, 0, 1])}" for line in lines]),
    "suffixes": _lines(lambda _, lines: [f"{line}.jpg" for line in lines]),
    "pairs": _lines(lambda _, lines: [f"JPEGImages/{line}.jpg SegmentationClass/{line}.png" for line in lines]),
    "repeated line": _lines(lambda _, lines: lines + lines[:1]),
    "fewer lines": _lines(lambda draw, lines: draw.sample(lines, draw.randrange(len(lines) + 1))),
    "odd ids": _lines(lambda draw, lines: [*lines, draw.choice(_ODD)]),
}
_NUMBERS = ["", "x", "nan", "inf", "-3", "0", "1e3", "1_0", "9" * 400, "1.7000007", "\uff13", " 5 ", "7.5"]
_FLAGS = ["0", "1", "2", "", " ", "true", "False", "Unspecified", "x"]
_ENCODINGS = ["klingon", "utf-7", "shift_jis", "latin-1", "utf-16", "idna"]


def _tag(draw: Random, names: str, text: str, values: list[str] | None = None) -> str:
    """One tag of `names`, once or everywhere, with one of `values`; without values it is taken out."""
    name = draw.choice(names.split())
    new = f"<{name}>{draw.choice(values)}</{name}>" if values else ""
    return re.sub(f"<{name}>.*?</{name}>", new, text, count=draw.choice([0, 1]), flags=re.DOTALL)


def _utf16(_: Random, data: bytes) -> bytes:
    return ('<?xml version="1.0" encoding="UTF-16"?>' + data.decode("utf-8", "replace")).encode("utf-16")


def _declared(draw: Random, data: bytes) -> bytes:
    return f'<?xml version="1.0" encoding="{draw.choice(_ENCODINGS)}"?>'.encode() + data


def _entities(_: Random, data: bytes) -> bytes:
    head = b'<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z SYSTEM "/etc/passwd">]>'
    return head + data.replace(b"<name>", b"<name>&z;")


def _doubled(_: Random, text: str) -> str:
    return re.sub(r"(<object>.*?</object>)", r"\1\1", text, count=1, flags=re.DOTALL)


_XML = _FILE | {
    "difficult": _text(lambda draw, text: _tag(draw, "difficult", text, _FLAGS)),
    "a number": _text(lambda draw, text: _tag(draw, "xmin ymin xmax ymax width height", text, _NUMBERS)),
    "another class": _text(lambda draw, text: _tag(draw, "name", text, ["dog", " cat ", "DOG", "lake", ""])),
    "an element less": _text(lambda draw, text: _tag(draw, "name bndbox xmin difficult size object", text)),
    "an object twice": _text(_doubled),
    "UTF-16": _bytes(_utf16),
    "declared encoding": _bytes(_declared),
    "entities": _bytes(_entities),
    "deep": _bytes(lambda _, data: b"<a>" * 5000 + data + b"</a>" * 5000),
}


def _deeper(_: Random, path: Path) -> None:
    (path / "more").mkdir(exist_ok=True)
    for inner in list(path.glob("*.*")):
        shutil.copy(inner, path / "more") if inner.is_file() else None


def _higher(_: Random, path: Path) -> None:
    for inner in list(path.glob("*.*")):
        shutil.copy(inner, path.parent) if inner.is_file() else None


def _linked(draw: Random, path: Path) -> None:
    moved = path.parents[2] / f"moved {path.parents[1].name} {path.name}"
    if not path.is_symlink():
        path.rename(moved)
        path.symlink_to(draw.choice([moved, moved, ".", "nowhere"]))


_FOLDER: dict[str, Change] = {
    "one deeper": _deeper,
    "one higher": _higher,
    "linked": _linked,
    "gone": lambda _, path: shutil.rmtree(path) if not path.is_symlink() else None,
    "hidden": lambda _, path: path.rename(path.with_name(f".{path.name}")),
    "not UTF-8": lambda _, path: path.rename(path.with_name("arden\udcff")) if path.name == "arden" else None,
    "a file": lambda _, path: (path.parent / "readme_leftImg8bit.png").write_bytes(b"x"),
}
