"""Turns any checkpoint into `backbone.safetensors` and `card.json`: recognize, convert, prove."""

from bench.checkpoints.importing import import_checkpoint, random_backbone
from bench.checkpoints.inspection import Inspection, inspect_checkpoint

__all__ = ["Inspection", "import_checkpoint", "inspect_checkpoint", "random_backbone"]
