"""COCO-Stuff-27 unsupervised segmentation, 27 clusters of the frozen backbone's cells; mIoU of 27 classes.

Purpose: Do the cells fall into the classes by themselves, without a label? The task of PiCIE and DenseSiam.
Cost: features of 7,175 images, a quarter of an hour on a GPU; clustering, ten seconds on one CPU core.
Memory: 20,000 training cells x channels x 12 bytes. Disk: 18 GB for ResNet-50, 4 GB for ResNet-18.
Metric: mIoU (%) from the confusion matrix of the whole val set, 255 ignored, mean of 5 runs.
Central squares at 320 pixels; k-means of the first 50 principal components of standardized cells of 5,000 training
images. Each cluster gets another class, so that most pixels of val are right, as in the papers: an upper bound. Papers
train a network for the task and score labels at 320 x 320; here the backbone is frozen and labels have their own size.
DenseSiam (arXiv 2203.11075) reports 16.4, PiCIE in its hands 14.4.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_stuff27_clusters",
    version=1,
    title="COCO-Stuff-27 unsupervised segmentation, one cluster per class",
    short_title="Stuff-27 27 clusters",
    track="frozen",
    task="semantic segmentation",
    dataset="cocostuff27",
    headline="mIoU",
    plan=probes.clusters(size=(320, 320), classes=27, clusters=27, naming="pixels", images=5000),
)
