"""The tracks: which protocols are run together, with which seeds and by which rules."""

from __future__ import annotations

from dataclasses import dataclass

from bench.errors import BenchError


@dataclass(frozen=True)
class Track:
    """Protocols that are run together and whose results are in one table."""

    id: str
    purpose: str
    """Purpose of the track, in one sentence."""
    protocols: tuple[str, ...]
    """Ids of the protocols that make its standings: `<track>_<name>` is `transfer_configs/<track>/<name>.py`."""
    seeds: tuple[int, ...]
    """Fine-tuning seeds; `submit --seeds K` runs the first K."""
    rules: tuple[str, ...]
    """What every row of the track has in common, one sentence per rule."""
    networks: tuple[int, ...] = ()
    """Seeds of the networks of `random:ARCHITECTURE`, each of which is evaluated once; if empty, those of `seeds`."""
    further: tuple[str, ...] = ()
    """Ids of protocols that only run if they are named. Their files say what differs; results are in another table."""


MINI = Track(
    id="mini",
    purpose="Quick screening of a checkpoint, the demo and the tests: small inputs, short schedules, any data root.",
    protocols=(
        "mini_voc_det_frcnn_fpn",
        "mini_voc_seg_fcn",
        "mini_coco_mrcnn_fpn",
        "mini_city_inst_mrcnn_fpn",
        "mini_city_seg_fcn",
    ),
    seeds=(0, 1, 2),
    rules=(
        "The backbone is a ResNet with torchvision's 7x7 stem, of any depth or width, a ViT, or a network of timm with "
        "maps of strides 4 to 32 (MobileNetV2, EfficientNet, ConvNeXt) or of one stride (DINOv3); rows of different "
        "architectures are not comparable and the table says which is which.",
        "Maps of strides 4 to 32 take the place of a ResNet's stages, with their own channels and without dilation.",
        "Of a network with maps of one stride the last one takes the place of all stages: detectors get their levels "
        "from it by ViTDet's simple feature pyramid, segmentation heads read it directly. Images are scaled to whole "
        "patches.",
        "Every backbone tensor comes from the checkpoint, bit for bit; necks and heads start at random, from the seed.",
        "All layers are trained, the backbone at a tenth of the learning rate of necks and heads; protocols that run "
        "by name alone have the rates that their files say. Batch normalization uses batch statistics in training and "
        "running statistics in evaluation.",
        "Pixels are normalized as the checkpoint's card says.",
        "The schedule, the learning rate among it, is the same for every checkpoint: it was fixed on random and "
        "self-supervised backbones together and is never tuned for a row.",
        "Only the weights of the last iteration are evaluated, once, without test-time augmentation.",
        "A row is the mean over the seeds (random initialisation has another network with each); a run that diverges "
        "stays in the table as failed.",
        "Values of this track are not comparable with any published value.",
    ),
    further=(
        "mini_voc_maskdistill",
        "mini_voc_maskdistill_mrcnn",
        "mini_coco_maskdistill",
        "mini_in1k_finetune_p1",
        "mini_in1k_finetune_p10",
    ),
)

FROZEN = Track(
    id="frozen",
    purpose="How well the cells of a frozen backbone show the classes of their pixels: minutes on a CPU, any data "
    "root, and differences that fine-tuning on few images cannot show.",
    protocols=(
        "frozen_voc_seg_linear",
        "frozen_voc_seg_knn",
        "frozen_city_seg_linear",
        "frozen_city_seg_knn",
    ),
    seeds=(0,),
    networks=(0, 1, 2),
    rules=(
        "The backbone is a ResNet, a ViT or a network of timm, frozen and in evaluation mode; rows of different "
        "architectures are not comparable and the table says which is which.",
        "Every backbone tensor comes from the checkpoint, bit for bit.",
        "Pixels are normalized as the checkpoint's card says; images are scaled to the protocol's size.",
        "A cell covers 16 x 16 pixels: the last two maps of the backbone, concatenated. Its label is that of the pixel "
        "at its centre.",
        "The classifier's one hyper-parameter is chosen for each checkpoint on training images that are held out; the "
        "validation images are evaluated once.",
        "Scores of cells are upsampled to each label map's own size, and every labelled pixel counts.",
        "Intervals tell how far a value may be off because these validation images were drawn and not others. Two "
        "runs on the same images are compared image by image.",
        "Values of this track are not comparable with any published value.",
    ),
    further=(
        "frozen_voc_seg_linear_p1",
        "frozen_voc_seg_linear_p5",
        "frozen_voc_seg_linear_p10",
        "frozen_voc_seg_linear_p25",
        "frozen_city_seg_linear_p1",
        "frozen_city_seg_linear_p5",
        "frozen_city_seg_linear_p10",
        "frozen_city_seg_linear_p25",
        "frozen_voc_seg_head",
        "frozen_city_seg_head",
        "frozen_voc_seg_corrupted",
        "frozen_city_seg_corrupted",
        "frozen_voc_seg_clusters",
        "frozen_voc_seg_clusters500",
        "frozen_city_seg_clusters",
        "frozen_city_seg_clusters500",
        "frozen_voc_foreground",
        "frozen_voc_segments",
        "frozen_voc_seg_retrieval",
        "frozen_voc_seg_retrieval_published",
        "frozen_city_seg_retrieval",
        "frozen_city_seg_retrieval_published",
        "frozen_voc_rank",
        "frozen_voc_lidar",
        "frozen_city_rank",
        "frozen_city_lidar",
        "frozen_davis17_crw",
        "frozen_davis17_sfc",
        "frozen_davis17_dino",
        "frozen_davis16_crw",
        "frozen_davis16_sfc",
        "frozen_davis16_dino",
        "frozen_vip_crw",
        "frozen_jhmdb_crw",
        "frozen_in1k_knn",
        "frozen_in1k_linear",
        "frozen_in1k_linear_p1",
        "frozen_in1k_linear_p10",
        "frozen_in1k_linear_tail",
        "frozen_in1pct_linear",
        "frozen_in10pct_linear",
        "frozen_inlt_linear",
        "frozen_voc07_svm",
        "frozen_voc07_svm_virtex",
        "frozen_voc07_low_shot",
        "frozen_voc07_low_shot_published",
        "frozen_voc12_svm",
        "frozen_voc12_low_shot",
        "frozen_stuff27_clusters",
        "frozen_stuff27_linear",
        "frozen_cub_foreground",
        "frozen_ade_seg_linear",
        "frozen_ade_seg_knn",
        "frozen_voc_det_frcnn_fpn",
        "frozen_voc_seg_fpn",
        "frozen_city_seg_fpn",
    ),
)

PAPER = Track(
    id="paper",
    purpose="The protocols that papers are judged by, at full size, for values comparable with published ones: GPUs.",
    protocols=(
        "paper_voc0712_det_c4_24k",
        "paper_coco_mrcnn_fpn_1x_b",
        "paper_voc12aug_seg_fcn_d8_20k",
        "paper_city_seg_fcn_d8_40k",
    ),
    seeds=(0, 1, 2, 3, 4),
    rules=(
        "A C4 detector, which divides its backbone, takes ResNet-18 to ResNet-152 with torchvision's 7x7 stem; "
        "segmentation, which dilates it, takes these and networks with maps of one stride (ViT, DINOv3); all other "
        "protocols take the networks of track mini. Rows of different architectures are not comparable and the table "
        "says which is which; published values are those of a ResNet-50.",
        "Every backbone tensor comes from the checkpoint, bit for bit, those of layer4 in the head of a C4 detector, "
        "too; necks and heads start at random, from the seed.",
        "All layers are trained; batch normalization uses the statistics of the whole batch in training and running "
        "statistics in evaluation. ImageNet's linear layers alone leave the backbone as it is, in evaluation mode.",
        "Pixels are normalized as the checkpoint's card says.",
        "Schedule and learning rate are the papers', the same for every checkpoint.",
        "Only the weights of the last iteration are evaluated, once, without test-time augmentation.",
        "A row is the mean over the seeds; a run that diverges stays in the table as failed. Papers give the mean of "
        "five runs on VOC and one run on COCO and Cityscapes.",
        "Each protocol's file says what differs from the papers, and which published values are comparable.",
    ),
    further=(
        "paper_coco_mrcnn_fpn_1x_a",
        "paper_coco_mrcnn_fpn_2x_a",
        "paper_coco_mrcnn_fpn_2x_b",
        "paper_coco_mrcnn_c4_1x",
        "paper_coco_mrcnn_c4_2x",
        "paper_coco_retinanet_1x",
        "paper_coco_retinanet_2x",
        "paper_coco_fcos_1x",
        "paper_coco_mrcnn_c4_12k",
        "paper_coco_mrcnn_fpn_12k_a",
        "paper_coco_retinanet_12k",
        "paper_lvis_mrcnn_fpn_2x",
        "paper_coco_frcnn_fpn_p1",
        "paper_coco_frcnn_fpn_p5",
        "paper_coco_frcnn_fpn_p10",
        "paper_voc0712_det_fpn_p1",
        "paper_voc0712_det_fpn_p5",
        "paper_voc0712_det_fpn_p10",
        "paper_voc0712_det_fpn_p25",
        "paper_voc0712_det_fpn_p50",
        "paper_voc12aug_seg_fcn_d8_p1",
        "paper_voc12aug_seg_fcn_d8_p5",
        "paper_voc12aug_seg_fcn_d8_p10",
        "paper_voc12aug_seg_fcn_d8_p25",
        "paper_voc12aug_seg_fcn_d8_p50",
        "paper_city_seg_fcn_d8_p1",
        "paper_city_seg_fcn_d8_p5",
        "paper_city_seg_fcn_d8_p10",
        "paper_city_seg_fcn_d8_p25",
        "paper_city_seg_fcn_d8_p50",
        "paper_voc12aug_seg_fcn_moco_30k",
        "paper_city_seg_fcn_moco_90k",
        "paper_voc12aug_seg_fcn_r2o_30k",
        "paper_city_seg_fcn_r2o_160e",
        "paper_coco_mrcnn_fpn_r2o_24k",
        "paper_voc12aug_seg_fcn_multicrop_45e",
        "paper_ade20k_fcn_d8_80k",
        "paper_voc0712_det_fpn_18k",
        "paper_city_inst_mrcnn_fpn_24k",
        "paper_in1k_linear_moco",
        "paper_in1k_linear_swav",
        "paper_in1k_linear_byol",
        "paper_in1pct_finetune_swav",
        "paper_in10pct_finetune_swav",
        "paper_in1pct_finetune_openselfsup",
        "paper_in10pct_finetune_openselfsup",
    ),
)

FAIR = Track(
    id="fair",
    purpose="The data and models of track paper, learning rate and weight decay chosen for each checkpoint by a sweep "
    "of equal budget on held-out training images: GPUs. Read it beside track paper, which has one rate for all.",
    protocols=(
        "fair_voc0712_det_c4_24k",
        "fair_coco_mrcnn_fpn_1x_b",
        "fair_voc12aug_seg_fcn_d8_20k",
        "fair_city_seg_fcn_d8_40k",
    ),
    seeds=(0, 1, 2, 3, 4),
    rules=(
        "Data, model, schedule and metric of a protocol are those of track paper's protocol of the same name, and so "
        "is everything that its file says.",
        "Learning rate and weight decay are chosen for each checkpoint. The grid is part of the protocol and of its "
        "hash: every checkpoint, random initialisation too, tries the same settings with the same budget.",
        "A run of the sweep has a quarter of the iterations. It is trained without a part of the training images, the "
        "same for every checkpoint, and evaluated on this part: the validation images choose nothing.",
        "The settings with the highest value are chosen; a run that diverges is kept as failed and never chosen. All "
        "runs with these settings have other seeds than the sweep, and train on all training images.",
        "Every run of the sweep is a result of its own, which no table ranks, and stands in the record of the runs "
        "whose settings it helped to choose. What lies at the edge of the grid is marked.",
        "Only the weights of the last iteration are evaluated, once, without test-time augmentation.",
        "A row is the mean over the seeds; a run that diverges stays in the table as failed.",
        "`random:ARCHITECTURE` is another network with each seed, each with a sweep of its own; "
        "`random:ARCHITECTURE:SEED` is one network.",
    ),
    further=(
        "fair_mini_voc_det_frcnn_fpn",
        "fair_mini_voc_seg_fcn",
        "fair_mini_coco_mrcnn_fpn",
        "fair_mini_city_seg_fcn",
    ),
)

HEADS = Track(
    id="heads",
    purpose="What methods give that pretrain a segmentation head with their backbone, as CP2 does: the head is loaded, "
    "too. Rows are never ranked with those of other tracks, where heads start at random.",
    protocols=("heads_voc12aug_seg_aspp_40k",),
    seeds=(0, 1, 2, 3, 4),
    rules=(
        "The backbone is one of ResNet-18 to ResNet-152 with torchvision's 7x7 stem, or a network with maps of one "
        "stride (ViT, DINOv3); published values are those of a ResNet-50.",
        "Every tensor of the backbone and of the head, but for its classifier, comes from the checkpoint, bit for bit; "
        "the result names the head by its hash. The classifier starts at random, from the seed.",
        "The protocol of the same name with the ending `_random` differs in nothing but that the whole head starts at "
        "random: the difference is what the head gives. Their values stand in columns of their own.",
        "A head of another kind or size than the protocol's is refused. The head of random initialisation is random, "
        "too.",
        "All layers are trained; batch normalization uses the statistics of the whole batch in training and running "
        "statistics in evaluation.",
        "Pixels are normalized as the checkpoint's card says.",
        "Schedule and learning rate are CP2's, the same for every checkpoint; the small versions have a shorter one.",
        "Only the weights of the last iteration are evaluated, once, without test-time augmentation.",
        "A row is the mean over the seeds; a run that diverges stays in the table as failed.",
    ),
    further=(
        "heads_voc12aug_seg_aspp_40k_random",
        "heads_mini_voc_seg_aspp",
        "heads_mini_voc_seg_aspp_random",
    ),
)

CUSTOM = Track(
    id="custom",
    purpose="Which backbone serves the user's own images, frozen and fine-tuned: any data that a description names.",
    protocols=(
        "custom_seg_linear",
        "custom_seg_knn",
        "custom_seg_fcn",
        "custom_det_frcnn_fpn",
        "custom_inst_mrcnn_fpn",
    ),
    further=(
        "custom_seg_fcn_d8_20k",
        "custom_det_frcnn_fpn_24k",
        "custom_inst_mrcnn_fpn_24k",
    ),
    seeds=(0, 1, 2),
    rules=(
        "Classes, parts and files are those of the data's description; a result records the names of the classes.",
        "A table holds results on one set of files under one description: they are never ranked with results on other "
        "data, neither the usual data sets nor other data of one's own.",
        "Protocols that the data cannot serve are left out: label maps need masks, instance segmentation needs a mask "
        "of every object.",
        "Everything but the classes is as in tracks frozen and mini (paper, for the further protocols at full size): "
        "settings were fixed on other data and are never chosen on the user's.",
        "Every backbone tensor comes from the checkpoint, bit for bit; rows of different architectures are not "
        "comparable and the table says which is which.",
        "Probes leave the backbone frozen and run with the first seed alone; fine-tuning trains all layers and runs "
        "with every seed. Only the weights of the last iteration are evaluated, once.",
        "Values of this track are not comparable with any published value.",
    ),
)

TRACKS: tuple[Track, ...] = (MINI, FROZEN, PAPER, FAIR, HEADS, CUSTOM)


def find_track(track_id: str) -> Track:
    """The track with the id `track_id`.

    Raises:
        BenchError: there is none; the message names those that exist.
    """
    for track in TRACKS:
        if track.id == track_id:
            return track
    raise BenchError(f"there is no track {track_id!r}: choose one of {', '.join(track.id for track in TRACKS)}")
