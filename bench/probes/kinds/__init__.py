"""The kinds of probes, one per module: each computes its findings from its plan and the material."""
