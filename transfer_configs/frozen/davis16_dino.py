"""DAVIS 2016 video object segmentation by frozen features, DINO's settings; J&F of 20 videos with one object each.

Purpose: Are the cells of a frozen backbone precise enough to find an object again in the next frames?
Cost: nothing is trained. Beside the backbone a frame of 480 x 854 takes 0.08 GFLOP for each channel of a cell, computed
from the sizes: hours for all videos on a CPU core.
Memory: 9 frames of cells (6,240 cells x channels x 4 bytes each), twice.
Metric: mean (%) of J, region similarity, and F, contour accuracy, over the objects of the videos of val, without the
first frame, which is given, and the last. The errors are for the draw of the videos.
Settings of DINO (ICCV 2021, arXiv 2104.14294) for ViTs; a ResNet is read as by `frozen_davis16_crw`.
Published values are those of DAVIS 2017 (`frozen_davis17_dino`).
Differs: pixels are normalized as the card says, in DINO's code with a standard deviation of .228 for red (elsewhere
.229); the code also takes all cells that are exactly as similar as the fifth.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_davis16_dino",
    version=1,
    title="DAVIS 2016 video object segmentation, DINO's settings",
    short_title="DAVIS 16 DINO",
    track="frozen",
    task="video object segmentation",
    dataset="davis2016",
    headline="J&F",
    plan=probes.propagation(rules="dino", neighbors=5, context=7, radius=12, temperature=0.1),
)
