"""VOC 2007 image classification from 1 to 96 images of each class, costs chosen as published; mAP of 20 classes.

Purpose: The published value of low-shot classification, of ORL and others.
Cost: features are those of `frozen_voc07_svm`; 15,200 trainings of a machine, many hours on one CPU core.
Memory: that of `frozen_voc07_svm`, and 20 classes x 4,952 images x 95 x 8 bytes.
Metric: mAP (%), the area under the envelope of precision, mean over 1, 2, 4, 8, 16, 32, 64 and 96 images; also each.
After Goyal et al. (ICCV 2019): 19 images without the class for each with it, five draws. As in their code, one cost for
each number of images is the best on test, so that values are too high: see `frozen_voc07_low_shot`.
The draws are our own: images by the SHA-256 of their names.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_voc07_low_shot_published",
    version=1,
    title="PASCAL VOC 2007 low-shot image classification, costs as published",
    short_title="VOC07 low-shot as published",
    track="frozen",
    task="image classification",
    dataset="voc2007",
    headline="mAP",
    plan=probes.low_shot(published=True),
)
