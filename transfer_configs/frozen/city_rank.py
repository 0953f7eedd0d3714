"""Cityscapes images without labels, effective rank of the frozen backbone's cells (RankMe), in per cent of the largest.

Purpose: Has the backbone collapsed onto few directions? No label is used.
Cost: seconds beyond the features, which are those of `frozen_city_seg_linear`; ResNet-50: half a minute.
Memory: a matrix of channels^2 x 8 bytes (5 MB with ResNet-18, 75 MB with ResNet-50), four times.
Metric: RankMe (%) of the val images' cells: 100 is a flat spectrum. Also for each of the two maps, shallow (C4) and
deep (C5), and for the images' mean cells.
RankMe (Garrido et al., ICML 2023) is exp of the entropy of the singular values. It compares similar methods; a higher
value is not better in general, and there is no standard error.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_city_rank",
    version=1,
    title="Cityscapes images, effective rank of cells (RankMe)",
    short_title="City RankMe",
    track="frozen",
    task="representation",
    dataset="cityscapes",
    headline="RankMe",
    plan=probes.rank(size=(192, 384)),
)
