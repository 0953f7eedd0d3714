"""Cityscapes semantic segmentation, linear probe of the frozen backbone; mIoU of 19 classes.

Purpose: Can a linear classifier separate the classes by the features of the unchanged backbone?
Cost: about a minute on one CPU core with ResNet-18, two minutes with ResNet-50, for 120 and 50 images.
Memory: 20,000 training cells x channels x 4 bytes (60 MB with ResNet-18, 250 MB with ResNet-50), twice.
Metric: mIoU (%) from the confusion matrix of the whole val set at the images' own size, 255 ignored.
Multinomial logistic regression with a squared penalty on standardized cells: at most 60 iterations of L-BFGS from
weights of zero, which may end before the minimum where the penalty is small. There is no step size, and nothing is
random but the choice of the held-out images.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_city_seg_linear",
    version=1,
    title="Cityscapes semantic segmentation, linear probe of the frozen backbone",
    short_title="City seg linear",
    track="frozen",
    task="semantic segmentation",
    dataset="cityscapes",
    headline="mIoU",
    plan=probes.linear(size=(192, 384), classes=19),
)
