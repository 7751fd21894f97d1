"""The serial engine: all workers in this process, on a virtual clock driven by drawn cycle times.

For tests, debugging and tiny problems. A worker with cycle time T delivers a visit T · (its work so far, in
cycles) after the iteration began, which is the model that `simulate` evaluates.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import all_finite
from cgc_fast.engines.base import Delivered, Event, Job
from cgc_fast.worker import Deliver, Derive, Forward, Idle, Instruction, Worker

__all__ = ["SerialEngine"]


class SerialEngine:
    """Run the workers' state machines one after another in the order of virtual time."""

    def __init__(self, job: Job) -> None:
        self._problem = job.problem
        self._visits = job.visits
        self._forward = getattr(job.problem, "forward", None)
        self._workers = [Worker(visits, forward=self._forward is not None) for visits in job.visits]
        self._payloads: dict[tuple[int, int], NDArray[np.float64]] = {}
        self._now_s = 0.0
        self._previous_s = [0.0] * len(job.visits)
        self._iteration = 0
        self._due: list[tuple[float, int, Deliver, list[Instruction]]] = []

    def start(
        self,
        iteration: int,
        theta: NDArray[np.float64],
        cycle_times: NDArray[np.float64] | None,
        open_cell_of_visit: Callable[[int, int], bool],
    ) -> None:
        """Begin an iteration at virtual time 0; without cycle times every worker takes 1 s per cycle."""
        self._iteration = iteration
        self._is_open = open_cell_of_visit
        self._now_s = 0.0
        self._previous_s = [0.0] * len(self._visits)
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
                    heapq.heappush(self._due, (instruction.due_s, index, instruction, work))
                return
            work.append(instruction)

    def wait(self) -> list[Event]:
        """Advance the virtual clock to the next delivery."""
        if not self._due:
            return []
        self._now_s, index, deliver, work = heapq.heappop(self._due)
        began_s, self._previous_s[index] = self._previous_s[index], self._now_s
        finite = True
        if self._is_open(index, deliver.visit):
            finite = self._compute(index, deliver.visit, work)
        self._schedule_next(index)
        return [Delivered(self._iteration, index, deliver.visit, finite, began_s, self._now_s)]

    def _compute(self, index: int, visit_index: int, work: list[Instruction]) -> bool:
        visit = self._visits[index][visit_index]
        payload = np.empty(visit.stop - visit.start)
        for instruction in work:
            if isinstance(instruction, Forward):
                assert self._forward is not None
                self._forward(instruction.ranges)
            elif isinstance(instruction, Derive):
                out = payload[instruction.start - visit.start : instruction.stop - visit.start]
                self._problem.derivatives(
                    instruction.start, instruction.stop, visit.ranges, visit.coefficients, out
                )
        self._payloads[index, visit_index] = payload
        return bool(all_finite(payload))

    def payload(self, worker: int, visit: int) -> NDArray[np.float64]:
        """View of a delivered payload."""
        return self._payloads[worker, visit]

    def elapsed_s(self) -> float:
        """Virtual seconds since the iteration began."""
        return self._now_s

    def finish(self, iteration: int) -> None:
        """Drop what the workers have not delivered."""
        self._due = []
        for worker in self._workers:
            worker.abandon()

    def close(self) -> None:
        """Nothing to release but memory."""
        self._payloads.clear()
