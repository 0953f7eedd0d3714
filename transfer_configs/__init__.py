"""One mmengine config per protocol, as data: `<track>/<name>.py` is protocol `<track>_<name>`; `parts/` is shared."""
