"""ImageNet classification, linear probe with SimCLR's list of 1 % of the labels; top-1.

Purpose: How many labels does the backbone save? With the list that papers use.
Cost: the features of 12,811 and 50,000 images; the rest costs less than `frozen_in1k_linear`.
Memory: that of `frozen_in1k_linear`.
Metric: top-1 (%) of the val images; also top-5, and the mean over classes.
Data: ImageNet, with the list of `densebench data prepare ROOT imagenet-subsets`.
As `frozen_in1k_linear`. Papers fine-tune all layers, as `paper_in1pct_finetune_swav` does: values are not comparable.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_in1pct_linear",
    version=1,
    title="ImageNet classification, linear probe, list of SimCLR with 1 % of the labels",
    short_title="IN linear, SimCLR 1 %",
    track="frozen",
    task="image classification",
    dataset="imagenet-1percent",
    headline="top-1",
    plan=probes.image_linear(),
)
