"""VOC unsupervised segmentation, 500 clusters of the frozen backbone's cells; mIoU of 21 classes.

Purpose: Do small groups of similar cells belong to one class, where a class is too varied for one cluster?
Cost: about a minute on one CPU core beyond the features, which are those of `frozen_voc_seg_linear`.
Memory: 20,000 training cells x (channels x 12 + 500 x 4) bytes; covariance of channels^2 x 12 bytes.
Metric: mIoU (%) from the confusion matrix of the whole val set at the images' own size, 255 ignored, mean of 5 runs.
k-means of the first 50 principal components of standardized training cells. Each cluster gets the class that
most of its pixels in the validation set have, so values are upper bounds. After Leopart (Ziegler and Asano, CVPR 2022),
which clusters validation cells and scores masks of 100 x 100.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_voc_seg_clusters500",
    version=1,
    title="PASCAL VOC unsupervised segmentation, 500 clusters",
    short_title="VOC seg 500 clusters",
    track="frozen",
    task="semantic segmentation",
    dataset="voc2012_seg",
    headline="mIoU",
    plan=probes.clusters(size=(224, 224), classes=21, clusters=500, naming="majority"),
)
