"""Checkpoint in, result files out: import with proof, fine-tune, measure."""
