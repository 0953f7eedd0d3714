"""LVIS v1 detection and instance segmentation, Mask R-CNN FPN of family A, 180,000 iterations; mask and box AP.

Purpose: the transfer of VirTex to the 1,203 classes of LVIS v1, most of them rare; MoCo and SoCo report LVIS, too, by
other protocols (below). Train: 100,170 images of COCO, without those that have no object. Test: val (19,809), of which
most are images of COCO's train2017: a backbone that was pretrained on COCO has seen them, without their labels.
Metric: mask AP (%) as lvis-api computes it; also of rare, common and frequent classes (APr, APc, APf), at IoU .50 and
.75, by object size, and of boxes. Annotations are federated: detections of a class count where it is known whether an
image has it, and false ones do not where not all objects of the class are annotated. It is not COCO's metric.
Architecture: that of `coco_mrcnn_fpn_1x_a.py` with 1,203 classes; 300 detections per image with scores above .0001.
Schedule: that of `coco_mrcnn_fpn_1x_a.py` with 180,000 iterations, a tenth from 120,000 and from 160,000 on. Images of
classes on a share f of less than .001 of the images are drawn sqrt(.001 / f) times as often.
Differs from the papers: `transfer_configs/parts/detectron2.py`; one batch of 16 where they have 8 of 2 and synchronize.
Published: none that can be compared and was verified. VirTex's configuration is this one, its values stand in the paper
only; MoCo's are those of LVIS v0.5 (1,230 classes), SoCo's of half the iterations with pretrained heads.
Tested: trained and evaluated at reduced size with a ResNet-18 on a CPU; repeat factors and their draws against the
formula, the metric against a plain computation, and once against lvis-api 0.5.3. No run of the whole schedule has been
made with this file.
Cost: 2,880,000 images seen. Computed, not measured: 4.1 EFLOP of convolutions and linear layers, forward and backward,
with 128 masks per image, or 28 GPU-hours if a GPU sustains 40 TFLOP/s; 42 GiB for parameters, gradients, momentum, and
what is kept for backward, masks of all classes among it. The annotations of train take about 10 GiB of the machine's
memory while they are read.
"""

from transfer_configs.parts import datasets, schedules
from transfer_configs.parts import detectron2 as d2

protocol = dict(
    id="paper_lvis_mrcnn_fpn_2x",
    version=1,
    title="LVIS v1 detection and instance segmentation, Mask R-CNN FPN, family A, 2x",
    short_title="LVIS Mask R-CNN FPN A 2x",
    track="paper",
    task="instance segmentation",
    dataset="lvis",
    headline="segm_AP",
    plan=dict(
        batch_size=16,
        iterations=180_000,
        learning_rate=0.02,
        final_learning_rate=0.0002,
        norm_weight_decay=0.0,
        precise_bn_images=3_200,
    ),
)
bf16_modules = []
_plan = protocol["plan"]

default_scope = "mmdet"
model = d2.mask_rcnn_fpn(classes=1_203, norm_in_heads=False, least_score=0.0001, detections=300)

train_dataloader = d2.lvis_training(_plan, threshold=0.001)
test_dataloader = d2.lvis_testing()
test_evaluator = datasets.lvis_metric("val")

train_cfg = schedules.train_loop(_plan)
test_cfg = schedules.test_loop()
optim_wrapper = d2.sgd(_plan)
param_scheduler = d2.steps(_plan, warm_up=1_000, milestones=[120_000, 160_000])
