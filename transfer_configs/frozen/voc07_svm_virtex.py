"""VOC 2007 image classification, support vector machines as in VirTex and CYBORGS; mAP of 20 classes.

Purpose: Can a linear classifier tell which objects an image shows? For comparison with CYBORGS and VirTex.
Cost: features of 9,963 images, which take as long as those of `frozen_voc07_svm`, and 260 trainings of a machine.
Memory: 5,011 images x channels x 8 bytes, about three times.
Metric: mAP (%), scikit-learn's average precision without an envelope; as `mAP 11-point` also by VOC 2007's own rule.
Shorter side 256, central 224 x 224, mean of the last map's cells, costs .01, .1, 1 and 10, each class's chosen by three
folds of trainval. Values are not comparable with those of `frozen_voc07_svm`.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_voc07_svm_virtex",
    version=1,
    title="PASCAL VOC 2007 image classification, support vector machines as in VirTex",
    short_title="VOC07 SVM as in VirTex",
    track="frozen",
    task="image classification",
    dataset="voc2007",
    headline="mAP",
    plan=probes.svm_virtex(),
)
