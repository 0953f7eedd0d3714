"""JHMDB joints of people followed by frozen features, CRW's settings; PCK of 15 joints.

Purpose: Are the cells of a frozen backbone precise enough to find a joint again in the next frames?
Cost: nothing is trained. Beside the backbone a frame takes 0.02 GFLOP for each channel of a cell, computed from the
sizes.
Memory: 9 frames of cells (1,600 cells x channels x 4 bytes each), twice.
Metric: PCK@0.1 and PCK@0.2 (%) over the test clips of split 1, without first frames and lost joints.
Settings that an issue of CRW's code gives (NeurIPS 2020, arXiv 2006.14613); papers differ in them, so that published
values are not comparable with each other. Published: CRW 59.3 and 84.9; with its published weights 57.6 and 79.6.
Differs: nothing that is known.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_jhmdb_crw",
    version=1,
    title="JHMDB propagation of joints, CRW's settings",
    short_title="JHMDB CRW",
    track="frozen",
    task="video propagation",
    dataset="jhmdb",
    headline="PCK@0.1",
    plan=probes.propagation(rules="crw", neighbors=10, context=7, radius=12, temperature=0.05, side=320),
)
