"""Object detection on own data at full size, Faster R-CNN FPN, 24,000 iterations, all layers trained; box AP.

Purpose: does what the small protocols show hold at the size at which one would really train? Run where it is named.
Metric: box AP (%) of pycocotools; also at IoU .50 and .75 and by object size. What VOC's XML marks difficult counts
neither as found nor as missed and is not trained on.
Model and schedule are those of custom_inst_mrcnn_fpn_24k without masks (family A, 8 images per iteration, statistics of
batch normalization over 1,600 training images at the end); short side 640 to 800 in training, 800 in evaluation. They
were fixed for 2,975 images and are never chosen on the user's.
Tested: trained and evaluated at reduced size on a CPU. No run of the whole schedule has been made with this file.
Cost: 192,000 images seen. Computed, not measured: less than 3 GPU-hours if a GPU sustains 40 TFLOP/s.
"""

from transfer_configs.parts import datasets, loading, schedules
from transfer_configs.parts import detectron2 as d2

protocol = dict(
    id="custom_det_frcnn_fpn_24k",
    version=1,
    title="Object detection on own data at full size, Faster R-CNN FPN, 24k",
    short_title="det Faster R-CNN, full size",
    track="custom",
    task="detection",
    dataset="custom_det",
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
model = d2.faster_rcnn_fpn(classes="data:classes")

_training = loading.detection_training(d2.multi_scale(640, 800, limit=1333))
train_dataloader = d2.train_loader(
    datasets.own_objects("train", _training, filter_cfg=dict(filter_empty_gt=True)), _plan
)
test_dataloader = d2.test_loader(
    datasets.own_objects("val", loading.detection_testing(loading.fit((1333, 800)), boxes=False), test_mode=True)
)
test_evaluator = datasets.own_metric("val", ("bbox",))

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = d2.sgd(_plan)
param_scheduler = d2.steps(_plan, warm_up=1_000, milestones=[18_000])
