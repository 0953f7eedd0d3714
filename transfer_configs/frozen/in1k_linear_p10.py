"""ImageNet classification, linear probe with 10 % of the labels; top-1.

Purpose: How many labels does the backbone save? With 1, 10 and all labels the values form a curve.
Cost: the features are those of `frozen_in1k_knn`; the rest costs less than `frozen_in1k_linear`.
Memory: that of `frozen_in1k_linear`.
Metric: top-1 (%) of the val images; also top-5, and the mean over classes.
Data: any folder tree `imagenet/{train,val}/CLASS/IMAGE`, with ImageNet's classes or others.
The labels are those of the 10 % of each class's training images (at least two) whose names have the smallest SHA-256;
`labelled.txt` lists them. Papers fine-tune all layers on SimCLR's list, as `paper_in10pct_finetune_swav` does.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_in1k_linear_p10",
    version=1,
    title="ImageNet classification, linear probe with 10 % of the labels",
    short_title="IN linear 10 %",
    track="frozen",
    task="image classification",
    dataset="imagenet",
    headline="top-1",
    plan=probes.image_linear(labels=0.1),
)
