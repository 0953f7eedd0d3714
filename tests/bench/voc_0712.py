"""VOC 2007 beside VOC 2012, made of a root that has VOC 2012 alone."""

from pathlib import Path

KINDS = {"Annotations": ".xml", "JPEGImages": ".jpg"}


def with_voc2007(root: Path, target: Path) -> Path:
    """A data root `target` with VOC of `root`: every second training image is one of 2007, and val is its test."""
    lists = root / "VOCdevkit/VOC2012/ImageSets/Main"
    train, val = ((lists / f"{name}.txt").read_text().split() for name in ("train", "val"))
    for year, parts in {2012: {"trainval": train[::2]}, 2007: {"trainval": train[1::2], "test": val}}.items():
        folder = target / f"VOCdevkit/VOC{year}"
        for kind in (*KINDS, "ImageSets/Main"):
            (folder / kind).mkdir(parents=True)
        for part, names in parts.items():
            # the years differ in how they name images
            ids = {name: name if year == 2012 else name.partition("_")[2] for name in names}
            (folder / f"ImageSets/Main/{part}.txt").write_text("".join(f"{one}\n" for one in ids.values()))
            for old, new in ids.items():
                for kind, suffix in KINDS.items():
                    source = root.absolute() / "VOCdevkit/VOC2012" / kind / f"{old}{suffix}"
                    (folder / kind / f"{new}{suffix}").symlink_to(source)
    return target
