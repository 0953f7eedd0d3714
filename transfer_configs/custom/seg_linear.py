"""Semantic segmentation of own data, linear probe of the frozen backbone; mIoU.

Purpose: Can a linear classifier separate the classes by the features of the unchanged backbone?
Cost: as of frozen_voc_seg_linear: with ResNet-18 about .15 s per image on one CPU core, and some seconds for the rest.
Memory: 20,000 training cells x channels x 4 bytes (60 MB with ResNet-18, 250 MB with ResNet-50), twice.
Metric: mIoU (%) from the confusion matrix of all validation images at the images' own size. Pixels of values that the
description ignores do not count. With masks of objects, everything outside them is one more class, background.
Everything but the classes is that of frozen_voc_seg_linear.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="custom_seg_linear",
    version=1,
    title="Semantic segmentation of own data, linear probe of the frozen backbone",
    short_title="seg linear",
    track="custom",
    task="semantic segmentation",
    dataset="custom_seg",
    headline="mIoU",
    plan=probes.linear(size=(224, 224), classes="data:labels"),
)
