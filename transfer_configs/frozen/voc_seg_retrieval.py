"""VOC semantic segmentation by in-context retrieval from the frozen backbone's cells; mIoU of 21 classes.

Purpose: Do cells find cells of their class in other, augmented images, without any training?
Cost: the training images pass through the backbone once more, then each validation cell is compared with the memory.
Memory: 20,480 cells x channels x 4 bytes (63 MB with ResNet-18, 250 MB with ResNet-50), twice.
Metric: mIoU (%) from the confusion matrix of the whole val set at the images' own size, 255 ignored.
Hummingbird (Balazevic et al., NeurIPS 2023) with the errors of its public evaluation corrected: see
`bench/probes/kinds/retrieval.py` for each. Smaller than published (512 px, 102,400 cells and more): the input is that
of the track, the memory 20,480 cells.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_voc_seg_retrieval",
    version=1,
    title="PASCAL VOC semantic segmentation by in-context retrieval",
    short_title="VOC seg retrieval",
    track="frozen",
    task="semantic segmentation",
    dataset="voc2012_seg",
    headline="mIoU",
    plan=probes.retrieval(size=(224, 224), classes=21, published=False),
)
