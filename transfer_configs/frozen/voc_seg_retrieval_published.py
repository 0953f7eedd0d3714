"""VOC semantic segmentation by in-context retrieval as its public code computes; mIoU of 21 classes.

Purpose: What would the public evaluation of Hummingbird report, with its errors? It serves to compare procedures.
Cost: all images pass through the backbone once more, then each validation cell is compared with the memory.
Memory: 20,480 cells x channels x 4 bytes (63 MB with ResNet-18, 250 MB with ResNet-50), twice.
Metric: mIoU (%) at the size of the input after a renaming of the predicted classes, 255 ignored, absent classes as 0.
Rules of github.com/vpariza/open-hummingbird-eval 2.0.0: normalization with a standard deviation of .255 for blue
whatever the card says, pixels labeled 255 as class 0 in the memory. Smaller than for its published values (512 px,
102,400 cells and more): the input is that of the track, the memory 20,480 cells.
`frozen_voc_seg_retrieval` is the corrected procedure.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_voc_seg_retrieval_published",
    version=1,
    title="PASCAL VOC semantic segmentation by in-context retrieval, as published",
    short_title="VOC seg retrieval published",
    track="frozen",
    task="semantic segmentation",
    dataset="voc2012_seg",
    headline="mIoU",
    plan=probes.retrieval(size=(224, 224), classes=21, published=True),
)
