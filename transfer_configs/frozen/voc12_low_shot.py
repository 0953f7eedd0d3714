"""VOC 2012 image classification from 1 to 16 images of each class; mAP of 20 classes.

Purpose: How many images of a class does a classifier need?
Cost: 1,600 trainings of a machine for 20 classes, minutes on one CPU core beyond the features of `frozen_voc12_svm`.
Memory: that of `frozen_voc12_svm`, and classes x val images x 20 x 8 bytes.
Metric: mAP (%), the area under the envelope of precision, mean over 1, 2, 4, 8 and 16 images; also each.
As `frozen_voc07_low_shot`, with fewer images and four costs, for data roots without VOC 2007. Classes with one training
image, or without a val image, are left out.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_voc12_low_shot",
    version=1,
    title="PASCAL VOC 2012 low-shot image classification",
    short_title="VOC12 low-shot",
    track="frozen",
    task="image classification",
    dataset="voc2012_det",
    headline="mAP",
    plan=probes.low_shot(published=False, shots=(1, 2, 4, 8, 16), costs=(0.01, 0.1, 1.0, 10.0)),
)
