"""VOC unsupervised object segmentation, five clusters of each image's frozen cells; foreground IoU.

Purpose: Do the cells of an object stand apart from its surroundings within one image, without labels or training?
Cost: seconds beyond the features, which are those of `frozen_voc_seg_linear`.
Memory: the cells of one image.
Metric: IoU (%) of foreground (any of the 20 classes), mean over the val images, 255 ignored. Clusters that are rarer
along the border than elsewhere are taken as the object; also the cluster of the center, and the best one (an oracle).
Like R2O's protocol on CUB-200 (arXiv 2208.11821), but on VOC and with documented rules: R2O's rule is not published.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_voc_foreground",
    version=1,
    title="PASCAL VOC unsupervised object segmentation",
    short_title="VOC foreground",
    track="frozen",
    task="semantic segmentation",
    dataset="voc2012_seg",
    headline="IoU",
    plan=probes.foreground(size=(224, 224)),
)
