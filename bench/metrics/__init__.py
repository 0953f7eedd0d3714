"""Evaluation metrics of the benchmark in plain numpy, all in per cent. OpenMMLab and torch are not imported."""
