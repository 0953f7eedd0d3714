"""Stopping a training run: after Ctrl-C or SIGTERM the step ends, its state is saved, and then the process does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from leaderboard.base.errors import Interrupted


class StopRequest:
    """Whether a signal has asked this process to stop, and which."""

    number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def take(self, number: int, frame: FrameType | None) -> None:
        """The signals' handler. A second Ctrl-C does not wait for the step.

        A second SIGTERM changes nothing: who stops a group of processes may send it beside the terminal's SIGINT.
        """
        if self.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number

    def interrupted(self, what: str, then: str = "continue with --resume") -> Interrupted:
        """What a run raises that stops for the signal (of several processes one may not have got it)."""
        return Interrupted(f"stopped {what}: {then}", self.number or signal.SIGINT)

    @contextmanager
    def while_loading(self, out: Path) -> Iterator[None]:
        """Inside it, loading processes may end by the signal, too, which PyTorch answers with an error at any moment.

        A step may then be half done: what the last checkpoint in `out` holds is what there is.
        """
        try:
            yield
        except RuntimeError as error:
            if not self or "DataLoader worker" not in str(error):
                raise
            raise self.interrupted(f"between two checkpoints; the last one in {out} is kept") from error


@contextmanager
def stop_requests(stop: StopRequest | None = None) -> Iterator[StopRequest]:
    """Inside it, SIGINT and SIGTERM interrupt nothing and are noted (in `stop`, or in a request of its own).

    A signal that is ignored (`nohup`, a background job's SIGINT) stays so. Outside the main thread, which alone can
    handle signals, nothing is noted.
    """
    stop = StopRequest() if stop is None else stop
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                before[number] = handler
                signal.signal(number, stop.take)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
