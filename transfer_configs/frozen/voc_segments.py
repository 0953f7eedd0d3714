"""VOC semantic segment retrieval, the object of each image by the frozen backbone's cells; mIoU of 21 classes.

Purpose: Does the object of an image look like objects of its class in other images, without any training?
Cost: seconds beyond the features, which are those of `frozen_voc_seg_linear`.
Memory: training images x channels x 4 bytes, twice.
Metric: mIoU (%) from the confusion matrix of the whole val set at the images' own size, 255 ignored.
After MaskContrast (Van Gansbeke et al., ICCV 2021), whose saliency network finds the objects; here they are the
clusters of `frozen_voc_foreground` that are rarer along the border, so values also tell how well these find objects.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_voc_segments",
    version=1,
    title="PASCAL VOC semantic segment retrieval",
    short_title="VOC segment retrieval",
    track="frozen",
    task="semantic segmentation",
    dataset="voc2012_seg",
    headline="mIoU",
    plan=probes.segments(size=(224, 224), classes=21),
)
