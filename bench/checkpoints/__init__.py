"""Any checkpoint in, `backbone.safetensors` and `card.json` out: recognise, convert, prove."""

from bench.checkpoints.importing import import_checkpoint, random_backbone
from bench.checkpoints.inspection import Inspection, inspect_checkpoint

__all__ = ["Inspection", "import_checkpoint", "inspect_checkpoint", "random_backbone"]
