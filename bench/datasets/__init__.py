"""Data sets: generate small ones, check and fingerprint any."""

from bench.datasets.generate import generate

__all__ = ["generate"]
