"""Detection and instance segmentation on own data at full size, Mask R-CNN FPN, 24,000 iterations; box and mask AP.

Purpose: does what the small protocols show hold at the size at which one would really train? Run where it is named.
Metric: box AP (%) of pycocotools; also mask AP and both at IoU .50 and .75 and by object size.
Model and schedule are those of paper_city_inst_mrcnn_fpn_24k (family A, 8 images per iteration, statistics of batch
normalization over 1,600 training images at the end), with the image sizes of the protocols of COCO: short side 640 to
800 in training, 800 in evaluation. They were fixed for 2,975 images and are never chosen on the user's.
Tested: trained and evaluated at reduced size on a CPU. No run of the whole schedule has been made with this file.
Cost: 192,000 images seen. Computed, not measured: 3 GPU-hours if a GPU sustains 40 TFLOP/s; 29 GiB at most.
"""

from transfer_configs.parts import datasets, loading, schedules
from transfer_configs.parts import detectron2 as d2

protocol = dict(
    id="custom_inst_mrcnn_fpn_24k",
    version=1,
    title="Detection and instance segmentation on own data at full size, Mask R-CNN FPN, 24k",
    short_title="inst Mask R-CNN, full size",
    track="custom",
    task="instance segmentation",
    dataset="custom_inst",
    headline="bbox_AP",
    plan=dict(
        batch_size=8,
        iterations=24_000,
        learning_rate=0.01,
        final_learning_rate=0.001,
        norm_weight_decay=0.0,
        precise_bn_images=1_600,
    ),
)
bf16_modules = []
_plan = protocol["plan"]

default_scope = "mmdet"
model = d2.mask_rcnn_fpn(classes="data:classes", norm_in_heads=False)

_training = loading.detection_training(d2.multi_scale(640, 800, limit=1333), masks=True)
train_dataloader = d2.train_loader(
    datasets.own_objects("train", _training, filter_cfg=dict(filter_empty_gt=True)), _plan
)
test_dataloader = d2.test_loader(
    datasets.own_objects("val", loading.detection_testing(loading.fit((1333, 800)), boxes=False), test_mode=True)
)
test_evaluator = datasets.own_metric("val", ("bbox", "segm"))

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = d2.sgd(_plan)
param_scheduler = d2.steps(_plan, warm_up=1_000, milestones=[18_000])
