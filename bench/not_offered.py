"""Protocols of the literature that are not offered, each with the reason, so that nobody looks for them in vain."""

from __future__ import annotations

from typing import Final

NOT_OFFERED: Final[dict[str, str]] = {
    "COCO SOLOv2 (DenseCL)": (
        "published values are those of AdelaiDet, whose head and losses differ from mmdet's and are not written here"
    ),
    "COCO DETR (SwAV)": "of its settings only the learning rate of the backbone is confirmed",
    "COCO Keypoint R-CNN (MoCo, DetCo, RegionCL)": (
        "RegionCL's files have the settings, but mmdet has no keypoint head, and keypoints are not read or scored here"
    ),
    "COCO DensePose (MoCo)": "this stack has no implementation, and its annotations are not read",
    "LVIS v0.5 (MoCo) and LVIS of 90,000 iterations with pretrained heads (SoCo)": (
        "v0.5 has other classes and images, and no head of a detector is loaded; paper_lvis_mrcnn_fpn_2x is VirTex's, "
        "of LVIS v1"
    ),
    "COCO from 10 % of the labels as in DenseCL and SoCo": (
        "iterations and learning rates are in no code; paper_coco_frcnn_fpn_p10 has lists and a schedule of its own"
    ),
    "Cityscapes as in the multi-crop study (Van Gansbeke et al.)": (
        "Adam with a rate for each epoch, and small images scaled up to the crop, are not built in; its VOC protocol is"
    ),
    "VOC and Cityscapes UperNet, DeepLabV3+ (RegionCL, CoinCheung)": "their heads are not built in",
    "ImageNet fine-tuned with 1 or 10 % of the labels as in SimCLR and BYOL": (
        "their augmentation and settings, chosen for each share, are in no code that was read; "
        "paper_in1pct_finetune_swav and those beside it have SwAV's and OpenSelfSup's"
    ),
    "VOC mask AP50 (MaskDistill, single and multi)": (
        "its code evaluates a list of images that is not in its repository (by a comment 2,913, the union of train and "
        "val), against objects with or without classes, it does not say which; the settings of its Mask R-CNN are not "
        "published; mini_coco_maskdistill has both values on COCO, mini_voc_maskdistill_mrcnn has the mIoU on VOC"
    ),
    "SoCo and InsLoc with their pretrained detectors": (
        "no neck and no head of a detector is loaded; track heads loads the segmentation head of CP2"
    ),
}
"""Reasons, by the protocol and who uses it."""
