"""ADE20K semantic segmentation, nearest neighbors of frozen cells; mIoU of 150 classes.

Purpose: Are the cells of one class near each other?
Cost: the features are those of `frozen_ade_seg_linear`; neighbors take minutes on a GPU, an hour on one CPU core.
Memory: that of `frozen_ade_seg_linear`, and 2,048 x 20,000 similarities x 4 bytes (160 MB).
Metric: mIoU (%) from the confusion matrix of the whole val set at the images' own size; what none of the 150 classes
covers is ignored.
As `frozen_voc_seg_knn`, with images of 224 x 288 pixels and cells of 5,000 training images, those whose names have
the smallest SHA-256. CAPI's probe uses all images at 224 x 224 and scores low-resolution labels.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_ade_seg_knn",
    version=1,
    title="ADE20K semantic segmentation, nearest neighbors of frozen cells",
    short_title="ADE20K seg kNN",
    track="frozen",
    task="semantic segmentation",
    dataset="ade20k",
    headline="mIoU",
    plan=probes.knn(size=(224, 288), classes=150, images=5000),
)
