"""VOC semantic segmentation, linear probe with 5 % of the labels; mIoU of 21 classes.

Purpose: How many labels does the backbone save? With 1, 5, 10, 25 and all labels the values form a curve.
Cost: the features of all training images are those of `frozen_voc_seg_linear`; the rest costs less than there.
Memory: that of `frozen_voc_seg_linear`, less where fewer than 20,000 cells are labeled.
Metric: mIoU (%) from the confusion matrix of the whole val set at the images' own size, 255 ignored.
The labels are those of the 5 % of the training images (at least two) whose names have the smallest SHA-256:
nothing is random, and a larger share contains every smaller one. `labelled.txt` lists them; the result holds its hash.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_voc_seg_linear_p5",
    version=1,
    title="PASCAL VOC semantic segmentation, linear probe with 5 % of the labels",
    short_title="VOC seg linear 5 %",
    track="frozen",
    task="semantic segmentation",
    dataset="voc2012_seg",
    headline="mIoU",
    plan=probes.linear(size=(224, 224), classes=21, labels=0.05),
)
