"""DAVIS 2017 video object segmentation by frozen features, CRW's settings; J&F of 30 videos with several objects each.

Purpose: Are the cells of a frozen backbone precise enough to find an object again in the next frames?
Cost: nothing is trained. Beside the backbone a frame of 480 x 854 takes 0.27 GFLOP for each channel of a cell, computed
from the sizes: hours for all videos on a CPU core.
Memory: 22 frames of cells (6,420 cells x channels x 4 bytes each), twice.
Metric: mean (%) of J, region similarity, and F, contour accuracy, over the objects of the videos of val, without the
first frame, which is given, and the last. The errors are for the draw of the videos.
Settings of CRW (NeurIPS 2020, arXiv 2006.14613), by which SFC evaluates its baselines (ECCV 2022) and by which the
study of multi-crop evaluates its own (NeurIPS 2021, arXiv 2106.05967).
Published J&F: CRW (ResNet-18) 67.6; SFC's fine-grained network 68.0; with a ResNet-50 supervised 67.3, MoCo v1 66.8,
SimSiam 66.7, PixPro 58.9 (SFC's README); pretrained on COCO for 800 epochs MoCo v2 63.2, multi-crop 66.2.
Differs: CRW's network pads by reflection; other backbones pad with zeros, as they were trained.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_davis17_crw",
    version=1,
    title="DAVIS 2017 video object segmentation, CRW's settings",
    short_title="DAVIS 17 CRW",
    track="frozen",
    task="video object segmentation",
    dataset="davis2017",
    headline="J&F",
    plan=probes.propagation(rules="crw", neighbors=10, context=20, radius=12, temperature=0.05),
)
