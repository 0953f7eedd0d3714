"""VOC 2012 with the list train_aug, made of a root that has VOC alone."""

from pathlib import Path

VOC = "VOCdevkit/VOC2012"


def with_train_aug(root: Path, target: Path) -> Path:
    """A data root `target` with the images of `root`; every second training image has its mask as one of SBD's."""
    source, folder = (place.absolute() / VOC for place in (root, target))
    lists = folder / "ImageSets" / "Segmentation"
    for path in (lists, folder / "SegmentationClass", folder / "SegmentationClassAug"):
        path.mkdir(parents=True)
    (folder / "JPEGImages").symlink_to(source / "JPEGImages")
    train, val = ((source / f"ImageSets/Segmentation/{name}.txt").read_text().split() for name in ("train", "val"))
    own, more = train[::2], train[1::2]
    for names, kind in ((own + val, "SegmentationClass"), (more, "SegmentationClassAug")):
        for name in names:
            (folder / kind / f"{name}.png").symlink_to(source / f"SegmentationClass/{name}.png")
    for split, names in (("train", own), ("trainaug", more + own), ("val", val)):
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return target
