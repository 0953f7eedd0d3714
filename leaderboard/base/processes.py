"""Processes that must not outlive the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading


def loader_context() -> str | None:
    """How data loader processes start: by forking where the system can, however this process was started.

    In a process that a fork server started, the default would be that server, and every epoch would begin with the
    import of PyTorch in each loader process: seconds, which is more than an epoch of a few hundred small images takes.
    """
    return "fork" if "fork" in multiprocessing.get_all_start_methods() else None


def end_with_parent() -> None:
    """Exit at once when the process that started this one is gone, for whatever reason.

    Where a fork server started this process, the one that counts is the process that asked the server to do so.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
