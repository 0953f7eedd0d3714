"""What a config of MMDetection 3 or MMSegmentation 1 says about the model: backbone, input, heads."""

from __future__ import annotations

import math
import re

from bench.audit.words import Config, as_list, box_head, count, first_of, normalization, size_text

_NECKS = {"RetinaPyramid": "FPN"}
"""Necks of the protocols by the name of mmdet's that they stand for."""
_HEADS = {"RetinaNet": ("RetinaHead", "Detectron2RetinaHead"), "FCOS": ("FCOSHead", "AdelaiFCOSHead")}
"""The usual heads of detectors of one stage, mmdet's and ours: with another head it is another detector."""


def model_facts(config: Config) -> dict[str, str]:
    """Backbone and input, and the heads of a detector or of a network of segmentation."""
    model = config["model"]
    facts = _backbone(model.get("backbone") or {}, "decode_head" in model) | _input(model, config)
    if "decode_head" in model:
        return facts | _segmenter(model)
    return facts | (_detector(model) if "type" in model else {})


def _backbone(backbone: Config, of_segmenter: bool) -> dict[str, str]:
    kind = str(backbone.get("type", ""))
    facts = {}
    if match := re.fullmatch(r"(?:(mm\w+)\.)?(ResNe[Xx]t|ResNet)(V1[cd])?", kind):
        depth = backbone.get("depth")
        facts["backbone"] = "the checkpoint's" if depth == "card:depth" else f"{match[2]}-{depth}"
        facts["stem"] = "deep" if match[3] or backbone.get("deep_stem") else "7x7"
        facts["stride on"] = "3x3" if backbone.get("style", "pytorch") == "pytorch" else "1x1"
        strides = list(backbone.get("strides") or (1, 2, 2, 2))
        facts["output stride"] = str(4 * math.prod(strides[: backbone.get("num_stages", 4)]))
        frozen = backbone.get("frozen_stages", -1)
        facts["frozen stages"] = "none" if frozen < 0 else "stem" if frozen == 0 else f"stem and {frozen}"
        # only mmdet's ResNets have fixed statistics by default
        fixed = backbone.get("norm_eval", match[1] == "mmdet" if match[1] else not of_segmenter)
        facts["backbone norm"] = _norm(backbone.get("norm_cfg") or {"type": "BN"}, fixed)
    elif kind:
        facts["backbone"] = kind
    return facts


def _norm(norm: Config | None, evaluation: bool = False) -> str:
    if not norm:
        return "no norm"
    kind = "batch norm" if norm["type"] in ("BN", "SyncBN", "run:norm", "naiveSyncBN", "MMSyncBN") else norm["type"]
    if not norm.get("requires_grad", True):
        return f"{kind}, frozen"
    return f"{kind}, fixed statistics" if evaluation else kind


def _input(model: Config, config: Config) -> dict[str, str]:
    own = model.get("data_preprocessor") or config.get("data_preprocessor")
    if not own:
        return {}
    divisor = own.get("pad_size_divisor")
    return {"input": normalization(own)} | ({"padding": f"to multiples of {divisor}"} if divisor else {})


def _detector(model: Config) -> dict[str, str]:
    necks = [f"{_NECKS.get(neck['type'], neck['type'])}, {_norm(neck.get('norm_cfg'))}" for neck in _necks(model)]
    facts = {"model": _model_name(model), "neck": " + ".join(necks) or "none"}
    return facts | (_two_stages(model) if "roi_head" in model else {})


def _two_stages(model: Config) -> dict[str, str]:
    facts: dict[str, str] = {}
    head = first_of(model["roi_head"].get("bbox_head"))
    shared = model["roi_head"].get("shared_head")
    kind = str(head.get("type", ""))
    if match := re.search(r"Shared(\d)(?:Conv(\d))?FC", kind):
        convolutions, layers = (match[1], match[2]) if match[2] else ("0", match[1])
        facts["box head"] = box_head(int(convolutions), int(layers), _norm(head.get("norm_cfg")))
    elif shared:
        extra = shared["type"] != "ResLayer"  # mmselfsup's is called ResLayerExtraNorm
        fixed = shared.get("norm_eval", not extra)
        facts["box head"] = f"res5, {_norm(shared.get('norm_cfg') or {'type': 'BN'}, fixed)}"
        facts["box head"] += ", a batch norm after it" if extra else ""
        ours = str(shared.get("depth", "")).startswith("card:")
        facts["res5 weights"] = "the checkpoint's" if ours or shared.get("init_cfg") else "random, unless given apart"
    if mask := first_of(model["roi_head"].get("mask_head")):
        facts["mask head"] = f"{count(mask.get('num_convs', 4), 'convolution')}, {_norm(mask.get('norm_cfg'))}"
    training = model.get("train_cfg") or {}
    assigner = first_of(training.get("rcnn")).get("assigner") or {}
    low = assigner.get("match_low_quality", assigner.get("best_anchors"))  # mmdet's name, and that of our matching
    if low is not None:
        facts["low-quality matches"] = "yes" if low else "no"
    kept = [
        f"{name} {proposals['nms_pre']}/{proposals['max_per_img']}"
        for name, proposals in (
            ("training", training.get("rpn_proposal")),
            ("testing", (model.get("test_cfg") or {}).get("rpn")),
        )
        if proposals and "nms_pre" in proposals
    ]
    if kept:
        facts["proposals"] = ", ".join(kept)
    loss = head.get("loss_bbox")
    if loss:
        beta = loss.get("beta", 1.0) if loss["type"] == "SmoothL1Loss" else 0.0
        facts["box loss"] = "L1" if not beta else f"smooth L1, beta {beta:g}"
    return facts


def _necks(model: Config) -> list[Config]:
    return [neck for neck in as_list(model.get("neck")) if neck]


def _model_name(model: Config) -> str:
    """The detector's kind: its type and, of two stages, whether it has a pyramid; of one stage, an unusual head."""
    kind = str(model["type"])
    if "roi_head" in model:
        return f"{kind} {'FPN' if _necks(model) else 'C4'}"
    head = first_of(model.get("bbox_head")).get("type")
    return kind if head is None or head in _HEADS.get(kind, ()) else f"{kind} {head}"


def _segmenter(model: Config) -> dict[str, str]:
    head, auxiliary = model["decode_head"], model.get("auxiliary_head")
    facts = {"model": f"{model['type']} {first_of(head).get('type')}", "decode head": _head(first_of(head))}
    facts["auxiliary head"] = "none"
    if auxiliary:
        loss = first_of(first_of(auxiliary).get("loss_decode") or {})
        facts["auxiliary head"] = f"{_head(first_of(auxiliary))}, weight {loss.get('loss_weight', 1.0):g}"
    facts["align corners"] = "yes" if first_of(head).get("align_corners") else "no"
    test = model.get("test_cfg") or {}
    if "mode" in test:
        slide = test["mode"] == "slide"
        facts["test mode"] = (
            f"slide {size_text(test['crop_size'])} by {size_text(test['stride'])}" if slide else test["mode"]
        )
    return facts


def _head(head: Config) -> str:
    parts = [f"{count(head.get('num_convs', 2), 'convolution')} of {head.get('channels')}"]
    parts += [f"dilation {head['dilation']}"] if head.get("dilation", 1) != 1 else []
    parts += ["joined with its input"] if head.get("concat_input", True) else []
    parts += [f"dropout {head.get('dropout_ratio', 0.1):g}"]
    return ", ".join(parts)
