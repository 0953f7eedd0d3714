"""The checkpoint's network as a part of a model."""

from typing import Any


def resnet(out_indices: tuple[int, ...], **more: Any) -> dict[str, Any]:
    """The checkpoint's ResNet with every layer trained and batch normalization in training mode.

    A checkpoint of another family replaces it when the protocol is run (`bench.openmmlab.adapting`). A network of timm
    gives its maps of strides 4, 8, 16 and 32 for the stages, with its own channels and norms. A ViT gives only its last
    map, and necks and heads are built for it. The protocol and its hash stay the same.

    Args:
        out_indices: the stages that neck or head read, from 0 (C2, stride 4) to 3 (C5, stride 32).
        more: further arguments of the libraries' `ResNet`, such as `strides` and `dilations`.
    """
    return dict(
        type="ResNet",
        depth="card:depth",
        out_indices=out_indices,
        style="pytorch",
        frozen_stages=-1,
        norm_cfg=batch_norm(),
        norm_eval=False,
        **more,
    )


def batch_norm() -> dict[str, Any]:
    """Trained batch normalization, synchronized where several processes share the batch."""
    return dict(type="run:norm", requires_grad=True)
