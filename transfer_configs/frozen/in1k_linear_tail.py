"""ImageNet classification, linear probe with a long tail of rare classes; class accuracy.

Purpose: Do the features serve classes with few images, too?
Cost: the features are those of `frozen_in1k_knn`; the rest costs less than `frozen_in1k_linear`.
Memory: that of `frozen_in1k_linear`.
Metric: mean accuracy over classes (%) of the val images; also top-1, and the mean over classes with more than 100
(many), 20 to 100 (medium) and fewer than 20 (few) training images, as Liu et al. (CVPR 2019) report.
Data: any folder tree `imagenet/{train,val}/CLASS/IMAGE`, with ImageNet's classes or others.
Each class keeps a share of its training images, at least two, that falls geometrically from 1 to .01 in the order of
the SHA-256 of the classes' names (as Cui et al., CVPR 2019); `labelled.txt` lists them. See also `frozen_inlt_linear`.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_in1k_linear_tail",
    version=1,
    title="ImageNet classification, linear probe with a long tail of classes",
    short_title="IN linear long tail",
    track="frozen",
    task="image classification",
    dataset="imagenet",
    headline="class accuracy",
    plan=probes.image_linear(tail=100.0),
)
