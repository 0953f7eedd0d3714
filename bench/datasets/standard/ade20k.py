"""ADE20K as the scene parsing benchmark of MIT uses it: 150 classes (Zhou et al., CVPR 2017).

Address, length and sha256: TensorFlow Datasets (`url_checksums/ade20k.txt`). Layout, numbers and labels: the
benchmark's development kit (sceneparsing): label 0 is what none of the 150 classes covers and is not evaluated.
"""

from __future__ import annotations

from typing import Final

from bench.datasets.standard.table import Archive, Part, Side, Standard

_ZIP: Final = "ADEChallengeData2016.zip"
_COUNTS: Final[tuple[tuple[Side, str, int], ...]] = (("train", "training", 20_210), ("val", "validation", 2_000))

ADE20K: Final = Standard(
    name="ade20k",
    title="ADE20K, 150 classes (segmentation)",
    archives=(
        Archive(
            _ZIP,
            "",
            f"http://data.csail.mit.edu/places/ADEchallenge/{_ZIP}",
            967_382_037,
            "sha256:7ff1be44964418441f542a7cc1e1a650e7dc0fc275f5d23252bc9bbdbc977b29",
        ),
    ),
    parts=tuple(
        part
        for split, folder, count in _COUNTS
        for part in (
            Part(
                f"images of {split}",
                f"ADEChallengeData2016/images/{folder}/*.jpg",
                count,
                "images",
                split,
                archive=_ZIP,
            ),
            Part(
                f"masks of {split}",
                f"ADEChallengeData2016/annotations/{folder}/*.png",
                count,
                "masks",
                split,
                archive=_ZIP,
            ),
        )
    ),
    terms="http://sceneparsing.csail.mit.edu/",
    labels={0: "not evaluated", **{label: f"class {label}" for label in range(1, 151)}},
)
