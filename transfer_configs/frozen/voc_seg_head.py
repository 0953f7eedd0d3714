"""VOC semantic segmentation, light convolutional head on the frozen backbone; mIoU of 21 classes.

Purpose: What do the frozen features give to a head that sees neighboring cells, where a linear probe sees one cell?
Cost: three trainings of 300 iterations: two minutes on one CPU core with ResNet-18, four with ResNet-50, whatever the
size of the data set, beyond the features, which are those of `frozen_voc_seg_linear`.
Memory: cells of 16 images and the head's activations, below 200 MB.
Metric: mIoU (%) from the confusion matrix of the whole val set at the images' own size, 255 ignored.
Batch normalization, 1 x 1 and 3 x 3 convolutions of 128 channels, 1 x 1 classifier; AdamW with a half cosine, one of
two learning rates, chosen on held-out training images.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_voc_seg_head",
    version=1,
    title="PASCAL VOC semantic segmentation, convolutional head on the frozen backbone",
    short_title="VOC seg conv head",
    track="frozen",
    task="semantic segmentation",
    dataset="voc2012_seg",
    headline="mIoU",
    plan=probes.head(size=(224, 224), classes=21),
)
