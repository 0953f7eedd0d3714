"""ImageNet classification, nearest neighbors of the frozen backbone's vectors; top-1.

Purpose: Are images of one class near each other, without any training?
Cost: the features of all images: two hours on a GPU for ImageNet. Voting takes minutes on a GPU.
Memory: 65,536 images x channels x 4 bytes (530 MB with ResNet-50), about three times,
and for ImageNet 4 GB for the scores of held-out and of val images.
Metric: top-1 (%) of the val images; also top-1 with 10, 20, 100 and 200 neighbors, top-5, and the mean over classes.
Data: any folder tree `imagenet/{train,val}/CLASS/IMAGE`, with ImageNet's classes or others.
Cosine similarity, temperature .07 (Wu et al., CVPR 2018), mean of the last map's cells. The number of neighbors is
chosen on held-out training images; papers report the best on val, which the values for each number show.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_in1k_knn",
    version=1,
    title="ImageNet classification, nearest neighbors of frozen vectors",
    short_title="IN kNN",
    track="frozen",
    task="image classification",
    dataset="imagenet",
    headline="top-1",
    plan=probes.image_knn(),
)
