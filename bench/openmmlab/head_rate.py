"""An optimizer in which all but the backbone has its own learning rate.

mmengine's `custom_keys` give one to parameters by name, but what they match loses the weight decay of norms. Import
after :func:`bench.openmmlab.prepare_openmmlab`, which does.
"""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class HeadRate(DefaultOptimWrapperConstructor):
    """mmengine's constructor; necks and heads learn at the optimizer's rate times `paramwise_cfg["head_lr_mult"]`."""

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, prefix: str = "", **more: Any) -> None:
        """Add a group to `params` for each parameter of `module`, as mmengine does."""
        super().add_params(params, module, prefix, **more)
        if prefix:  # a part of the model
            return
        own = {id(parameter) for parameter in module.backbone.parameters()}  # type: ignore[union-attr]
        for group in params:
            if id(group["params"][0]) not in own:
                group["lr"] = self.base_lr * self.paramwise_cfg["head_lr_mult"]
