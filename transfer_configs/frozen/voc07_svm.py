"""VOC 2007 image classification, linear support vector machines on the frozen backbone; mAP of 20 classes.

Purpose: Can a linear classifier tell which objects an image shows? The value that R2O, ORL and many others publish.
Cost: features of 9,963 images (a quarter of an hour on one CPU core with ResNet-18, an hour with ResNet-50), and 1,160
trainings of a machine, hours on one CPU core with the 8,192 numbers per image of a ResNet-50.
Memory: 5,011 images x 4 x channels x 8 bytes, about three times (1 GB with ResNet-50).
Metric: mAP (%), the area under the envelope of precision, images count unless all objects of a class are difficult; as
`mAP 11-point` also by VOC 2007's own rule.
After Goyal et al. (ICCV 2019) and OpenSelfSup: shorter side 256, then 224 x 224; four overlapping windows of the last
map; LinearSVC of scikit-learn, 19 costs, each class's chosen by three folds of trainval. Papers report the best of
several layers, chosen on test: here it is always the last map.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_voc07_svm",
    version=1,
    title="PASCAL VOC 2007 image classification, linear support vector machines",
    short_title="VOC07 SVM",
    track="frozen",
    task="image classification",
    dataset="voc2007",
    headline="mAP",
    plan=probes.svm(),
)
