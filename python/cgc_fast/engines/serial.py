"""The serial engine: all workers in this process, on a virtual clock driven by drawn cycle times.

For tests, debugging and tiny problems. A worker with cycle time T delivers a visit T · (its work so far, in
cycles) after the iteration began, which is the model that `simulate` evaluates.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import all_finite
from cgc_fast.engines.base import Delivered, Event, Job, Presence, WithoutFeedback
from cgc_fast.payloads import loss_of, place_for_values, round_values
from cgc_fast.supervisor import SignOfLife
from cgc_fast.worker import Deliver, Derive, Forward, Idle, Instruction, Visit, Worker

__all__ = ["SerialEngine"]


class SerialEngine(WithoutFeedback):
    """Run the workers' state machines one after another in the order of virtual time."""

    start_s = 0.0

    def __init__(self, job: Job) -> None:
        self._problem = job.problem
        self._forward = getattr(job.problem, "forward", None)
        self._value = getattr(job.problem, "value", None)
        self._workers = self._machines(job)
        self._payload_type = job.payload
        self._payloads: dict[tuple[int, int], NDArray[Any]] = {}
        self._began_s = 0.0
        self._now_s = 0.0
        self._previous_s = [0.0] * len(job.walks)
        self._iteration = 0
        self._slot_widths = job.slot_widths
        self._due: list[tuple[float, int, int, Deliver, list[Instruction]]] = []
        self._pushed = 0

    def _machines(self, job: Job) -> Sequence[Worker]:
        return [Worker(walk, forward=self._forward is not None) for walk in job.walks]

    def start(
        self,
        iteration: int,
        theta: NDArray[np.float64],
        cycle_times: NDArray[np.float64] | None,
        open_cells: NDArray[np.bool_],
        with_value: bool,
    ) -> None:
        """Begin an iteration; without cycle times every worker takes 1 s per cycle."""
        self._iteration = iteration
        self._open_cells = open_cells
        self._with_value = with_value
        self._began_s += self._now_s
        self._now_s = 0.0
        self._previous_s = [0.0] * len(self._workers)
        self._payloads.clear()
        self._due = []
        theta = theta.copy()  # the caller may overwrite his while he streams
        theta.flags.writeable = False
        self._problem.begin(theta, iteration)
        for index, worker in enumerate(self._workers):
            worker.begin(iteration, 1.0 if cycle_times is None else float(cycle_times[index]))
            self._schedule_next(index)

    def _schedule_next(self, index: int) -> None:
        # The work is put off until its due time: a visit whose cell is decoded by then is not computed.
        work: list[Instruction] = []
        while True:
            instruction = self._workers[index].next()
            if isinstance(instruction, Idle):
                return
            if isinstance(instruction, Deliver):
                if not math.isinf(instruction.due_s):
                    self._pushed += 1
                    heapq.heappush(self._due, (instruction.due_s, index, self._pushed, instruction, work))
                return
            work.append(instruction)

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        """Advance the virtual clock to the next delivery, or by the time-out."""
        if timeout_s is not None and (not self._due or self._due[0][0] > self._now_s + timeout_s):
            self._now_s += timeout_s
            return []
        if self.is_idle():
            return []
        due_s, index, _, deliver, work = heapq.heappop(self._due)
        self._now_s = max(self._now_s, due_s)
        began_s, self._previous_s[index] = self._previous_s[index], self._now_s
        finite = True
        if self._open_cells[deliver.visit.cell]:
            finite = self._compute(index, deliver.visit, work)
            if not finite:
                self._workers[index].rejected(deliver.visit)
        if not any(entry[1] == index for entry in self._due):
            self._schedule_next(index)
        return [Delivered(self._iteration, index, deliver.visit.slot, finite, began_s, self._now_s)]

    def order(self, worker: int, visits: Sequence[Visit]) -> None:
        """Let a worker visit these too."""
        self._workers[worker].order(visits, self._now_s)
        if not any(entry[1] == worker for entry in self._due):
            self._schedule_next(worker)

    def replan(self, job: Job, patience_s: Sequence[float]) -> None:
        """Take other walks."""
        self._workers = self._machines(job)
        self._slot_widths, self._payload_type = job.slot_widths, job.payload
        self._due = []

    def replace(self, worker: int) -> None:
        """Never asked for: no worker is a process."""
        raise NotImplementedError("the serial engine has no processes")

    def kill(self, worker: int) -> None:
        """Never asked for: no worker is a process."""
        raise NotImplementedError("the serial engine has no processes")

    def signs_of_life(self, *, reset: bool = False) -> Sequence[SignOfLife] | None:
        """None: no worker can hang."""
        return None

    def presence(self) -> Sequence[Presence]:
        """All are there."""
        return ["there"] * len(self.process_ids())

    def _compute(self, index: int, visit: Visit, work: list[Instruction]) -> bool:
        payload = np.empty(int(self._slot_widths[visit.slot]), self._payload_type)
        width = visit.stop - visit.start
        values = place_for_values(payload, width)
        for instruction in work:
            if isinstance(instruction, Forward):
                assert self._forward is not None
                self._forward(instruction.ranges)
            elif isinstance(instruction, Derive):
                out = values[instruction.start - visit.start : instruction.stop - visit.start]
                self._problem.derivatives(
                    instruction.start, instruction.stop, visit.ranges, visit.coefficients, out
                )
        round_values(values, payload)
        finite = True
        if self._with_value and len(payload) > width:
            assert self._value is not None
            loss = loss_of(payload, width)
            loss[0] = self._value(visit.ranges, visit.coefficients)
            finite = math.isfinite(loss[0])
        self._payloads[index, visit.slot] = payload
        return finite and all_finite(payload[:width])

    def process_ids(self) -> Sequence[int | None]:
        """None: no worker is a process."""
        return [None] * len(self._workers)

    def payload(self, worker: int, slot: int) -> NDArray[Any]:
        """View of a delivered payload."""
        return self._payloads[worker, slot]

    def is_idle(self) -> bool:
        """Whether no delivery is due."""
        return not self._due

    def clock_s(self) -> float:
        """Virtual seconds since the engine was made."""
        return self._began_s + self._now_s

    def elapsed_s(self) -> float:
        """Virtual seconds since the iteration began."""
        return self._now_s

    def finish(self, iteration: int) -> None:
        """Drop what the workers have not delivered."""
        self._due = []
        for worker in self._workers:
            worker.abandon()

    def interrupt(self) -> None:
        """Nothing to do: `wait` never blocks."""

    def close(self) -> None:
        """Nothing to release but memory."""
        self._payloads.clear()
