"""DAVIS 2016 and 2017 (Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv 1704.00675), at 480p.

Address, length and sha256: TensorFlow Datasets (`video/davis/checksums.tsv`). One archive holds both years: the lists
in `ImageSets/2016` and `ImageSets/2017`, and masks with one label per object, of which 2016 takes all together for one
(the authors' toolbox davis-2017 does so). Numbers: the papers and the lists.
"""

from __future__ import annotations

from typing import Final

from bench.datasets.standard.table import Archive, Part, Side, Standard

_ZIP: Final = "DAVIS-2017-trainval-480p.zip"
_ARCHIVE: Final = Archive(
    _ZIP,
    "",
    f"https://data.vision.ee.ethz.ch/csergi/share/davis/{_ZIP}",
    832_766_765,
    "sha256:e3d0b5b77c3d031b000a19e0e25e3e2cac65d183755601bc2cf066df1a2aa492",
)


def _of_year(year: str, counts: tuple[tuple[Side, int, int], ...]) -> Standard:
    parts = []
    for split, videos, frames in counts:
        names = f"DAVIS/ImageSets/{year}/{split}.txt"
        parts += [
            Part(f"list {split} of {year}", names, videos, "list", split, archive=_ZIP),
            Part(f"frames of {split}", "DAVIS/JPEGImages/480p/{}/*.jpg", frames, "images", split, names, _ZIP),
            Part(f"masks of {split}", "DAVIS/Annotations/480p/{}/*.png", frames, "masks", split, names, _ZIP),
        ]
    return Standard(
        name=f"davis{year}",
        title=f"DAVIS {year} (video object segmentation)",
        archives=(_ARCHIVE,),
        parts=tuple(parts),
        terms="https://davischallenge.org/",
    )


DAVIS2016: Final = _of_year("2016", (("train", 30, 2_079), ("val", 20, 1_376)))
DAVIS2017: Final = _of_year("2017", (("train", 60, 4_209), ("val", 30, 1_999)))
