"""VOC semantic segmentation, FCN on three stages, all layers trained; mIoU of 21 classes.

Purpose: does the backbone separate objects from background and from each other?
Cost: about 70 s on one CPU core with ResNet-18 (bfloat16), 3 minutes with ResNet-50.
Metric: mIoU (%) from the confusion matrix of the whole val set at the images' own size, 255 ignored.
A small sibling of the usual FCN transfer: plain 7x7 stem, batch normalisation in training mode, weight decay on every
parameter (as mmseg does), poly schedule. One head reads the last three stages, joined at stride 8 as in FCN-8s (Long et
al., CVPR 2015), so that small inputs still have enough cells; dilation would cost more and show less.
"""

protocol = dict(
    id="mini_voc_seg_fcn",
    version=1,
    track="mini",
    task="semantic segmentation",
    dataset="voc2012_seg",
    headline="mIoU",
    plan=dict(
        batch_size=4,
        iterations=480,
        learning_rate=0.02,
        final_learning_rate=0.0005,
        norm_weight_decay=0.0005,
    ),
)
bf16_modules = ["backbone", "decode_head.convs"]

default_scope = "mmseg"
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean="card:mean",
        std="card:std",
        bgr_to_rgb="card:bgr_to_rgb",
        size=(96, 96),
        pad_val=0,  # after normalisation: the mean colour
        seg_pad_val=255,
    ),
    backbone=dict(
        type="ResNet",
        depth="card:depth",
        out_indices=(1, 2, 3),
        style="pytorch",
        frozen_stages=-1,
        norm_cfg=dict(type="run:norm", requires_grad=True),
        norm_eval=False,
    ),
    decode_head=dict(
        type="FCNHead",
        in_channels="card:upper_channels",
        in_index=(0, 1, 2),
        input_transform="resize_concat",  # to the size of the first: stride 8
        channels=128,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=dict(type="run:norm", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="PascalVOCDataset",
        data_root="run:data_root",
        ann_file="VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt",
        data_prefix=dict(img_path="VOCdevkit/VOC2012/JPEGImages", seg_map_path="VOCdevkit/VOC2012/SegmentationClass"),
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations"),
            dict(type="RandomResize", scale=(160, 160), ratio_range=(0.75, 1.5), keep_ratio=True),
            dict(type="RandomCrop", crop_size=(96, 96), cat_max_ratio=0.75),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PackSegInputs"),
        ],
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="PascalVOCDataset",
        data_root="run:data_root",
        ann_file="VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt",
        data_prefix=dict(img_path="VOCdevkit/VOC2012/JPEGImages", seg_map_path="VOCdevkit/VOC2012/SegmentationClass"),
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="Resize", scale=(160, 160), keep_ratio=True),
            dict(type="LoadAnnotations"),
            dict(type="PackSegInputs"),
        ],
    ),
)
test_evaluator = dict(type="SegmentationMetric")

train_cfg = dict(type="IterBasedTrainLoop", max_iters=480)
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=0.0005),
)
param_scheduler = [
    dict(type="PolyLR", power=0.9, eta_min=0.0005, begin=0, end=480, by_epoch=False),
]
