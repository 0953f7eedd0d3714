"""One mmengine config a protocol, as data: `<track>/<name>.py` is the protocol `<track>_<name>`; `parts/` is shared."""
