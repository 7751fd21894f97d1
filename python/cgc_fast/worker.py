"""A worker's side of one iteration as a pure state machine.

It says what to do next (pass forward over samples, derive a slice, deliver a payload) and is told how long
that took; no process, clock, I/O or problem is touched. Work is cut into slices so that a worker whose
iteration is over can drop what it is doing within about a millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cgc_fast.schedule import Schedule

__all__ = ["Deliver", "Derive", "Forward", "Idle", "Instruction", "Visit", "Worker", "visits_of"]

SLICE_S = 1e-3


@dataclass(frozen=True)
class Visit:
    """One stop of a walk, ready for the problem: which coordinates, which samples, which coefficients.

    `arrival_cycles` is the work of this and all earlier visits, in cycles.
    """

    start: int
    stop: int
    ranges: NDArray[np.int64]
    coefficients: NDArray[np.float64]
    arrival_cycles: float


@dataclass(frozen=True)
class Forward:
    """Instruction: pass forward over these sample ranges (R, 2)."""

    ranges: NDArray[np.int64]


@dataclass(frozen=True)
class Derive:
    """Instruction: compute coordinates [start, stop) of the payload of a visit."""

    visit: int
    start: int
    stop: int


@dataclass(frozen=True)
class Deliver:
    """Instruction: the payload of a visit is complete; hand it over, not before `due_s`.

    `due_s`, in seconds since the iteration began, is 0 without an emulated cycle time.
    """

    visit: int
    due_s: float


@dataclass(frozen=True)
class Idle:
    """Instruction: nothing to do until the next iteration."""


Instruction = Forward | Derive | Deliver | Idle


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
    if arrival_cycles is None:
        arrival_cycles = schedule.arrival_cycles(samples, cycles_per_derivative, forward_cycles)[worker]
    walk = schedule.walks[worker]
    visits = []
    for c, row, cycles in zip(walk.cells, walk.rows, arrival_cycles, strict=True):
        cell = schedule.cells[c]
        ranges, coefficients = schedule.support(int(c), int(row), samples)
        visits.append(Visit(cell.start, cell.stop, ranges, coefficients, float(cycles)))
    return visits


class Worker:
    """Walk through the visits of one worker.

    Parameters
    ----------
    visits : sequence of Visit
        In the order of the walk.
    sliceable : bool
        The problem's cost is proportional to samples × coordinates, so that narrow slices cost nothing
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
        # Work per second, learned; the first slices are small. Unit of forward: samples; of derive: samples
        # times coordinates.
        self._rate = {Forward: 1e4, Derive: 1e7}
        self._last: tuple[type, float] | None = None

    def begin(self, iteration: int, cycle_time: float | None = None) -> None:
        """Start a new iteration; `cycle_time`, in seconds per cycle, is the speed to emulate."""
        self.iteration = iteration
        self._cycle_time = cycle_time
        self._active = True
        self._visit = 0
        self._passed: set[tuple[int, int]] = set()
        self._enter()

    def abandon(self) -> None:
        """Drop the iteration: the next instruction is `Idle`."""
        self._active = False

    def next(self) -> Instruction:
        """What to do now. Every instruction is given once."""
        if not self._active or self._visit == len(self.visits):
            return Idle()
        visit = self.visits[self._visit]
        if self._forward_queue:
            return Forward(self._next_forward())
        if self._next_coordinate < visit.stop:
            return self._next_derive(visit)
        deliver = Deliver(self._visit, self._due_s(visit))
        self._visit += 1
        self._enter()
        return deliver

    def completed(self, elapsed_s: float) -> None:
        """Tell how long the last `Forward` or `Derive` took; later slices are sized by it."""
        if self._last is not None and elapsed_s > 0:
            kind, work = self._last
            # Half old, half new: follows a machine that changes speed, and forgives one hiccup.
            self._rate[kind] = 0.5 * self._rate[kind] + 0.5 * work / elapsed_s
        self._last = None

    def _enter(self) -> None:
        self._forward_queue: list[tuple[int, int]] = []
        if self._visit == len(self.visits):
            return
        visit = self.visits[self._visit]
        self._next_coordinate = visit.start
        self._height = int(sum(high - low for low, high in visit.ranges))
        if self.forward and visit.start < visit.stop:
            for low, high in visit.ranges:
                if (int(low), int(high)) not in self._passed:
                    self._passed.add((int(low), int(high)))
                    self._forward_queue.append((int(low), int(high)))

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
        if self.sliceable and self._height > 0:
            stop = min(stop, start + max(1, int(self._rate[Derive] * SLICE_S / self._height)))
            self._last = (Derive, float((stop - start) * self._height))
        else:
            self._last = None
        self._next_coordinate = stop
        return Derive(self._visit, start, stop)

    def _due_s(self, visit: Visit) -> float:
        if self._cycle_time is None or visit.arrival_cycles == 0:
            return 0.0
        return math.inf if math.isinf(self._cycle_time) else self._cycle_time * visit.arrival_cycles
