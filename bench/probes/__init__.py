"""Evaluation of frozen backbones: how good their features are without any fine-tuning."""
