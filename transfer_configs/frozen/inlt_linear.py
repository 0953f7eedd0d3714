"""ImageNet-LT classification, linear probe of the frozen backbone's vectors; class accuracy.

Purpose: Do the features serve classes with few images, too? With the list that papers use.
Cost: the features of 115,846 and 50,000 images; the rest costs less than `frozen_in1k_linear`.
Memory: that of `frozen_in1k_linear`.
Metric: mean accuracy over classes (%) of the test images; also top-1, and the mean over classes with more than 100
(many), 20 to 100 (medium) and fewer than 20 (few) training images, as Liu et al. (CVPR 2019) report.
Data: ImageNet, with the lists of `densebench data prepare ROOT imagenet-lt`.
As `frozen_in1k_linear`. Papers train all layers, so that values are not comparable with theirs.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_inlt_linear",
    version=1,
    title="ImageNet-LT classification, linear probe of frozen vectors",
    short_title="IN-LT linear",
    track="frozen",
    task="image classification",
    dataset="imagenet-lt",
    headline="class accuracy",
    plan=probes.image_linear(),
)
