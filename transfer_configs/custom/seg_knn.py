"""Semantic segmentation of own data, nearest cells of the frozen backbone; mIoU.

Purpose: Do cells with similar features belong to the same class, without any training?
Cost: as of frozen_voc_seg_knn: with ResNet-18 about .2 s per image on one CPU core.
Memory: 20,000 training cells x channels x 4 bytes (60 MB with ResNet-18, 250 MB with ResNet-50), twice.
Metric: mIoU (%) from the confusion matrix of all validation images at the images' own size. Pixels of values that the
description ignores do not count. With masks of objects, everything outside them is one more class, background.
Everything but the classes is that of frozen_voc_seg_knn.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="custom_seg_knn",
    version=1,
    title="Semantic segmentation of own data, nearest cells of the frozen backbone",
    short_title="seg kNN",
    track="custom",
    task="semantic segmentation",
    dataset="custom_seg",
    headline="mIoU",
    plan=probes.knn(size=(224, 224), classes="data:labels"),
)
