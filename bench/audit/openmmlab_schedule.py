"""What a config of MMDetection 3 or MMSegmentation 1 says about the schedule: batch, iterations, learning rate."""

from __future__ import annotations

from bench.audit.openmmlab_data import leaves_of
from bench.audit.words import Config, as_list

IMAGES = {
    "COCO train2017": 117_266,
    "VOC2007 trainval + VOC2012 trainval": 16_551,
    "VOC2012 trainaug": 10_582,
    "Cityscapes train": 2_975,
}
"""Numbers of training images, those without an object left out, to turn epochs into iterations."""


def schedule_facts(config: Config, data: str, gpus: int) -> dict[str, str]:
    """Schedule of a training on `gpus` processes; `data` turns epochs into iterations if it is a key of `IMAGES`."""
    facts: dict[str, str] = {}
    loader, loop = config.get("train_dataloader") or {}, config.get("train_cfg") or {}
    batch = size * gpus if (size := loader.get("batch_size")) else None
    if batch is not None:
        facts["batch"] = str(batch)
    repeats = {times for _, times in leaves_of(loader.get("dataset") or {})}
    epoch = IMAGES[data] * repeats.pop() / batch if batch and data in IMAGES and len(repeats) == 1 else None
    last = loop.get("max_iters") or (loop["max_epochs"] * epoch if loop.get("max_epochs") and epoch else None)
    if last is not None:
        facts["iterations"] = str(round(last))
    elif loop.get("max_epochs"):
        facts["iterations"] = f"{loop['max_epochs']} epochs"
    facts["schedule"] = "constant"
    facts["warm-up"] = "none"
    for scheduler in as_list(config.get("param_scheduler")):
        unit = 1.0 if not scheduler.get("by_epoch", True) else epoch
        kind = scheduler.get("type")
        if kind == "LinearLR":
            facts["warm-up"] = f"{scheduler.get('end')} from {scheduler.get('start_factor', 1 / 3):g}"
        elif kind == "MultiStepLR":
            steps = [round(step * unit) if unit else f"epoch {step}" for step in scheduler["milestones"]]
            facts["schedule"] = f"times {scheduler.get('gamma', 0.1):g} at {', '.join(map(str, steps))}"
        elif kind == "PolyLR":
            facts["schedule"] = f"poly {scheduler.get('power', 1.0):g} to {scheduler.get('eta_min', 0):g}"
        elif kind:
            facts["schedule"] = str(kind)
    has_neck = bool((config.get("model") or {}).get("neck"))
    return facts | _optimizer(config.get("optim_wrapper") or {}, has_neck)


def _optimizer(wrapper: Config, neck: bool) -> dict[str, str]:
    optimizer = wrapper.get("optimizer")
    if not optimizer:
        return {}
    decay, by_part = optimizer.get("weight_decay", 0.0), wrapper.get("paramwise_cfg") or {}
    norms = decay * by_part.get("norm_decay_mult", 1.0)
    momentum = f", momentum {optimizer['momentum']:g}" if "momentum" in optimizer else ""
    return {
        "optimizer": f"{optimizer['type']}{momentum}",
        "learning rate": ", ".join([f"{optimizer['lr']:g}", *_other_rates(optimizer["lr"], by_part, neck)]),
        "weight decay": f"{decay:g}",
        "weight decay of norms": f"{norms:g}",
        "gradient clipping": _clipping(wrapper.get("clip_grad") or {}),
    }


def _clipping(clip: Config) -> str:
    limit = clip.get("clip_value" if clip.get("type") == "value" else "max_norm")
    return "no" if limit is None else f"{clip.get('type', 'norm')} {limit:g}"


def _other_rates(rate: float, by_part: Config, neck: bool) -> list[str]:
    """Rates of parts of the model that have their own, in the words of mmengine's constructor or of `HeadRate`."""
    factors = {part: keys.get("lr_mult", 1.0) for part, keys in (by_part.get("custom_keys") or {}).items()}
    if "head_lr_mult" in by_part:
        factors |= dict.fromkeys(["head", "neck"] if neck else ["head"], by_part["head_lr_mult"])
    heads = {"decode_head": "head", "head.": "head", "neck.": "neck"}
    return sorted(f"{rate * factor:g} of {heads.get(part, part)}" for part, factor in factors.items() if factor != 1)
