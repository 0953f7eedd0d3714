"""Generates small data sets, and checks and fingerprints any data set."""

from bench.datasets.check import DATASETS, FURTHER, check, expected_in, is_data_root
from bench.datasets.report import DatasetReport, Problem
from bench.datasets.synthetic.generate import generate

__all__ = ["DATASETS", "FURTHER", "DatasetReport", "Problem", "check", "expected_in", "generate", "is_data_root"]
