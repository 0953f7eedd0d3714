"""The kinds of probes, one a module: each maps its plan and the material to what it found."""
