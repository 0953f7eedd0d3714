"""Shows what frozen backbones see: predictions of the linear probe, and features as colors."""
