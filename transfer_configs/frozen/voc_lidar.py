"""VOC images without labels, LiDAR of the frozen backbone, in per cent of the largest possible value.

Purpose: Along how many directions does the backbone distinguish images, beyond changes by crops and colors?
Cost: each val image passes through the backbone eight times.
Memory: a matrix of channels^2 x 8 bytes (5 MB with ResNet-18, 75 MB with ResNet-50), six times.
Metric: LiDAR (%) of the val images, each with 8 augmented views: 100 is a flat spectrum of as many directions as there
can be, one fewer than images. With few images, every backbone distinguishes most: with 50, a random ResNet-18 has 84.
LiDAR (Thilak et al., ICLR 2024) is the effective rank of linear discriminant analysis in which each image is a class.
The embedding of a view is the mean of its cells. It compares similar methods; there is no standard error.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_voc_lidar",
    version=1,
    title="PASCAL VOC images, rank of discriminant analysis (LiDAR)",
    short_title="VOC LiDAR",
    track="frozen",
    task="representation",
    dataset="voc2012_seg",
    headline="LiDAR",
    plan=probes.lidar(size=(224, 224)),
)
