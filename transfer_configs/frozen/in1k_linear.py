"""ImageNet classification, linear probe of the frozen backbone's vectors; top-1.

Purpose: Can a linear classifier separate the classes of images?
Cost: the features are those of `frozen_in1k_knn`; the classifier, a quarter of an hour on a GPU for ImageNet.
Memory: 65,536 images x channels x 4 bytes (530 MB with ResNet-50), about three times,
and for ImageNet 4 GB for the scores of held-out and of val images.
Metric: top-1 (%) of the val images; also top-5, and the mean over classes.
Data: any folder tree `imagenet/{train,val}/CLASS/IMAGE`, with ImageNet's classes or others.
Multinomial logistic regression on standardized vectors of central crops: at most 60 iterations of L-BFGS from weights
of zero, which may end before the minimum where the penalty is small. Published recipes (MoCo, SwAV, BYOL) train by SGD
on random crops, each with its own learning rate: values are not comparable with theirs.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_in1k_linear",
    version=1,
    title="ImageNet classification, linear probe of frozen vectors",
    short_title="IN linear",
    track="frozen",
    task="image classification",
    dataset="imagenet",
    headline="top-1",
    plan=probes.image_linear(),
)
