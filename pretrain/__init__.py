"""Self-supervised pretraining of backbones in plain PyTorch."""
