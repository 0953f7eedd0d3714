"""Turns checkpoints into result files: import with proof, fine-tune, measure."""
