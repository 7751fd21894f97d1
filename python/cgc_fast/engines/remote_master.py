"""What masters that exchange messages with their workers have in common, however these travel (MPI, Ray)."""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cgc_fast.engines.base import Event, Job, Lost, Presence, Ready, WithoutFeedback
from cgc_fast.engines.signs import Hearing
from cgc_fast.errors import ClusterClosed, WorkerDied
from cgc_fast.interrupts import interrupts_postponed
from cgc_fast.supervisor import SignOfLife

__all__ = ["RemoteMaster", "RemoteRecord"]

_LOOK_S = 0.05  # how long to wait at a time for workers that take up another plan


class RemoteRecord:
    """What the master knows of a worker.

    `owed`: payloads, or sums, of the iteration under way that have not come. `behind`: it is told of the
    iteration when it has answered an earlier one.
    """

    def __init__(self) -> None:
        self.presence: Presence = "starting"
        self.process_id: int | None = None
        self.owed = 0
        self.behind = False


class RemoteMaster(WithoutFeedback, ABC):
    """The part of an `Engine` that does not depend on how messages travel."""

    start_s: float

    def __init__(self, job: Job) -> None:
        self._job = job
        self._closed = False
        self._interrupted = False
        self._running = False
        self._early: list[Event] = []
        self._waiting = threading.RLock()  # held while a thread waits for events
        self._iteration = 0
        self._cycle_times: NDArray[np.float64] | None = None
        self._began_s = time.monotonic()
        self._hearing = Hearing(len(job.walks))

    @property
    @abstractmethod
    def _records(self) -> Sequence[RemoteRecord]:
        """Of each worker."""

    @abstractmethod
    def _put(self, theta: NDArray[np.float64], with_value: bool) -> None:
        """Have what is sent in an iteration at hand."""

    @abstractmethod
    def _publish(self, worker: int) -> None:
        """Have a worker begin the iteration under way; as soon as it can, if it is too far behind."""

    @abstractmethod
    def _take_in(self, timeout_s: float) -> None:
        """Wait at most so long, or a moment, for something to come; what it says is added to `_early`."""

    @abstractmethod
    def _lose(self, worker: int, exit_code: int | None, text: str) -> Lost:
        """Forget a worker that is gone."""

    @abstractmethod
    def _send_plan(self, job: Job) -> None:
        """Tell all workers to take up another plan."""

    @abstractmethod
    def _outdated(self) -> set[int]:
        """Workers that are there and have not taken up the plan."""

    @abstractmethod
    def _release(self) -> None:
        """Let the workers go."""

    def start(
        self,
        iteration: int,
        theta: NDArray[np.float64],
        cycle_times: NDArray[np.float64] | None,
        open_cells: NDArray[np.bool_],
        with_value: bool,
    ) -> None:
        """Send theta to the workers that are there."""
        with interrupts_postponed():
            self._check_not_closed()
            self._began_s = time.monotonic()
            self._hearing.begin()
            self._cycle_times = cycle_times
            self._put(theta, with_value)
            self._begin(iteration)

    def _check_not_closed(self) -> None:
        if self._closed:
            raise ClusterClosed("the cluster is closed: make a new one")

    def _begin(self, iteration: int) -> None:
        self._iteration, self._running = iteration, True
        for worker, record in enumerate(self._records):
            record.owed = 0
            if record.presence == "there":
                self._publish(worker)

    def _wait_until_ready(self) -> None:
        """Raises `WorkerDied` if one fails before it is ready."""
        waiting = set(range(len(self._job.walks)))
        while waiting:
            for event in self.wait():
                if isinstance(event, Lost):
                    raise WorkerDied(
                        f"worker {event.worker} failed before it was ready:\n{event.traceback}",
                        event.worker,
                        event.exit_code,
                        event.traceback,
                    )
                if isinstance(event, Ready):
                    waiting.discard(event.worker)
        self.start_s = time.monotonic() - self._began_s

    def _check_open(self) -> None:
        if self._closed:  # by another thread, or by a signal handler
            raise ClusterClosed("the cluster was closed while an iteration was under way")

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        """Take in what comes until something happened."""
        until_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        with self._waiting, self._hearing.listening():
            while not self._early:
                self._check_open()
                self._take_in(max(0.0, until_s - time.monotonic()))
                if not self._early and (self._was_interrupted() or time.monotonic() >= until_s):
                    return []
            events, self._early = self._early, []
            return events

    def _was_interrupted(self) -> bool:
        """Whether somebody wants the master back; asked once."""
        interrupted, self._interrupted = self._interrupted, False
        return interrupted

    def interrupt(self) -> None:
        """Make a `wait` in another thread return soon."""
        self._interrupted = True

    def replan(self, job: Job, patience_s: Sequence[float]) -> None:
        """Tell the workers, and wait until each has taken the plan up or is given up."""
        with interrupts_postponed(), self._waiting, self._hearing.listening():
            self._check_not_closed()
            self._send_plan(job)
            began_s = time.monotonic()
            while self._outdated():
                self._take_in(_LOOK_S)
                for worker in self._outdated():
                    if time.monotonic() > began_s + patience_s[worker]:
                        self.kill(worker)
            # What came late belongs to the old plan.
            self._early = [event for event in self._early if isinstance(event, Lost | Ready)]

    def kill(self, worker: int) -> None:
        """Give up a worker that hangs, or cannot be reached."""
        self._early.append(self._lose(worker, None, "it does not answer"))

    def is_idle(self) -> bool:
        """Whether no worker is there or being started."""
        return not self._early and all(record.presence == "gone" for record in self._records)

    def signs_of_life(self, *, reset: bool = False) -> Sequence[SignOfLife] | None:
        """By when they were heard."""
        return self._hearing.signs(reset=reset)

    def presence(self) -> Sequence[Presence]:
        """Whether each worker is there."""
        return [record.presence for record in self._records]

    def process_ids(self) -> Sequence[int | None]:
        """Operating system ids, each on the host of its worker."""
        return [record.process_id if record.presence == "there" else None for record in self._records]

    def clock_s(self) -> float:
        """Of this host."""
        return time.monotonic()

    def elapsed_s(self) -> float:
        """Seconds since `start` was called."""
        return time.monotonic() - self._began_s

    def close(self) -> None:
        """Let the workers go; may be called twice."""
        with interrupts_postponed():
            if self._closed:
                return
            self._closed, self._running = True, False
            self.interrupt()
            with self._waiting:  # whoever waited has left
                pass
            self._release()
