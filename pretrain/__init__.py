"""Images in, backbone out: self-supervised pretraining in plain PyTorch."""
