"""Imported once by the server from which runs are forked, so that no run pays for these imports again."""

import bench.probes.runner
from bench.fine_tuning import missing

if not missing():  # else there are probes to run, and no fine-tuning
    from bench.openmmlab.prepare import prepare_openmmlab

    prepare_openmmlab()

    import bench.openmmlab.hooks
    import bench.openmmlab.runner  # noqa: F401
