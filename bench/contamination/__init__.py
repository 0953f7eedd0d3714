"""Searches for copies of test images among pretraining images."""

from bench.contamination.search import Contamination, Copy, search_copies

__all__ = ["Contamination", "Copy", "search_copies"]
