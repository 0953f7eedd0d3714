"""Commands that generate a data root and check one."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.progress import Progress

from bench.cli.common import AsJson, data_app, print_json
from leaderboard.base.terminal import Console


@data_app.command
def generate(root: Path, *, seed: int = 0, paper: bool = False) -> None:
    """Generate VOC-, COCO- and Cityscapes-format data and unlabelled images, the same bytes for the same seed.

    Other versions of OpenCV draw slightly different pixels, so that the data have another fingerprint.

    Example: densebench data generate demo-data

    Parameters
    ----------
    root
        The data root to create.
    paper
        Also what track paper needs beside: VOC 2007, masks like SBD's.
    """
    from bench.datasets import generate as generate_data

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("images")
        show = functools.partial(bar.update, task)
        generate_data(root, seed=seed, paper=paper, progress=lambda done, total: show(completed=done, total=total))
    print(f"generated: {root}\nnext: densebench data check {root}")


@data_app.command(name="check")
def check_data(
    root: Path,
    *,
    datasets: Annotated[list[str] | None, Parameter(name="--dataset")] = None,
    as_json: AsJson = False,
) -> int:
    """Check a data root: counts, label ids, sizes, boxes, missing files; prints each data set's fingerprint.

    Below the data root:

    * voc2012_det: `VOCdevkit/VOC2012` with `JPEGImages/*.jpg`, `Annotations/*.xml` and
      `ImageSets/Main/{train,val}.txt`

    * voc2012_seg: `VOCdevkit/VOC2012` with `JPEGImages/*.jpg`, `SegmentationClass/*.png` and
      `ImageSets/Segmentation/{train,val}.txt`

    * coco2017: `coco` with `train2017/*.jpg`, `val2017/*.jpg` and `annotations/instances_{train,val}2017.json`

    * cityscapes: `cityscapes` with `leftImg8bit/{train,val}/CITY/*_leftImg8bit.png` (or .jpg) and
      `gtFine/{train,val}/CITY/*_gtFine_labelTrainIds.png`

    What track paper, videos and discovered objects need beyond, checked where its folder is there:

    * voc0712_det: as voc2012_det, with `VOCdevkit/VOC2007` and `VOCdevkit/VOC2012` and their
      `ImageSets/Main/trainval.txt`; evaluated is `ImageSets/Main/test.txt` of VOC2007

    * voc2012aug_seg: as voc2012_seg, with `SegmentationClassAug/*.png` (SBD's masks, which `densebench data
      prepare` makes) and `ImageSets/Segmentation/{train,trainaug,val}.txt`

    * cityscapes_inst: as cityscapes, with `gtFine/{train,val}/CITY/*_gtFine_instanceIds.png`

    * ade20k: `ADEChallengeData2016` with `images/{training,validation}/*.jpg` and
      `annotations/{training,validation}/*.png`

    * lvis: `lvis/lvis_v1_{train,val}.json`, and `coco` with `train2017/*.jpg` and `val2017/*.jpg`

    * davis2016, davis2017: `DAVIS` with `JPEGImages/480p/VIDEO/*.jpg` and `Annotations/480p/VIDEO/*.png`;
      `ImageSets/YEAR/val.txt` lists the videos of val

    * vip: `VIP` with `VIP_Fine/Images/VIDEO/*.jpg` and `VIP_Fine/Annotations/Category_ids/VIDEO/*.png`;
      `VIP_Fine/lists/val_videos.txt` lists the videos of val

    * jhmdb: `JHMDB` with `Rename_Images/CLASS/CLIP/*.png`, `joint_positions/CLASS/CLIP/joint_positions.mat` and
      `splits/CLASS_test_split1.txt`

    * voc2012_maskdistill, coco2017_maskdistill: `maskdistill/voc2012.npy` and `maskdistill/coco2017.npy`, the tables of
      maskdistill's stage labels, beside the images of voc2012_seg and of coco2017

    What else `densebench data prepare` sets up is checked where it is named, such as `--dataset cub200`.

    Data of your own are checked by their description, which `densebench data describe` writes.

    Example: densebench data check data/ --dataset voc2012_seg

    Parameters
    ----------
    root
        Data root with VOCdevkit/, coco/ and cityscapes/; or data of your own: the folder with the description, or the
        description.
    datasets
        Check only this data set; may be repeated.
    """
    from bench.datasets import check, expected_in, is_data_root
    from bench.datasets.own.check import check_own
    from bench.datasets.own.description import DESCRIPTION, is_own
    from bench.errors import BenchError

    if is_own(root) and not datasets:
        reports = [check_own(root)]
    elif not (datasets or is_data_root(root)):
        if not os.path.isdir(root):  # noqa: PTH112  # unlike Path's, it raises nothing where permission is denied
            raise BenchError(f"there is no folder {root}")
        raise BenchError(
            f"{root} has no {DESCRIPTION}, and no data set that is checked without --dataset: for data of your own run "
            f"`densebench data describe {root}`, for standard ones `densebench data prepare {root}`"
        )
    else:
        reports = [check(root, dataset) for dataset in datasets or expected_in(root)]
    if as_json:
        print_json([report.to_dict() for report in reports])
    else:
        console = Console()
        for report in reports:
            report.print(console)
    return int(any(report.errors for report in reports))
