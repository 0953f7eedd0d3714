"""Cityscapes semantic segmentation, nearest cells of the frozen backbone; mIoU of 19 classes.

Purpose: Do cells with similar features belong to the same class, without any training?
Cost: about a minute on one CPU core with ResNet-18, two minutes with ResNet-50, for 120 and 50 images.
Memory: 20,000 training cells x channels x 4 bytes (60 MB with ResNet-18, 250 MB with ResNet-50), twice.
Metric: mIoU (%) from the confusion matrix of the whole val set at the images' own size, 255 ignored.
Cosine similarity of standardized cells; each of the nearest k votes with weight exp(similarity / .07) (Wu et al., CVPR
2018).
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_city_seg_knn",
    version=1,
    title="Cityscapes semantic segmentation, nearest cells of the frozen backbone",
    short_title="City seg kNN",
    track="frozen",
    task="semantic segmentation",
    dataset="cityscapes",
    headline="mIoU",
    plan=probes.knn(size=(192, 384), classes=19),
)
