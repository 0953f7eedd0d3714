"""VOC unsupervised segmentation, 21 clusters of the frozen backbone's cells; mIoU of 21 classes.

Purpose: Do the cells fall into the classes by themselves, without a label?
Cost: about ten seconds on one CPU core beyond the features, which are those of `frozen_voc_seg_linear`.
Memory: 20,000 training cells x channels x 12 bytes; covariance of channels^2 x 12 bytes.
Metric: mIoU (%) from the confusion matrix of the whole val set at the images' own size, 255 ignored, mean of 5 runs.
k-means of the first 50 principal components of standardized training cells. Each cluster gets another class,
so that the validation set's mIoU is the highest (Hungarian algorithm on the matrix of IoU), so values are upper bounds.
After the protocols of PiCIE and Leopart, which differ in input, mask resolution and matching criterion.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_voc_seg_clusters",
    version=1,
    title="PASCAL VOC unsupervised segmentation, one cluster per class",
    short_title="VOC seg 21 clusters",
    track="frozen",
    task="semantic segmentation",
    dataset="voc2012_seg",
    headline="mIoU",
    plan=probes.clusters(size=(224, 224), classes=21, clusters=21, naming="hungarian"),
)
