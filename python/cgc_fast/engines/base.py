"""What every engine offers to the cluster: start an iteration, wait for events, read payloads, finish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cgc_fast.problems import Problem
from cgc_fast.supervisor import SignOfLife
from cgc_fast.worker import Visit

__all__ = ["Delivered", "Engine", "Event", "Job", "Lost", "Presence", "Ready"]


@dataclass(frozen=True)
class Job:
    """What an engine runs, the same for all iterations.

    Attributes
    ----------
    problem : Problem
        All samples; a worker is given a shard.
    factory : callable or None
        Called in a worker with its sample ranges (R, 2), instead of sending it a shard.
    walks : sequence of sequence of Visit
        The walk of each worker.
    sample_ranges : sequence of ndarray (R, 2)
        The samples that each worker must hold.
    slot_widths : ndarray of int64
        Values of the payload of each row of each cell, in the order of `Visit.slot`; the rows of cells that
        reach the last coordinate have room for the loss behind it.
    payload : dtype
        Of the payloads: float64, or float32, to which a worker rounds what it has computed in float64.
    """

    problem: Problem
    factory: Callable[[NDArray[np.int64]], Problem] | None
    walks: Sequence[Sequence[Visit]]
    sample_ranges: Sequence[NDArray[np.int64]]
    slot_widths: NDArray[np.int64]
    payload: np.dtype[Any] = np.dtype(np.float64)  # noqa: RUF009


class Delivered(NamedTuple):
    """A worker completed a visit. Times are seconds since the iteration began."""

    iteration: int
    worker: int
    slot: int
    finite: bool
    began_s: float
    ended_s: float


@dataclass(frozen=True)
class Lost:
    """A worker is gone."""

    worker: int
    exit_code: int | None
    traceback: str


@dataclass(frozen=True)
class Ready:
    """The successor of a worker that was lost is there. It waits for orders or the next iteration."""

    worker: int


Event = Delivered | Lost | Ready
Presence = Literal["there", "starting", "gone"]


class Engine(Protocol):
    """One iteration at a time: `start`, then `wait` until the master has enough, then `finish`.

    All methods are called from one thread at a time, but for `interrupt`.

    Attributes
    ----------
    start_s : float
        How long the slowest worker took to start, in seconds.
    """

    start_s: float

    def start(
        self,
        iteration: int,
        theta: NDArray[np.float64],
        cycle_times: NDArray[np.float64] | None,
        open_cells: NDArray[np.bool_],
        with_value: bool,
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
        open_cells : ndarray of bool (C,)
            Kept by the master: which cells are not decoded yet.
        with_value : bool
            The loss is asked for too.
        """

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        """Block until something happened; an empty list after the time-out or an `interrupt`."""

    def is_idle(self) -> bool:
        """Whether nothing can happen any more that `wait` could wait for."""

    def order(self, worker: int, visits: Sequence[Visit]) -> None:
        """Let a worker visit these too, in the iteration under way, before the rest of its walk."""

    def replace(self, worker: int) -> None:
        """Start a successor of a lost worker, in the background; `Ready` follows, or `Lost`."""

    def kill(self, worker: int) -> None:
        """End a worker that hangs; `Lost` follows."""

    def signs_of_life(self, *, reset: bool = False) -> Sequence[SignOfLife] | None:
        """Of each worker; None where no worker can hang. `reset` begins new longest times."""

    def presence(self) -> Sequence[Presence]:
        """Whether each worker is there, by what `wait` has told so far."""

    def process_ids(self) -> Sequence[int | None]:
        """Operating system ids of the workers; None where there is none."""

    def payload(self, worker: int, slot: int) -> NDArray[Any]:
        """View of a payload delivered in the iteration under way; valid until the next `start`."""

    def clock_s(self) -> float:
        """Seconds on the engine's clock."""

    def elapsed_s(self) -> float:
        """Seconds since the iteration began."""

    def finish(self, iteration: int) -> None:
        """End the iteration; workers that are late abandon it."""

    def interrupt(self) -> None:
        """Make a `wait` in another thread return now."""

    def close(self) -> None:
        """Release every process, descriptor and segment; may be called twice."""
