"""CUB-200 unsupervised object segmentation, five clusters of each image's frozen cells; foreground IoU.

Purpose: Does a bird stand apart from its surroundings within one image, without labels or training?
Cost: features of 5,794 images, minutes on a GPU; clustering, a minute on one CPU core.
Memory: the cells of one image.
Metric: IoU (%) of foreground, mean over the images of test; an image without either counts 0. Clusters that are rarer
along the border than elsewhere are taken as the bird; also the cluster of the center, and the best one (an oracle).
R2O's protocol (arXiv 2208.11821, 71.6 with five clusters), whose rule for the foreground is not published: each rule is
named. Central squares, masks at full size (Melas-Kyriazi et al., ICLR 2022), mask above half is foreground. Images are
CUB's own test; papers take 1,000 images of another split, which is no part of the data set.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_cub_foreground",
    version=1,
    title="CUB-200 unsupervised object segmentation",
    short_title="CUB foreground",
    track="frozen",
    task="semantic segmentation",
    dataset="cub200",
    headline="IoU",
    plan=probes.foreground(size=(224, 224)),
)
