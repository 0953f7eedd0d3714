"""Evaluation of frozen backbones: what their features tell without being trained on."""
