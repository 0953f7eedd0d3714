"""Semantic segmentation by convolutional heads."""

from collections.abc import Mapping
from typing import Any

from transfer_configs.parts.backbones import batch_norm, resnet


def preprocessor(crop: tuple[int, int]) -> dict[str, Any]:
    """Normalization as the card says; smaller images are padded to `crop` (height, width) with the mean color."""
    return dict(
        type="SegDataPreProcessor",
        mean="card:mean",
        std="card:std",
        bgr_to_rgb="card:bgr_to_rgb",
        size=crop,
        pad_val=0,  # after normalization: the mean color
        seg_pad_val=255,
    )


def fcn_head(
    *,
    in_channels: str,
    in_index: int | tuple[int, ...],
    convolutions: int,
    channels: int,
    classes: int | str,
    align_corners: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Head of 3x3 convolutions, dropout of .1 and a classifier of each cell; label 255 has no loss.

    Args:
        in_channels: slot with the channels of its input.
        in_index: index of the backbone's output (or outputs) that it reads.
        convolutions: number of convolutions.
        channels: channels of each convolution.
        classes: number of classes, including background where the data set has it; `data:labels` is that of own data.
        align_corners: whether scores are resized with aligned corners.
        more: further arguments of `FCNHead`; they replace what is set here.
    """
    return (
        dict(
            type="FCNHead",
            in_channels=in_channels,
            in_index=in_index,
            channels=channels,
            num_convs=convolutions,
            concat_input=False,
            dropout_ratio=0.1,
            num_classes=classes,
            norm_cfg=batch_norm(),
            align_corners=align_corners,
            loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
        )
        | more
    )


def dilated_fcn(
    *,
    crop: tuple[int, int],
    classes: int | str,
    auxiliary_weight: float,
    testing: dict[str, Any],
    align_corners: bool = False,
) -> dict[str, Any]:
    """mmseg's FCN of output stride 8, with torchvision's 7x7 stem instead of its own deep one.

    The last two stages are dilated instead of strided. The head reads the last one: two convolutions of 512
    channels, a third on their input and result concatenated. An auxiliary head of one convolution of 256 channels reads
    the one before.

    Args:
        crop: height and width of crops in training.
        classes: number of classes, including background where the data set has it.
        auxiliary_weight: weight of the auxiliary head's loss.
        testing: `mode` (`whole`, or `slide` with `crop_size` and `stride`).
        align_corners: whether scores are resized with aligned corners.
    """
    return dict(
        type="EncoderDecoder",
        data_preprocessor=preprocessor(crop),
        backbone=resnet((0, 1, 2, 3), strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True),
        decode_head=fcn_head(
            in_channels="card:c5_channels",
            in_index=3,
            convolutions=2,
            channels=512,
            concat_input=True,
            classes=classes,
            align_corners=align_corners,
            loss_decode=mean_over_all_pixels(1.0),
        ),
        auxiliary_head=fcn_head(
            in_channels="card:c4_channels",
            in_index=2,
            convolutions=1,
            channels=256,
            classes=classes,
            align_corners=align_corners,
            loss_decode=mean_over_all_pixels(auxiliary_weight),
        ),
        train_cfg=dict(),
        test_cfg=testing,
    )


def dilation6_fcn(
    *,
    crop: tuple[int, int],
    classes: int,
    testing: dict[str, Any],
    align_corners: bool,
    dropout: float = 0.0,
    auxiliary_weight: float | None = None,
    concat_input: bool = False,
) -> dict[str, Any]:
    """The FCN of MoCo's paper: output stride 16, and a head of two 3x3 convolutions of 256 channels and dilation 6.

    Args:
        crop: height and width of crops in training.
        classes: number of classes, including background where the data set has it.
        testing: as for :func:`dilated_fcn`.
        align_corners: whether scores are resized with aligned corners.
        dropout: share of the channels that are dropped before the classifier.
        auxiliary_weight: weight of the loss of a head like the first on layer3; None: there is none.
        concat_input: whether a third convolution follows, on input and result of the two concatenated.
    """

    def head(weight: float, **more: Any) -> dict[str, Any]:
        return fcn_head(
            convolutions=2,
            channels=256,
            dilation=6,
            dropout_ratio=dropout,
            classes=classes,
            align_corners=align_corners,
            loss_decode=mean_over_all_pixels(weight),
            **more,
        )

    model = dict(
        type="EncoderDecoder",
        data_preprocessor=preprocessor(crop),
        backbone=resnet((0, 1, 2, 3), strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), contract_dilation=True),
        decode_head=head(1.0, in_channels="card:c5_channels", in_index=3, concat_input=concat_input),
        train_cfg=dict(),
        test_cfg=testing,
    )
    if auxiliary_weight is not None:
        model["auxiliary_head"] = head(auxiliary_weight, in_channels="card:c4_channels", in_index=2)
    return model


def dilated_aspp(*, crop: tuple[int, int], classes: int, channels: int, dilations: tuple[int, ...]) -> dict[str, Any]:
    """CP2's segmenter: output stride 16, and atrous spatial pyramid pooling (Chen et al. 2017, arXiv 1706.05587).

    Args:
        crop: height and width of crops in training.
        classes: number of classes, including background where the data set has it.
        channels: channels of each convolution.
        dilations: those of the parallel convolutions; a dilation of 1 is a 1x1 convolution.
    """
    return dict(
        type="EncoderDecoder",
        data_preprocessor=preprocessor(crop),
        backbone=resnet((0, 1, 2, 3), strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), contract_dilation=True),
        decode_head=dict(
            type="ASPPHead",
            in_channels="card:c5_channels",
            in_index=3,
            channels=channels,
            dilations=dilations,
            dropout_ratio=0.1,
            num_classes=classes,
            norm_cfg=batch_norm(),
            align_corners=False,
            loss_decode=mean_over_all_pixels(1.0),
        ),
        train_cfg=dict(),
        test_cfg=dict(mode="whole"),
    )


def with_random_head(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol that differs from one of track heads in nothing but that its head starts at random."""
    return {
        **protocol,
        "id": f"{protocol['id']}_random",
        "title": protocol["title"].replace("pretrained ASPP head", "ASPP head that starts at random"),
        "short_title": protocol["short_title"].replace("its head", "random head"),
        "plan": {**protocol["plan"], "pretrained_head": False},
    }


def mean_over_all_pixels(weight: float) -> dict[str, Any]:
    """mmseg's usual cross entropy, `weight` times the mean over all pixels of the crops.

    Ignored pixels count in the mean: a crop that is half padding has half the loss.
    """
    return dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=weight)


def fcn8_head(*, channels: int, classes: int | str) -> dict[str, Any]:
    """Head of one convolution on the last three stages, which are resized to stride 8 and joined, as in FCN-8s."""
    return fcn_head(
        in_channels="card:upper_channels",
        in_index=(0, 1, 2),
        input_transform="resize_concat",  # to the size of the first: stride 8
        convolutions=1,
        channels=channels,
        classes=classes,
    )


def fpn_head(*, channels: int, classes: int) -> dict[str, Any]:
    """Head on the three levels of a feature pyramid of strides 8, 16 and 32 (semantic branch of Panoptic FPN,
    Kirillov et al., CVPR 2019): each is convolved and upsampled to stride 8, and a classifier reads the sum.

    Args:
        channels: channels of the pyramid and of the head.
        classes: number of classes, including background where the data set has it.
    """
    return dict(
        type="FPNHead",
        in_channels=[channels] * 3,
        in_index=(0, 1, 2),
        feature_strides=(8, 16, 32),
        channels=channels,
        dropout_ratio=0.1,
        num_classes=classes,
        norm_cfg=batch_norm(),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    )
