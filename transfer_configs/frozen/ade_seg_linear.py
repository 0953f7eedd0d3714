"""ADE20K semantic segmentation, linear probe of the frozen backbone; mIoU of 150 classes.

Purpose: Can a linear classifier separate the classes by the features of the unchanged backbone?
Cost: features of 7,000 images, a quarter of an hour on a GPU; the classifier, ten minutes on one CPU core.
Memory: 20,000 training cells x channels x 4 bytes, twice; 2,000 confusion matrices, 360 MB. Disk: 11 GB for ResNet-50.
Metric: mIoU (%) from the confusion matrix of the whole val set at the images' own size; what none of the 150 classes
covers is ignored.
As `frozen_voc_seg_linear`, with images of 224 x 288 pixels and cells of 5,000 training images, those whose names have
the smallest SHA-256. CAPI's probe uses all images at 224 x 224 and scores low-resolution labels.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_ade_seg_linear",
    version=1,
    title="ADE20K semantic segmentation, linear probe of the frozen backbone",
    short_title="ADE20K seg linear",
    track="frozen",
    task="semantic segmentation",
    dataset="ade20k",
    headline="mIoU",
    plan=probes.linear(size=(224, 288), classes=150, images=5000),
)
