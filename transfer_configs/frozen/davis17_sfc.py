"""DAVIS 2017 video object segmentation by frozen features, SFC's settings; J&F of 30 videos with several objects each.

Purpose: Are the cells of a frozen backbone precise enough to find an object again in the next frames?
Cost: nothing is trained. Beside the backbone a frame of 480 x 854 takes 0.34 GFLOP for each channel of a cell, computed
from the sizes: hours for all videos on a CPU core.
Memory: 22 frames of cells (6,420 cells x channels x 4 bytes each), twice.
Metric: mean (%) of J, region similarity, and F, contour accuracy, over the objects of the videos of val, without the
first frame, which is given, and the last. The errors are for the draw of the videos.
Settings with which SFC (ECCV 2022, arXiv 2207.10456) evaluates the fusion of its features with those of MoCo v1:
`densebench fuse` computes it. A single backbone can be evaluated, too.
Published J&F: 71.3, fusion of SFC's fine-grained network (ResNet-18) and MoCo v1 (ResNet-50; code's README).
Differs: of a single backbone no value is published.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_davis17_sfc",
    version=1,
    title="DAVIS 2017 video object segmentation, SFC's settings",
    short_title="DAVIS 17 SFC",
    track="frozen",
    task="video object segmentation",
    dataset="davis2017",
    headline="J&F",
    plan=probes.propagation(rules="crw", neighbors=15, context=20, radius=15, temperature=0.1),
)
