"""DAVIS 2016 video object segmentation by frozen features, CRW's settings; J&F of 20 videos with one object each.

Purpose: Are the cells of a frozen backbone precise enough to find an object again in the next frames?
Cost: nothing is trained. Beside the backbone a frame of 480 x 854 takes 0.27 GFLOP for each channel of a cell, computed
from the sizes: hours for all videos on a CPU core.
Memory: 22 frames of cells (6,420 cells x channels x 4 bytes each), twice.
Metric: mean (%) of J, region similarity, and F, contour accuracy, over the objects of the videos of val, without the
first frame, which is given, and the last. The errors are for the draw of the videos.
Settings of CRW (NeurIPS 2020, arXiv 2006.14613), by which SFC evaluates its baselines (ECCV 2022) and by which the
study of multi-crop evaluates its own (NeurIPS 2021, arXiv 2106.05967).
Published values are those of DAVIS 2017 (`frozen_davis17_crw`).
Differs: CRW's network pads by reflection; other backbones pad with zeros, as they were trained.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_davis16_crw",
    version=1,
    title="DAVIS 2016 video object segmentation, CRW's settings",
    short_title="DAVIS 16 CRW",
    track="frozen",
    task="video object segmentation",
    dataset="davis2016",
    headline="J&F",
    plan=probes.propagation(rules="crw", neighbors=10, context=20, radius=12, temperature=0.05),
)
