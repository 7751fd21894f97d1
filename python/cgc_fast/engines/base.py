"""What every engine offers to the cluster: start an iteration, wait for events, read payloads, finish.

Schedules with feedback ask for more, see `Engine.announce` and the methods
behind it. Every
worker has a board (`claims.Board`): what it may know of the others. Its machine, an `AnnounceWorker` or a
`ClaimWorker`, asks the board; whoever hosts the machine

- calls `look` between slices, and at least once a slice while it waits for the due time of a `Deliver`;
- at that time hands the payload over and says `delivered` (announce), or asks `committed` and adds the
  payload to the worker's sum if that is so (claim); where the payload is not finite it reports it as
  `Delivered`, not finite, and says `rejected`, under both;
- hands over the sum at `SendSum`, which `wait` reports as `Summed`. The first visit of a sum overwrites what
  is there; it may only do so when the master has read the sum before (its cells are announced) or refuses it
  (the worker's generation is another).

Under announce the board needs no more than the announced cells. Under claim, claims and commitments of all
workers must go through one place, and a commitment must be known there before `commit` answers; a board over
messages may claim several cells in one message and hand them out one by one. A board that hears of
announcements and commitments late costs work, not exactness, as long as `commit` itself is answered by that
one place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # worker processes, which import the package of engines, start sooner without
    from cgc_fast._core import Board, Collector
    from cgc_fast.claims import ClaimTable
    from cgc_fast.problems import Problem
    from cgc_fast.schedule import Feedback
    from cgc_fast.supervisor import SignOfLife
    from cgc_fast.worker import Visit

__all__ = [
    "CellOutline",
    "Collecting",
    "Delivered",
    "Engine",
    "Event",
    "Job",
    "Lost",
    "OwnBoard",
    "Presence",
    "Ready",
    "Replanning",
    "Summed",
    "Visited",
    "WithoutFeedback",
]


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
    feedback : {"none", "announce", "claim"}
        What workers learn of each other.
    cells : int
        How many the schedule has; asked for with feedback only.
    payload : dtype
        Of the payloads: float64, or float32, to which a worker rounds what it has computed in float64.
    """

    problem: Problem
    factory: Callable[[NDArray[np.int64]], Problem] | None
    walks: Sequence[Sequence[Visit]]
    sample_ranges: Sequence[NDArray[np.int64]]
    slot_widths: NDArray[np.int64]
    feedback: Feedback = "none"
    cells: int = 0
    payload: np.dtype[Any] = np.dtype(np.float64)  # noqa: RUF009


class Delivered(NamedTuple):
    """A worker completed a visit. Times are seconds since the iteration began."""

    iteration: int
    worker: int
    slot: int
    finite: bool
    began_s: float
    ended_s: float


class Visited(NamedTuple):
    """A visit in a sum. Times are seconds since the iteration began."""

    slot: int
    began_s: float
    ended_s: float


class Summed(NamedTuple):
    """A worker handed over the sum of what it committed in one generation, maybe nothing.

    It says that nothing more is to be expected of the worker but for what it is ordered to visit. A sum of a
    generation that `withdraw` has ended is reported with another number than the current one, or without
    visits.
    """

    iteration: int
    worker: int
    generation: int
    visits: Sequence[Visited]


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


Event = Delivered | Summed | Lost | Ready


class WithoutFeedback:
    """The part of an engine that only schedules with feedback ask for, where it runs none of them."""

    def announce(self, iteration: int, cells: Sequence[int]) -> None:
        """Never asked for."""
        raise NotImplementedError("the schedule has no feedback")

    def withdraw(self, worker: int) -> int:
        """Never asked for."""
        raise NotImplementedError("the schedule has no feedback")

    def committed_by(self, iteration: int, cell: int) -> int | None:
        """Never asked for."""
        raise NotImplementedError("the schedule has no feedback")

    def sum_of(self, worker: int) -> NDArray[np.float64]:
        """Never asked for."""
        raise NotImplementedError("the schedule has no feedback")


class OwnBoard:
    """What masters of schedules with feedback ask for, where whoever has it has the board itself."""

    _board: Board | ClaimTable

    def announce(self, iteration: int, cells: Sequence[int]) -> None:
        """Put the cells on the board."""
        for cell in cells:
            self._board.announce(iteration, cell)

    def withdraw(self, worker: int) -> int:
        """Count the worker's generation up."""
        self._board.withdraw(worker)
        return self._board.generation(worker)

    def committed_by(self, iteration: int, cell: int) -> int | None:
        """As the board has it at this moment."""
        worker = self._board.committed_by(iteration, cell)
        return None if worker < 0 else worker


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
        """Block until something happened; an empty list after the time-out or an `interrupt`.

        What a worker handed over before it was lost comes before its `Lost`.
        """

    def announce(self, iteration: int, cells: Sequence[int]) -> None:
        """Let the workers know that these cells are decoded; asked for with feedback only.

        The master has read what they were decoded from, sums included.
        """

    def withdraw(self, worker: int) -> int:
        """End the generation of a worker that is lost or suspected: the new one's number; under claim only.

        What it has committed and is not announced does not hold any longer. A sum of it that was not taken by
        the master yet never will be.
        """

    def committed_by(self, iteration: int, cell: int) -> int | None:
        """Whose commitment of a cell holds, if anybody's: it will be in a sum of that worker; under claim."""

    def sum_of(self, worker: int) -> NDArray[np.float64]:
        """View of the sum (L + 1,) of the last `Summed` of a worker; valid until its cells are announced.

        Zero where none of its visits was. The loss, if it was asked for, is behind the last coordinate.
        """

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


class CellOutline(NamedTuple):
    """What the compiled core knows of a cell.

    `required`: rows that any decoding needs; `plain`: any one row decodes, with coefficient 1; `empty`:
    decoded from the start; `blocks`: those that it lies over.
    """

    start: int
    stop: int
    rows: int
    required: int
    plain: bool
    empty: bool
    blocks: list[int]


@runtime_checkable
class Collecting(Protocol):
    """What an engine offers besides if the compiled core can carry out its ordinary iterations.

    Either `start` and then `wait`, as above, or `start_collecting` and then `collect`; what was collected
    comes out of `collected_events` for whoever goes on with `wait`.
    """

    def lay_out_collector(self, cells: Sequence[CellOutline], blocks: NDArray[np.int64]) -> None:
        """Tell what the schedule is like, once; blocks (B, 2)."""

    def running_collector(self) -> Collector:
        """What `collect` runs: its record, and the cells that wait for their decoding vector."""

    def start_collecting(
        self,
        iteration: int,
        theta: NDArray[np.float64],
        gradient: NDArray[np.float64],
        with_value: bool,
        seen_within_s: float,
        until_s: float | None,
    ) -> str | None:
        """Begin an iteration as `start` does, and with a moment of it collect until then, as `collect`.

        The reason to come back, "begun" without a moment. None, and nothing has happened, if a worker is
        missing, or has neither taken up the last iteration nor been seen so recently, or if theta is not
        finite.
        """

    def collect(self, until_s: float, each_block: bool) -> str:
        """Work until a moment of the iteration, or a reason to come back: see `Collector.collect`."""

    def end_collecting(self, iteration: int) -> bool:
        """End the iteration as `finish` does, and have it counted.

        False if it did not begin, or the engine is at its end.
        """

    def take_ended(self) -> NDArray[np.int64] | None:
        """What was counted since the last call: `Collector.take_ended`; None after the end of the engine."""

    def collected_events(self) -> list[Event]:
        """Everything that arrived in the iteration so far, in its order."""

    def signs_at_start(self) -> Sequence[SignOfLife]:
        """As `signs_of_life` would have been at `start_collecting`; once."""

    def record(
        self, *, at_once: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int] | None:
        """Arrivals, moments of cells and of blocks (`Collector.record`), and when the iteration began.

        None after the end of the engine or, with `at_once`, while another thread collects.
        """


@runtime_checkable
class Replanning(Protocol):
    """What an engine offers besides if its workers can be given other walks."""

    def replan(self, job: Job, patience_s: Sequence[float]) -> None:
        """Run another job from now on, between two iterations, with the same workers, samples and feedback.

        Returns when every worker that is there has taken it up. Who has not within its patience is killed;
        `Lost` follows. Successors that are being started are started again.
        """
