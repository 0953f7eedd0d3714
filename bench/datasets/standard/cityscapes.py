"""Cityscapes (Cordts et al., CVPR 2016): fine annotations, with labelIds turned into trainIds.

Numbers of images and the two tables of ids: the package cityscapesscripts (`helpers/labels.py`). Its downloads need an
account, so no address, length or hash is given here.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.datasets.cityscapes import LABEL
from bench.datasets.cityscapes_instances import LABEL as INSTANCES
from bench.datasets.names import CITYSCAPES_CLASSES, VOID
from bench.datasets.standard.convert import map_labels
from bench.datasets.standard.table import Archive, Conversion, Part, Progress, Standard
from bench.datasets.standard.unpack import write_whole
from bench.errors import BenchError

LABEL_IDS: Final = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The labelId of each trainId."""
_IDS: Final = "_gtFine_labelIds.png"
_COUNTS: Final = (("train", 2_975), ("val", 500))
_PHOTOS: Final = "leftImg8bit_trainvaltest.zip"
_LABELS: Final = "gtFine_trainvaltest.zip"


def train_id_table() -> npt.NDArray[np.uint8]:
    """The trainId of each labelId, uint8 (256,); 255 for those that are not evaluated."""
    assert len(LABEL_IDS) == len(CITYSCAPES_CLASSES)
    table = np.full(256, VOID, np.uint8)
    table[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))
    return table


def _convert(root: Path, progress: Progress) -> None:
    """Write the mask of trainIds beside each mask of labelIds."""
    table = train_id_table()
    files = [file for part in _label_ids() for file in part.files(root)]
    if not files:
        raise BenchError(f"{root / 'cityscapes/gtFine'} holds no mask *{_IDS}")
    for number, file in enumerate(files):
        made = file.with_name(file.name.removesuffix(_IDS) + LABEL)
        if not made.is_file() or not made.stat().st_size:
            write_whole(made, map_labels(file, table))
        progress(number + 1, len(files))


def _masks(what: str, ending: str, archive: str) -> tuple[Part, ...]:
    return tuple(
        Part(
            f"{what} of {split}",
            f"cityscapes/gtFine/{split}/*/*{ending}",
            count,
            "masks" if ending == LABEL else "files",
            archive=archive,
        )
        for split, count in _COUNTS
    )


def _label_ids() -> tuple[Part, ...]:
    return _masks("labelIds", _IDS, _LABELS)


CITYSCAPES: Final = Standard(
    name="cityscapes",
    title="Cityscapes (segmentation and instances)",
    archives=(
        Archive(_PHOTOS, "cityscapes", members="leftImg8bit/*"),
        Archive(_LABELS, "cityscapes", members="gtFine/*"),
    ),
    parts=(
        *(
            Part(
                f"images of {split}",
                f"cityscapes/leftImg8bit/{split}/*/*_leftImg8bit.*g",  # .png; of smaller copies .jpg
                count,
                "images",
                archive=_PHOTOS,
            )
            for split, count in _COUNTS
        ),
        *_label_ids(),
        *_masks("instanceIds", INSTANCES, _LABELS),
    ),
    conversions=(Conversion("labelIds to trainIds", partial(_convert), _masks("trainIds", LABEL, "")),),
    terms="https://www.cityscapes-dataset.com/license/",
    register="https://www.cityscapes-dataset.com/register/",
)
