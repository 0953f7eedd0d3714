"""VOC 2012 image classification, linear support vector machines on the frozen backbone; mAP of 20 classes.

Purpose: Can a linear classifier tell which objects an image shows? For data roots without VOC 2007.
Cost: half a minute on one CPU core for 420 and 220 images, where liblinear needs all iterations for the highest costs.
Memory: training images x 4 x channels x 8 bytes, about three times.
Metric: mAP (%), the area under the envelope of precision, images count unless all objects of a class are difficult; as
`mAP 11-point` also by VOC 2007's own rule.
As `frozen_voc07_svm`, trained on train and evaluated on val. Classes with fewer than three training images, or without
a val image, are left out of the mean, which happens in parts of VOC only.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_voc12_svm",
    version=1,
    title="PASCAL VOC 2012 image classification, linear support vector machines",
    short_title="VOC12 SVM",
    track="frozen",
    task="image classification",
    dataset="voc2012_det",
    headline="mAP",
    plan=probes.svm(),
)
