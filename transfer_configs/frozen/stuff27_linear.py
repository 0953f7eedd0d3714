"""COCO-Stuff-27 semantic segmentation, linear probe of the frozen backbone; mIoU of 27 classes.

Purpose: Can a linear classifier separate things and stuff by the features of the unchanged backbone?
Cost: the features are those of `frozen_stuff27_clusters`; the classifier, minutes on one CPU core.
Memory: 20,000 training cells x channels x 4 bytes (250 MB with ResNet-50), twice.
Metric: mIoU (%) from the confusion matrix of the whole val set, 255 ignored.
Central squares at 320 pixels, cells of 5,000 training images; otherwise as `frozen_voc_seg_linear`.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_stuff27_linear",
    version=1,
    title="COCO-Stuff-27 semantic segmentation, linear probe of the frozen backbone",
    short_title="Stuff-27 linear",
    track="frozen",
    task="semantic segmentation",
    dataset="cocostuff27",
    headline="mIoU",
    plan=probes.linear(size=(320, 320), classes=27, images=5000),
)
