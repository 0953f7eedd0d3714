"""Configs of MMDetection 2 and MMSegmentation 0 in the words of their successors.

Most published transfer configs of this field are written so. What an audit reads is translated; the rest is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Config = Mapping[str, Any]


def is_former(config: Config) -> bool:
    """Whether `config` is of a version before mmengine."""
    return "data" in config and "train_dataloader" not in config


def translate(config: Config) -> dict[str, Any]:
    """What an audit reads of `config`, as mmengine would have it."""
    data = config["data"]
    training, testing = data.get("train") or {}, data.get("test") or data.get("val") or {}
    model = dict(config["model"])
    for key in ("train_cfg", "test_cfg"):
        if key in config and key not in model:
            model[key] = config[key]
    steps = list(_steps(training))
    loader = {**data, **(data.get("train_dataloader") or {})}  # where both say the batch, the second counts
    model["data_preprocessor"] = _preprocessor(steps)
    by_epoch, last = _length(config)
    return {
        "model": model,
        "load_from": config.get("load_from"),
        "custom_hooks": config.get("custom_hooks"),
        "train_dataloader": {
            "batch_size": loader.get("samples_per_gpu") or loader.get("imgs_per_gpu"),
            "dataset": {"datasets": list(_leaves(training)), "pipeline": [_step(step) for step in steps]},
        },
        "test_dataloader": {
            "dataset": {"datasets": list(_leaves(testing)), "pipeline": [_step(step) for step in _steps(testing)]}
        },
        "test_evaluator": _evaluator(str(next(_leaves(testing), {}).get("type", "")), config.get("evaluation") or {}),
        "train_cfg": {"max_epochs" if by_epoch else "max_iters": last} if last else {},
        "param_scheduler": _schedulers(config.get("lr_config") or {}, by_epoch),
        "optim_wrapper": {
            "optimizer": {k: v for k, v in (config.get("optimizer") or {}).items() if k != "paramwise_cfg"},
            "paramwise_cfg": (config.get("optimizer") or {}).get("paramwise_cfg"),
            "clip_grad": (config.get("optimizer_config") or {}).get("grad_clip"),
        },
    }


def _length(config: Config) -> tuple[bool, int | None]:
    runner = config.get("runner") or {}
    if iterations := runner.get("max_iters") or config.get("total_iters"):
        return False, iterations
    return True, runner.get("max_epochs") or config.get("total_epochs")


def _leaves(dataset: Config) -> Iterator[dict[str, Any]]:
    """The data sets in `dataset`; one of several lists (`ann_file` or `split`) counts as several.

    Those that are repeated are each within an own wrapper that repeats it.
    """
    if isinstance(dataset, (list, tuple)):
        for one in dataset:
            yield from _leaves(one)
    elif "datasets" in dataset:
        yield from _leaves(dataset["datasets"])
    elif "dataset" in dataset:
        wrapper = {key: dataset[key] for key in ("type", "times") if key in dataset}
        yield from (
            {**wrapper, "dataset": leaf} if "times" in wrapper else leaf for leaf in _leaves(dataset["dataset"])
        )
    elif dataset:
        lists = _list(dataset.get("split") or dataset.get("ann_file"))
        folders = [_list(dataset.get(key)) for key in ("img_prefix", "img_dir", "ann_dir")]
        for i, one in enumerate(lists or [None]):
            places = [str(folder[min(i, len(folder) - 1)]) for folder in folders if folder]
            yield {
                "type": dataset.get("type"),
                "data_root": dataset.get("data_root"),
                "ann_file": one,
                "data_prefix": dict(enumerate(places)),
            }


def _steps(dataset: Any) -> Iterator[Config]:
    """The pipeline's steps, those within other steps included."""
    while isinstance(dataset, (list, tuple)) and dataset:
        dataset = dataset[0]
    inner = (dataset.get("dataset") or dataset.get("datasets")) if isinstance(dataset, Mapping) else None
    if inner and "pipeline" not in dataset:
        yield from _steps(inner)
        return
    for step in (dataset or {}).get("pipeline") or []:
        if "img_scale" in step and "transforms" in step:  # multi-scale testing
            yield {"type": "Resize", "img_scale": step["img_scale"]}
        else:
            yield step


def _step(step: Config) -> dict[str, Any]:
    scale = step.get("img_scale")
    if step.get("type") != "Resize" or scale is None:
        return dict(step)
    if step.get("ratio_range"):
        return {"type": "RandomResize", "scale": scale, "ratio_range": step["ratio_range"]}
    if not isinstance(scale[0], (list, tuple)):
        return {"type": "Resize", "scale": scale}
    if step.get("multiscale_mode", "range") == "range":
        (low, high), longest = sorted(min(one) for one in scale), max(max(one) for one in scale)
        return {"type": "RandomChoiceResize", "scales": [(longest, side) for side in (low, (low + high) / 2, high)]}
    return {"type": "RandomChoiceResize", "scales": scale}


def _preprocessor(steps: list[Config]) -> dict[str, Any]:
    found = next((step for step in steps if step.get("type") == "Normalize"), {})
    divisor = next(
        (step["size_divisor"] for step in steps if step.get("type") == "Pad" and "size_divisor" in step), None
    )
    values = {"mean": found.get("mean"), "std": found.get("std"), "bgr_to_rgb": found.get("to_rgb", True)}
    return values | ({"pad_size_divisor": divisor} if divisor else {})


def _evaluator(dataset: str, evaluation: Config) -> dict[str, Any]:
    metric = evaluation.get("metric")
    if "mIoU" in _list(metric):
        return {"type": "IoUMetric"}
    if dataset.startswith("VOC"):
        return {"type": "VOCMetric", "iou_thrs": evaluation.get("iou_thr", 0.5)}
    return {"type": "CocoMetric", "metric": metric} if "Coco" in dataset and metric else {}


def _schedulers(policy: Config, by_epoch: bool) -> list[dict[str, Any]]:
    schedulers: list[dict[str, Any]] = []
    if policy.get("warmup"):
        end, ratio = policy.get("warmup_iters"), policy.get("warmup_ratio", 0.1)
        schedulers.append({"type": "LinearLR", "start_factor": ratio, "end": end, "by_epoch": False})
    if policy.get("policy") == "step":
        steps, gamma = _list(policy.get("step")), policy.get("gamma", 0.1)
        schedulers.append({"type": "MultiStepLR", "milestones": steps, "gamma": gamma, "by_epoch": by_epoch})
    elif policy.get("policy") == "poly":
        schedulers.append({"type": "PolyLR", "power": policy.get("power", 1.0), "eta_min": policy.get("min_lr", 0)})
    elif policy.get("policy"):
        schedulers.append({"type": policy["policy"]})
    return schedulers


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]
