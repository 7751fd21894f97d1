"""What every engine offers to the cluster: start an iteration, wait for events, read payloads, finish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cgc_fast.problems import Problem
from cgc_fast.worker import Visit

__all__ = ["Delivered", "Engine", "Event", "Job", "Lost"]


@dataclass(frozen=True)
class Job:
    """What an engine runs, the same for all iterations.

    Attributes
    ----------
    problem : Problem
        All samples; a worker is given a shard.
    factory : callable or None
        Called in a worker with its sample ranges (R, 2), instead of sending it a shard.
    visits : sequence of sequence of Visit
        The walk of each worker.
    sample_ranges : sequence of ndarray (R, 2)
        The samples that each worker must hold.
    """

    problem: Problem
    factory: Callable[[NDArray[np.int64]], Problem] | None
    visits: Sequence[Sequence[Visit]]
    sample_ranges: Sequence[NDArray[np.int64]]


@dataclass(frozen=True)
class Delivered:
    """A worker completed a visit. Times are seconds since the iteration began."""

    iteration: int
    worker: int
    visit: int
    finite: bool
    began_s: float
    ended_s: float


@dataclass(frozen=True)
class Lost:
    """A worker is gone for good."""

    worker: int
    exit_code: int | None
    traceback: str


Event = Delivered | Lost


class Engine(Protocol):
    """One iteration at a time: `start`, then `wait` until the master has enough, then `finish`."""

    def start(
        self,
        iteration: int,
        theta: NDArray[np.float64],
        cycle_times: NDArray[np.float64] | None,
        open_cell_of_visit: Callable[[int, int], bool],
    ) -> None:
        """Begin an iteration.

        Parameters
        ----------
        iteration : int
            Larger than any before.
        theta : ndarray (L,)
            Copied where it must outlive the call.
        cycle_times : ndarray (N,) or None
            Speeds to emulate, seconds per cycle.
        open_cell_of_visit : callable
            (worker, visit) -> whether its cell is still open, as the master knows now.
        """

    def wait(self) -> list[Event]:
        """Block until something happened; an empty list only if nothing can happen any more."""

    def payload(self, worker: int, visit: int) -> NDArray[np.float64]:
        """View of a delivered payload of the iteration under way; valid until the next `start`."""

    def elapsed_s(self) -> float:
        """Seconds since the iteration began, on the engine's clock."""

    def finish(self, iteration: int) -> None:
        """End the iteration; workers that are late abandon it."""

    def close(self) -> None:
        """Release every process, descriptor and segment; may be called twice."""
