"""Evaluation metrics of the benchmark in plain numpy, all in per cent. No OpenMMLab or torch import."""
