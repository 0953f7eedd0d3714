"""JHMDB (Jhuang et al., ICCV 2013): frames of 928 clips with 15 joints, for the propagation of keypoints.

Numbers: the paper and its web page (31,838 frames of 21 actions). Layout: the README files beside the archives, and the
evaluation of videowalk (Jabri et al., NeurIPS 2020). No license that allows an unattended download was found, so the
files are got by hand. `bench.datasets.jhmdb` reads joints and splits as the files hold them: nothing is converted.
"""

from __future__ import annotations

from typing import Final

from bench.datasets.standard.table import Archive, Part, Standard

_IMAGES: Final = "Rename_Images.tar.gz"
_POSITIONS: Final = "joint_positions.zip"
_LISTS: Final = "splits.zip"

JHMDB: Final = Standard(
    name="jhmdb",
    title="JHMDB, split 1 (keypoints in video)",
    archives=(
        Archive(_IMAGES, "JHMDB", members="Rename_Images/*"),
        Archive(_POSITIONS, "JHMDB", members="joint_positions/*"),
        Archive(_LISTS, "JHMDB", members="splits/*"),
    ),
    parts=(
        Part("frames", "JHMDB/Rename_Images/*/*/*.png", 31_838, archive=_IMAGES),
        Part("joints", "JHMDB/joint_positions/*/*/joint_positions.mat", 928, archive=_POSITIONS),
        Part("lists of split 1", "JHMDB/splits/*_test_split1.txt", 21, archive=_LISTS),
    ),
    terms="http://jhmdb.is.tue.mpg.de/",
    by_hand="http://jhmdb.is.tue.mpg.de/ (Rename_Images.tar.gz, joint_positions.zip, splits.zip)",
)
