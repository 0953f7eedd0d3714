"""VOC semantic segmentation, pretrained ASPP head of output stride 16, all layers trained; mIoU of 21 classes.

Purpose: what a head that was pretrained with its backbone gives, in minutes: a small version of
`voc12aug_seg_aspp_40k.py`. Read it beside `mini_voc_seg_aspp_random.py`, which differs in nothing but the head.
Cost: about as long as `mini_voc_seg_fcn`.
Metric: mIoU (%) from the confusion matrix of the whole val set at the images' own size, 255 ignored.
The head has the sizes of recipe `cp2-mini`: the image's mean, a 1x1 and two 3x3 convolutions dilated by 2 and 3, each
of 128 channels, and a 3x3 convolution on all of them. A head of another kind or size is refused. Data, crops and
iterations are those of `mini_voc_seg_fcn`; all layers have one learning rate, because the head is pretrained, too.
"""

from transfer_configs.mini import voc_seg_fcn as base
from transfer_configs.parts import schedules, segmenters

protocol = {
    **base.protocol,
    "id": "heads_mini_voc_seg_aspp",
    "version": 1,
    "title": "PASCAL VOC semantic segmentation, pretrained ASPP head",
    "short_title": "VOC seg ASPP, its head",
    "track": "heads",
    "plan": dict(
        batch_size=4,
        iterations=480,
        learning_rate=0.02,
        final_learning_rate=0.0005,
        norm_weight_decay=0.0005,
        output_stride=16,
        pretrained_head=True,
    ),
}
_plan = protocol["plan"]
bf16_modules = ["backbone"]

default_scope = base.default_scope
model = segmenters.dilated_aspp(crop=(96, 96), classes=21, channels=128, dilations=(1, 2, 3))

train_dataloader = base.train_dataloader
test_dataloader = base.test_dataloader
test_evaluator = base.test_evaluator

train_cfg = base.train_cfg
test_cfg = base.test_cfg
optim_wrapper = schedules.sgd(_plan, weight_decay=0.0005)
param_scheduler = schedules.poly(_plan)
