"""A worker's side of one iteration as a pure state machine.

It says what to do next (pass forward over samples, derive a slice, deliver a payload) and is told how long
that took; no process, clock, I/O or problem is touched. Work is cut into slices so that a worker whose
iteration is over can drop what it is doing within about a millisecond.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cgc_fast.arguments import Cost

if TYPE_CHECKING:  # worker processes start sooner without
    from cgc_fast.schedule import Schedule

__all__ = [
    "SLICE_S",
    "SOON_S",
    "STRIDE_S",
    "Deliver",
    "Derive",
    "Forward",
    "Idle",
    "Instruction",
    "SendSum",
    "Stride",
    "Visit",
    "Worker",
    "visit_of",
    "visits_of",
]

SLICE_S = 1e-3
# What is made in a stride leaves together, so nothing that is complete waits for longer.
STRIDE_S = 0.5 * SLICE_S
# A payload that is followed by another within this time leaves it to that one to wake the master.
SOON_S = 5e-5


@dataclass(frozen=True)
class Visit:
    """One row of one cell, ready for the problem: which coordinates, which samples, which coefficients.

    Attributes
    ----------
    cell, row, slot : int
        Which row; `slot` numbers all rows of all cells.
    start, stop : int
        Coordinates.
    ranges, coefficients : ndarray
        As `Problem.derivatives` takes them.
    cycles : float
        Its own work in cycles, if all its samples have been touched before.
    forward_cycles : float
        What touching all of them takes.
    arrival_cycles : float
        As part of a walk: the work of this and all earlier visits.
    spans : tuple of (float, float)
        The samples of the ranges before they are rounded to indices: what the cost model counts.
    pairs, height : tuple of (int, int), int
        The ranges once more, to go through one by one, and how many samples they hold.
    """

    cell: int
    row: int
    slot: int
    start: int
    stop: int
    ranges: NDArray[np.int64]
    coefficients: NDArray[np.float64]
    cycles: float = 0.0
    forward_cycles: float = 0.0
    arrival_cycles: float = 0.0
    spans: tuple[tuple[float, float], ...] = ()
    pairs: tuple[tuple[int, int], ...] = field(init=False)
    height: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", tuple((int(low), int(high)) for low, high in self.ranges))
        object.__setattr__(self, "height", sum(high - low for low, high in self.pairs))

    def forward_cycles_of(self, samples: float) -> float:
        """What touching so many of its samples takes; they need not be whole ones, see `spans`."""
        height = sum(high - low for low, high in self.spans)
        return self.forward_cycles * samples / height if height > 0.0 else 0.0


class Forward(NamedTuple):
    """Instruction: pass forward over these sample ranges (R, 2)."""

    ranges: NDArray[np.int64]


class Derive(NamedTuple):
    """Instruction: compute coordinates [start, stop) of the payload of a visit.

    From the beginning of the visit to its end, without a gap. So the host may count them in another order, as
    it does where the problem has a compiled kernel.
    """

    visit: Visit
    start: int
    stop: int


class Deliver(NamedTuple):
    """Instruction: the payload of a visit is complete; hand it over, not before `due_s`.

    `due_s`, in seconds since the iteration began, is 0 without an emulated cycle time. `soon`: the next
    payload follows within microseconds.
    """

    visit: Visit
    due_s: float
    soon: bool = False


class Stride(NamedTuple):
    """Instruction of `Worker.stride`: complete these visits one after the other, then deliver them together.

    Together they are expected to take no longer than `STRIDE_S`. `forwards`: of each visit, the samples to
    pass forward over before it, None if there are none.
    """

    visits: Sequence[Visit]
    forwards: Sequence[NDArray[np.int64] | None]


class Idle(NamedTuple):
    """Instruction: nothing to do until the next iteration, or until somebody asks for more."""


class SendSum(NamedTuple):
    """Instruction under claim: hand over the sum of these visits, maybe none: nothing is left to claim.

    It was begun in this generation of the worker, see `claims`.
    """

    visits: tuple[Visit, ...]
    generation: int


Instruction = Forward | Derive | Deliver | SendSum | Idle


def visit_of(
    schedule: Schedule, cell: int, row: int, samples: int, cost: Cost, arrival_cycles: float = 0.0
) -> Visit:
    """Translate one row of a cell into a visit over sample indices."""
    tile = schedule.cells[cell]
    ranges, coefficients = schedule.support(cell, row, samples)
    spans = cost.samples * schedule.spans(cell, row)
    height = float((spans[:, 1] - spans[:, 0]).sum())
    return Visit(
        cell=cell,
        row=row,
        slot=int(schedule.row_offsets[cell]) + row,
        start=tile.start,
        stop=tile.stop,
        ranges=ranges,
        coefficients=coefficients,
        cycles=height * tile.width * cost.cycles_per_derivative,
        forward_cycles=height * cost.forward_cycles,
        arrival_cycles=arrival_cycles,
        spans=tuple((float(low), float(high)) for low, high in spans),
    )


def visits_of(
    schedule: Schedule,
    worker: int,
    samples: int,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
    *,
    arrival_cycles: NDArray[np.float64] | None = None,
) -> list[Visit]:
    """Translate the walk of one worker into visits over sample indices.

    `arrival_cycles` may be passed if `schedule.arrival_cycles` has been computed already: it covers all
    workers at once.
    """
    cost = Cost(samples, cycles_per_derivative, forward_cycles)
    if arrival_cycles is None:
        arrival_cycles = schedule.arrival_cycles(samples, cycles_per_derivative, forward_cycles)[worker]
    walk = schedule.walks[worker]
    return [
        visit_of(schedule, int(c), int(row), samples, cost, float(cycles))
        for c, row, cycles in zip(walk.cells, walk.rows, arrival_cycles, strict=True)
    ]


class Worker:
    """Walk through the visits of one worker, and through what it is told to visit besides.

    A payload that was delivered is never written again in its iteration, whatever is ordered: the master may
    be reading it.

    Parameters
    ----------
    visits : sequence of Visit
        In the order of the walk.
    sliceable : bool
        The problem's cost is proportional to samples x coordinates, so that narrow slices cost nothing
        extra; otherwise a cell is computed in one call.
    forward : bool
        The problem can pass forward over samples ahead of their first derivative.
    """

    def __init__(self, visits: Sequence[Visit], *, sliceable: bool = False, forward: bool = False) -> None:
        self.visits = visits
        self.sliceable = sliceable
        self.forward = forward
        self.iteration = 0
        self._active = False
        self._orders: deque[tuple[Visit, float]] = deque()
        # Work per second, learned; the first slices are small. Unit of forward: samples; of derive: samples
        # times coordinates.
        self._rate = {Forward: 1e4, Derive: 1e7}
        self._last: tuple[type, float] | None = None
        # Of the walk from its beginning, visit by visit: samples touched first, and work, (len + 1,).
        self._forwards, new = _first_touches(visits, forward=forward)
        self._samples_before = _sums_before(new)
        self._work_before = _sums_before([visit.height * (visit.stop - visit.start) for visit in visits])

    def begin(self, iteration: int, cycle_time: float | None = None, *, walk: bool = True) -> None:
        """Start a new iteration.

        Parameters
        ----------
        iteration : int
            Its number.
        cycle_time : float, optional
            The speed to emulate, in seconds per cycle.
        walk : bool
            False: do only what is ordered.
        """
        self.iteration = iteration
        self._cycle_time = cycle_time
        self._active = True
        self._next_of_walk = 0 if walk else len(self.visits)
        self._orders.clear()
        self._visit: Visit | None = None
        self._was_ordered = False
        self._visited: set[int] = set()  # slots
        self._rejected: set[int] = set()  # of these, not finite
        self._passed: set[tuple[int, int]] = set()
        self._forward_queue: list[tuple[int, int]] = []
        # The emulated clock: what is done so far was due when; the walk is late by so much.
        self._done_s = 0.0
        self._late_s = 0.0
        self._due_s = 0.0

    def resume(self, iteration: int, delivered: int, next_coordinate: int) -> None:
        """Go on with an iteration without an emulated cycle time that somebody else has walked so far.

        Parameters
        ----------
        iteration : int
            Its number.
        delivered : int
            So many visits of the walk, from the first on, are delivered.
        next_coordinate : int
            Of the visit under way: up to here its payload is computed.
        """
        self.begin(iteration)
        for visit in self.visits[:delivered]:
            self._visited.add(visit.slot)
            self._passed.update(visit.pairs)
        self._next_of_walk = delivered
        if delivered < len(self.visits) and self._enter():
            self._next_coordinate = next_coordinate

    def order(self, visits: Iterable[Visit], now_s: float = 0.0) -> None:
        """Visit these too, before the rest of the walk, unless they are done already.

        `now_s`: seconds since the iteration began.
        """
        self._orders.extend((visit, now_s) for visit in visits)
        self._was_ordered = self._was_ordered or bool(self._orders)

    def rejected(self, visit: Visit) -> None:
        """Tell that the payload just delivered was not finite: it is visited again if that is ordered."""
        self._rejected.add(visit.slot)

    def abandon(self) -> None:
        """Drop the iteration: the next instruction is `Idle`."""
        self._active = False

    @property
    def is_active(self) -> bool:
        """Whether an iteration is under way that was not abandoned."""
        return self._active

    def next(self) -> Instruction:
        """What to do now. Every instruction is given once."""
        if not self._active:
            return Idle()
        if self._visit is None and not self._enter():
            return Idle()
        visit = self._visit
        assert visit is not None
        if self._forward_queue:
            return Forward(self._next_forward())
        if self._next_coordinate < visit.stop:
            return self._next_derive(visit)
        self._visit = None
        return Deliver(visit, self._due_s, self._is_next_soon())

    def stride(self) -> Stride | None:
        """What to do now, if it is visits that are over in a moment, maybe one; else see `next`.

        Not with an emulated cycle time, nor in an iteration in which anything was ordered. The host says with
        `strode` how many it made, and how long they took.
        """
        begin = self._next_of_walk
        if self._visit is not None or self._was_ordered or self._cycle_time is not None or not self._active:
            return None
        if not self.sliceable or begin == len(self.visits):
            return None
        end = self._end_of_stride(begin)
        if end == begin:
            return None
        return Stride(self.visits[begin:end], self._forwards[begin:end])

    def strode(self, visits: Sequence[Visit], forward_s: float, derive_s: float) -> None:
        """Tell that these visits of a stride were delivered, and how long the two kinds of work took."""
        begin = self._next_of_walk
        end = self._next_of_walk = begin + len(visits)
        self._visited.update([visit.slot for visit in visits])
        for visit in visits:
            self._passed.update(visit.pairs)
        for kind, before, elapsed_s in (
            (Forward, self._samples_before, forward_s),
            (Derive, self._work_before, derive_s),
        ):
            self._learn(kind, before[end] - before[begin], elapsed_s)

    def _end_of_stride(self, begin: int) -> int:
        """Behind the last visit of the walk that is likely to be over within a stride."""
        samples, work = self._samples_before, self._work_before
        passing, deriving = 1.0 / self._rate[Forward], 1.0 / self._rate[Derive]
        most_s = STRIDE_S + passing * samples[begin] + deriving * work[begin]

        def after_s(end: int) -> float:
            return passing * samples[end] + deriving * work[end]

        length = len(self.visits)
        if after_s(length) <= most_s:
            return length
        return bisect_right(range(length + 1), most_s, lo=begin + 1, key=after_s) - 1

    def completed(self, elapsed_s: float) -> None:
        """Tell how long the last `Forward` or `Derive` took; later slices are sized by it."""
        if self._last is not None:
            self._learn(*self._last, elapsed_s)
        self._last = None

    def _learn(self, kind: type, work: float, elapsed_s: float) -> None:
        if work > 0 and elapsed_s > 0:
            # Half old, half new: follows a machine that changes speed, and forgives one hiccup.
            self._rate[kind] = 0.5 * self._rate[kind] + 0.5 * work / elapsed_s

    def _enter(self) -> bool:
        """Begin the next visit; False if there is none."""
        while self._orders and self._is_done(self._orders[0][0]):
            self._orders.popleft()
        self._skip_visited()
        if self._orders:
            visit, ordered_s = self._orders.popleft()
            self._due_s = self._due_of_order(visit, ordered_s)
        elif self._next_of_walk < len(self.visits):
            visit = self.visits[self._next_of_walk]
            self._next_of_walk += 1
            self._due_s = self._due_of_walk(visit)
        else:
            return False
        self._visit = visit
        self._visited.add(visit.slot)
        self._rejected.discard(visit.slot)
        self._next_coordinate = visit.start
        for pair in visit.pairs:
            if pair not in self._passed:
                self._passed.add(pair)
                if self.forward and visit.start < visit.stop:
                    self._forward_queue.append(pair)
        return True

    def _is_done(self, visit: Visit) -> bool:
        return visit.slot in self._visited and visit.slot not in self._rejected

    def _skip_visited(self) -> None:
        """Pass over visits of the walk that were made because they were ordered."""
        visits = self.visits
        while self._next_of_walk < len(visits) and visits[self._next_of_walk].slot in self._visited:
            self._next_of_walk += 1

    def _is_next_soon(self) -> bool:
        """Whether a payload without a due time follows at once, in one slice and with no forward pass."""
        self._skip_visited()
        if self._orders or self._next_of_walk >= len(self.visits) or self._cycle_time is not None:
            return False
        visit = self.visits[self._next_of_walk]
        if self.forward and not self._passed.issuperset(visit.pairs):
            return False
        work = visit.height * (visit.stop - visit.start)
        return self.sliceable and work < self._rate[Derive] * SOON_S

    def _next_forward(self) -> NDArray[np.int64]:
        low, high = self._forward_queue[0]
        stop = min(high, low + max(1, int(self._rate[Forward] * SLICE_S)))
        if stop == high:
            del self._forward_queue[0]
        else:
            self._forward_queue[0] = (stop, high)
        self._last = (Forward, float(stop - low))
        return np.array([[low, stop]], dtype=np.int64)

    def _next_derive(self, visit: Visit) -> Derive:
        start = self._next_coordinate
        stop = visit.stop
        if self.sliceable and visit.height > 0:
            stop = min(stop, start + max(1, int(self._rate[Derive] * SLICE_S / visit.height)))
            self._last = (Derive, float((stop - start) * visit.height))
        else:
            self._last = None
        self._next_coordinate = stop
        return Derive(visit, start, stop)

    def _due_of_walk(self, visit: Visit) -> float:
        if self._cycle_time is None or visit.arrival_cycles == 0:
            return 0.0
        if math.isinf(self._cycle_time):
            return math.inf
        self._done_s = self._cycle_time * visit.arrival_cycles + self._late_s
        return self._done_s

    def _due_of_order(self, visit: Visit, ordered_s: float) -> float:
        if self._cycle_time is None:
            return 0.0
        cycles = visit.cycles
        if visit.height > 0:
            untouched = sum(high - low for low, high in visit.pairs if (low, high) not in self._passed)
            cycles += visit.forward_cycles * untouched / visit.height
        if cycles == 0:
            return 0.0
        begin_s = max(self._done_s, ordered_s)
        due_s = begin_s + self._cycle_time * cycles
        # What is left of the walk comes later by the order, and by the time that there was nothing to do.
        self._late_s += due_s - self._done_s
        self._done_s = due_s
        return due_s


def _first_touches(
    visits: Sequence[Visit], *, forward: bool
) -> tuple[list[NDArray[np.int64] | None], list[int]]:
    """Of each visit, the ranges (R, 2) to pass forward over before it, None for none, and their samples."""
    forwards: list[NDArray[np.int64] | None] = []
    samples: list[int] = []
    passed: set[tuple[int, int]] = set()
    for visit in visits:
        new = (
            [pair for pair in visit.pairs if pair not in passed]
            if forward and visit.start < visit.stop
            else []
        )
        passed.update(visit.pairs)
        forwards.append(np.array(new, dtype=np.int64) if new else None)
        samples.append(sum(high - low for low, high in new))
    return forwards, samples


def _sums_before(values: Sequence[int]) -> list[int]:
    return [0, *accumulate(values)]
