"""Track mini: the whole evaluation in minutes on two CPU cores."""

from bench.tracks.track import Track

MINI = Track(
    id="mini",
    purpose="Quick screening of a checkpoint, the demo and the tests: small inputs, short schedules, any data root.",
    protocols=(
        "mini_voc_det_frcnn_fpn",
        "mini_voc_seg_fcn",
        "mini_coco_mrcnn_fpn",
        "mini_city_seg_fcn",
    ),
    seeds=(0, 1, 2),
    rules=(
        "The backbone is a torchvision ResNet-18, -34, -50 or -101 with its 7x7 stem; rows of different depth are not "
        "comparable and the table says which is which.",
        "Every backbone tensor comes from the checkpoint, bit for bit; necks and heads start at random, from the seed.",
        "All layers are trained; batch normalisation uses batch statistics in training and running statistics in "
        "evaluation.",
        "Pixels are normalised as the checkpoint's card says.",
        "The schedule, the learning rate among it, is the same for every checkpoint: it was fixed on random and "
        "self-supervised backbones together and is never tuned for a row.",
        "Only the weights of the last iteration are evaluated, once, without test-time augmentation.",
        "A row is the mean over the seeds; a run that diverges stays in the table as failed.",
        "Figures of this track are not comparable with any published figure.",
    ),
)
