"""VIP parts of people followed by frozen features, CRW's settings; mIoU of 20 classes.

Purpose: Are the cells of a frozen backbone precise enough to find parts of a body again in the next frames?
Cost: nothing is trained. Beside the backbone a frame takes 0.08 GFLOP for each channel of a cell, computed from the
sizes.
Memory: 6 frames of cells (4,900 cells x channels x 4 bytes each), twice.
Metric: mIoU (%) over all frames of the videos of val, the first of each among them.
Settings that an issue of CRW's code gives (NeurIPS 2020, arXiv 2006.14613); papers differ in them, so that published
values are not comparable with each other. Published: CRW 38.6; with its published weights 37.1.
Differs: masks are scaled by nearest neighbor; CRW's code blends their numbers (a wrong argument).
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_vip_crw",
    version=1,
    title="VIP propagation of parts, CRW's settings",
    short_title="VIP CRW",
    track="frozen",
    task="video propagation",
    dataset="vip",
    headline="mIoU",
    plan=probes.propagation(rules="crw", neighbors=10, context=4, radius=12, temperature=0.05, side=560),
)
