"""Imported once by the server from which runs are forked, so that no run pays for these imports again."""

from bench.openmmlab.prepare import prepare_openmmlab

prepare_openmmlab()

import bench.openmmlab.hooks  # noqa: E402
import bench.openmmlab.runner  # noqa: E402, F401
