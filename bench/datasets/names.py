"""Class names and ids of the three benchmarks, in the order that their authors fixed."""

from functools import cache
from typing import Final

VOID: Final = 255
"""The mask value that every metric ignores, in VOC and in Cityscapes."""

VOC_CLASSES: Final = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""PASCAL VOC's 20 classes. In a mask the label of `VOC_CLASSES[i]` is i + 1; 0 is background."""

CITYSCAPES_CLASSES: Final = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
"""Cityscapes' 19 evaluated classes; the index is the trainId."""

CITYSCAPES_THINGS: Final[dict[int, str]] = {
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
"""Cityscapes' 8 classes whose instances are evaluated, by labelId, in the order of the classes of detectors."""

CITYSCAPES_VOID: Final = (-1, 0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
"""The labelIds that the evaluation of Cityscapes leaves out."""

_COCO_GROUPS: Final = (
    ("person", "1 person"),
    ("vehicle", "2 bicycle, 3 car, 4 motorcycle, 5 airplane, 6 bus, 7 train, 8 truck, 9 boat"),
    ("outdoor", "10 traffic light, 11 fire hydrant, 13 stop sign, 14 parking meter, 15 bench"),
    ("animal", "16 bird, 17 cat, 18 dog, 19 horse, 20 sheep, 21 cow, 22 elephant, 23 bear, 24 zebra, 25 giraffe"),
    ("accessory", "27 backpack, 28 umbrella, 31 handbag, 32 tie, 33 suitcase"),
    (
        "sports",
        "34 frisbee, 35 skis, 36 snowboard, 37 sports ball, 38 kite, 39 baseball bat, 40 baseball glove, "
        "41 skateboard, 42 surfboard, 43 tennis racket",
    ),
    ("kitchen", "44 bottle, 46 wine glass, 47 cup, 48 fork, 49 knife, 50 spoon, 51 bowl"),
    (
        "food",
        "52 banana, 53 apple, 54 sandwich, 55 orange, 56 broccoli, 57 carrot, 58 hot dog, 59 pizza, 60 donut, 61 cake",
    ),
    ("furniture", "62 chair, 63 couch, 64 potted plant, 65 bed, 67 dining table, 70 toilet"),
    ("electronic", "72 tv, 73 laptop, 74 mouse, 75 remote, 76 keyboard, 77 cell phone"),
    ("appliance", "78 microwave, 79 oven, 80 toaster, 81 sink, 82 refrigerator"),
    ("indoor", "84 book, 85 clock, 86 vase, 87 scissors, 88 teddy bear, 89 hair drier, 90 toothbrush"),
)

COCO_CATEGORIES: Final[dict[int, tuple[str, str]]] = {
    int(number): (name, group)
    for group, members in _COCO_GROUPS
    for number, _, name in (member.partition(" ") for member in members.split(", "))
}
"""COCO's 80 categories: id -> (name, supercategory). Ids run to 90, with gaps."""


@cache
def voc_palette() -> bytes:
    """The 256 RGB colors of VOC's mask files: the bits of a label are spread over the channels, high bits first."""
    colours = bytearray()
    for label in range(256):
        for channel in range(3):
            colours.append(sum(((label >> (3 * level + channel)) & 1) << (7 - level) for level in range(3)))
    return bytes(colours)
