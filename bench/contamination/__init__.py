"""Searches for copies of test images among pretraining images."""

from bench.contamination.search import Contamination, Copy, mark_card, search_copies

__all__ = ["Contamination", "Copy", "mark_card", "search_copies"]
