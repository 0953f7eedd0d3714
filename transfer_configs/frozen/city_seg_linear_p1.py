"""Cityscapes semantic segmentation, linear probe with 1 % of the labels; mIoU of 19 classes.

Purpose: How many labels does the backbone save? With 1, 5, 10, 25 and all labels the values form a curve.
Cost: the features of all training images are those of `frozen_city_seg_linear`; the rest costs less than there.
Memory: that of `frozen_city_seg_linear`, less where fewer than 20,000 cells are labeled.
Metric: mIoU (%) from the confusion matrix of the whole val set at the images' own size, 255 ignored.
The labels are those of the 1 % of the training images (at least two) whose names have the smallest SHA-256:
nothing is random, and a larger share contains every smaller one. `labelled.txt` lists them; the result holds its hash.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_city_seg_linear_p1",
    version=1,
    title="Cityscapes semantic segmentation, linear probe with 1 % of the labels",
    short_title="City seg linear 1 %",
    track="frozen",
    task="semantic segmentation",
    dataset="cityscapes",
    headline="mIoU",
    plan=probes.linear(size=(192, 384), classes=19, labels=0.01),
)
