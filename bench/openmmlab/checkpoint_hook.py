"""The hook that keeps a run's state and continues it."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from bench.clock import Clock
from bench.openmmlab.checkpoints import Checkpoints, random_states, restore_random_states
from bench.openmmlab.devices import gather_states, whole
from bench.openmmlab.feed import Feed
from bench.openmmlab.hooks import RecordHook
from leaderboard.base.errors import FileError
from pretrain.run.memory import peak_memory_mib
from pretrain.run.processes import Process
from pretrain.run.stopping import StopRequest


class CheckpointHook(Hook):
    """Continues a run where its checkpoint says, feeds it from there, and replaces the checkpoint now and then.

    A run that has a checkpoint also gets one after its last iteration: its evaluation may be stopped, too. A run
    that is asked to stop gets one after the iteration that it is in, and ends there. Of several devices that share a
    run the first one writes, with the random states of all.
    """

    # after all that changes the state of the run, so that an iteration is complete
    priority = "LOWEST"

    def __init__(
        self,
        checkpoints: Checkpoints,
        state: dict[str, Any] | None,
        recorder: RecordHook,
        clock: Clock,
        seed: int,
        stop: StopRequest,
        process: Process,
    ) -> None:
        self.checkpoints, self.state, self.recorder, self.clock, self.seed = checkpoints, state, recorder, clock, seed
        self.stop, self.process = stop, process
        self._any = state is not None
        self._mark = 0.0

    def before_train(self, runner: Runner) -> None:
        """Everything is built; what the checkpoint holds takes the place of what a run begins with."""
        state, loop = self.state, runner.train_loop
        done = 0 if state is None else state["iteration"]
        loop.dataloader_iterator = Feed(
            runner.train_dataloader, self.seed, done, (self.process.rank, self.process.world)
        )
        self._mark = time.perf_counter()
        if state is None:
            return
        loop._iter = done
        whole(runner.model).load_state_dict(state["model"])
        runner.optim_wrapper.load_state_dict(state["optimizer"])
        runner.optim_wrapper.initialize_count_status(runner.model, done, runner.max_iters)
        for scheduler, values in zip(runner.param_schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(values)
        # last: that the feed was made has drawn from PyTorch's generator
        restore_random_states([state["random"], *state.get("random_of_others", ())][self.process.rank])
        self.state = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Replace the checkpoint if it is time, and no gradient is being accumulated; end the run if it is to stop."""
        if not runner.optim_wrapper.should_update():
            return
        due = time.perf_counter() - self._mark >= self.checkpoints.seconds
        last = runner.iter + 1 == runner.max_iters and self._any
        stop = self.process.any(bool(self.stop))
        if not (stop or self.process.any(due or last)):
            return
        started = time.perf_counter()
        saved = self._save(runner)
        self._any = saved or self._any
        self._mark = time.perf_counter()
        self.recorder.leave_out(self._mark - started)
        self.recorder.record.checkpoint_seconds += self._mark - started
        if stop:
            kept = f"which is saved in {self.checkpoints.file}" if saved else "which could not be saved"
            what = f"after iteration {runner.iter + 1} of {runner.max_iters}, {kept}"
            raise self.stop.interrupted(what, "repeat the command to continue")

    def _save(self, runner: Runner) -> bool:
        record, log = self.recorder.record, self.recorder.log
        states = gather_states(random_states(), self.process)
        if not self.process.main:
            return True
        try:
            if log is not None:
                log.sync()  # the file of losses never ends before the checkpoint
        except FileError as error:
            print(f"no checkpoint after iteration {runner.iter + 1}: {error}", flush=True)
            return False
        memory = peak_memory_mib(next(runner.model.parameters()).device)
        return self.checkpoints.write(
            {
                "iteration": runner.iter + 1,
                "model": whole(runner.model).state_dict(),
                "optimizer": runner.optim_wrapper.state_dict(),
                "schedulers": [scheduler.state_dict() for scheduler in runner.param_schedulers],
                "random": states[0],
                "random_of_others": states[1:],
                "executed": asdict(record) | {"peak_memory_mib": max(memory, record.peak_memory_mib)},
                "seconds": self.clock.seconds,
                "wall_seconds": self.clock.total(),
            }
        )
