"""Data sets: generate small ones, check and fingerprint any."""

from bench.datasets.check import DATASETS, check
from bench.datasets.report import DatasetReport, Problem
from bench.datasets.synthetic.generate import generate

__all__ = ["DATASETS", "DatasetReport", "Problem", "check", "generate"]
