"""Imported once by the server from which runs are forked, so that no run repeats these slow imports.

They take seconds, in which a Ctrl-C is for the command alone: it ends the server when it ends.
"""

import signal

HANDLER = signal.signal(signal.SIGINT, signal.SIG_IGN)
try:
    import bench.probes.runner
    from bench.fine_tuning import missing

    if not missing():  # otherwise only probes can run, no fine-tuning
        from bench.openmmlab.prepare import prepare_openmmlab

        prepare_openmmlab()

        import bench.openmmlab.hooks
        import bench.openmmlab.runner  # noqa: F401
finally:
    signal.signal(signal.SIGINT, HANDLER)  # the runs have this one
