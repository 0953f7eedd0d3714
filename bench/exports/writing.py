"""Writes an exported backbone in a form of another library, with a README that says what it is and how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from bench.exports.forms import Form
from leaderboard.base.files import make_folder, write_atomic
from leaderboard.records import Card
from leaderboard.text import markdown
from pretrain.exported import ExportedBackbone
from pretrain.nets.architectures import Architecture, find_architecture


def write_form(exported: ExportedBackbone, form: Form, out: Path) -> list[Path]:
    """Write the files of `form` into the folder `out`, which is made; returns them, README.md last.

    A network that expects BGR is written for RGB: the input channels of its first convolution change places, and so do
    mean and standard deviation. All other tensors are the exported ones, bit for bit.

    Raises:
        BenchError: the library has no such architecture.
        FileError: the folder cannot be written.
    """
    tensors, card = _for_rgb(exported.tensors, exported.card)
    architecture = find_architecture(card.architecture)
    files = {**form.files(architecture, tensors, card), "README.md": _readme(form, architecture, card).encode()}
    make_folder(out)
    for name, data in files.items():
        write_atomic(out / name, data)
    return [out / name for name in files]


def _for_rgb(tensors: Mapping[str, Tensor], card: Card) -> tuple[dict[str, Tensor], Card]:
    """Tensors and card of the same function of RGB images."""
    rgb = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if card.color_order == "RGB":
        return rgb, card
    first = next(name for name, tensor in rgb.items() if tensor.ndim == 4 and tensor.shape[1] == 3)
    rgb[first] = rgb[first].flip(1).contiguous()
    changes = {"color_order": "RGB", "mean": card.mean[::-1], "std": card.std[::-1]}
    return rgb, card.model_copy(update=changes)


def _readme(form: Form, architecture: Architecture, card: Card) -> str:
    """A model card: what the weights are, how images are normalized for them, how they are loaded."""
    training, numbers = card.pretraining, "{:.4g}, {:.4g}, {:.4g}"
    values = [f"{numbers.format(*(255 * v for v in values))}" for values in (card.mean, card.std)]
    license_line = f"license: {json.dumps(card.license.lower())}\n" if card.license else ""
    library = {"timm": "timm", "huggingface": "transformers"}.get(form.name)
    library_line = f"library_name: {library}\n" if library else ""
    facts = {
        "method": card.method,
        "architecture": card.architecture,
        "pretraining data": training.data,
        "epochs": training.epochs,
        "labels": training.labels,
        "recipe": training.recipe,
        "license": card.license,
        "SHA-256 of the exported backbone": card.sha256,
        "code": card.code_commit,
    }
    rows = "\n".join(f"| {name} | {markdown(str(value))} |" for name, value in facts.items() if value not in (None, ""))
    return f"""---
{license_line}{library_line}pipeline_tag: image-feature-extraction
---

# {markdown(card.name)}

A pretrained backbone without a classifier, written by DenseBench.

| | |
|---|---|
{rows}

Images are RGB, normalized with mean {numbers.format(*card.mean)} and standard deviation {numbers.format(*card.std)} for
pixel values in [0, 1] ({values[0]} and {values[1]} for [0, 255]).

```python
{form.usage(architecture, card)}
```
"""
