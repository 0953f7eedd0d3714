"""What a config of MMDetection 3 or MMSegmentation 1 says about each aspect of a protocol.

The same reader reads the protocols and the user's config, so that a text means the same in both. A slot of a protocol
(`card:...`, `run:...`) becomes the words for what it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.audit.aspects import Facts
from bench.audit.openmmlab_data import data_facts
from bench.audit.openmmlab_model import model_facts
from bench.audit.openmmlab_schedule import schedule_facts
from bench.audit.words import Config, as_list, normalization


def openmmlab_facts(config: Config, *, gpus: int) -> tuple[Facts, list[str]]:
    """The facts of `config` trained on `gpus` processes, and a sentence for each thing it says but does not do.

    Raises:
        KeyError: it has no `model`.
    """
    notes = _ineffective(config)
    facts = model_facts(config) | data_facts(config)
    facts |= schedule_facts(config, facts.get("training data", ""), gpus)
    plan = (config.get("protocol") or {}).get("plan") or {}
    if plan.get("labels", 1.0) < 1 and "training data" in facts:
        facts["training data"] = f"{100 * plan['labels']:g} % of {facts['training data']}"
    facts["starting weights"] = "the checkpoint's backbone" if not config.get("load_from") else str(config["load_from"])
    hooks = [str(hook.get("type")) for hook in config.get("custom_hooks") or [] if isinstance(hook, Mapping)]
    precise = plan.get("precise_bn_images") or any("PreciseBN" in hook for hook in hooks)
    facts["precise batch norm"] = "yes" if precise else "no"
    return facts, notes


def _ineffective(config: Config) -> list[str]:
    """Traps: settings that are written down and have no effect."""
    notes = []
    own, outer = config["model"].get("data_preprocessor"), config.get("data_preprocessor")
    if own and outer and any(own.get(key) != outer[key] for key in ("mean", "std", "bgr_to_rgb") if key in outer):
        notes.append(
            "the top-level data_preprocessor has no effect: `model` has its own, "
            f"{normalization(own)}, and mmengine keeps that one"
        )
    for scheduler in as_list(config.get("param_scheduler")):
        loop = config.get("train_cfg") or {}
        last = loop.get("max_epochs") if scheduler.get("by_epoch", True) else loop.get("max_iters")
        late = [step for step in as_list(scheduler.get("milestones")) if last and step >= last]
        if late:
            unit = "epoch" if scheduler.get("by_epoch", True) else "iteration"
            drops = ", ".join(map(str, late))
            notes.append(f"the drop at {unit} {drops} is never reached: training ends at {last}")
    dead = [key for key in ("runner", "checkpoint_config", "lr_config", "optimizer_config") if key in config]
    if dead:
        notes.append(f"mmengine ignores {', '.join(dead)}: keys of the former versions")
    if (config.get("auto_scale_lr") or {}).get("enable"):
        notes.append(
            "auto_scale_lr changes the learning rate with the number of GPUs: the one below is the unscaled one"
        )
    return notes
