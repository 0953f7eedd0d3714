"""Standard data sets: what belongs to each, and how it is set up."""

from bench.datasets.standard.prepare import STANDARD, Prepared, find_standard, prepare, survey

__all__ = ["STANDARD", "Prepared", "find_standard", "prepare", "survey"]
