"""The serial engine for schedules with feedback: what the workers learn of each other they learn at once."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cgc_fast.claims import ClaimTable, WorkerBoard
from cgc_fast.engines.base import Delivered, Event, Job, OwnBoard, Summed, Visited
from cgc_fast.engines.serial import SerialEngine
from cgc_fast.feedback_worker import AnnounceWorker, ClaimWorker, FeedbackWorker
from cgc_fast.worker import Deliver, Idle, Instruction, SendSum, Visit

__all__ = ["SerialFeedbackEngine"]


class SerialFeedbackEngine(OwnBoard, SerialEngine):
    """Run the workers of an `announce` or `claim` schedule in the order of virtual time.

    A worker has at most one entry among what is due: the end of the visit that it is in. Whatever is put on
    the board at a moment may drop visits of others, which go on at that very moment.
    """

    def __init__(self, job: Job) -> None:
        self._board = ClaimTable(len(job.walks), job.cells)
        self._sums = np.zeros((len(job.walks), job.problem.coordinates + 1))
        self._visits: list[list[Visited]] = [[] for _ in job.walks]  # of each worker's sum
        self._current = [0] * len(job.walks)  # number of each worker's entry; others are void
        self._events: list[Event] = []
        super().__init__(job)

    def _machines(self, job: Job) -> Sequence[FeedbackWorker]:
        kind = ClaimWorker if job.feedback == "claim" else AnnounceWorker
        has_forward = self._forward is not None
        self._feedback_workers = [
            kind(walk, WorkerBoard(self._board, worker), forward=has_forward)
            for worker, walk in enumerate(job.walks)
        ]
        return self._feedback_workers

    def start(
        self,
        iteration: int,
        theta: NDArray[np.float64],
        cycle_times: NDArray[np.float64] | None,
        open_cells: NDArray[np.bool_],
        with_value: bool,
    ) -> None:
        """Begin an iteration; without cycle times every worker takes 1 s per cycle."""
        self._current = [0] * len(self._workers)
        self._visits = [[] for _ in self._workers]
        self._events = []
        super().start(iteration, theta, cycle_times, open_cells, with_value)

    def _schedule_next(self, index: int) -> None:
        self._current[index] = 0
        work: list[Instruction] = []
        while True:
            instruction = self._workers[index].next()
            if isinstance(instruction, Idle):
                return
            if isinstance(instruction, SendSum):
                visits, self._visits[index] = self._visits[index], []
                self._events.append(Summed(self._iteration, index, instruction.generation, visits))
            elif isinstance(instruction, Deliver):
                self._pushed += 1
                self._current[index] = self._pushed
                if not math.isinf(instruction.due_s):
                    entry = (instruction.due_s, index, self._pushed, instruction, work)
                    heapq.heappush(self._due, entry)
                return
            else:
                work.append(instruction)

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        """Advance the virtual clock to the next event, or by the time-out."""
        until_s = math.inf if timeout_s is None else self._now_s + timeout_s
        while not self._events and self._drop_void() and self._due[0][0] <= until_s:
            self._end_visit()
        if not self._events and not math.isinf(until_s):
            self._now_s = until_s
        events, self._events = self._events, []
        return events

    def is_idle(self) -> bool:
        """Whether no visit ends any more."""
        return not self._events and not self._drop_void()

    def _drop_void(self) -> bool:
        """Drop entries of visits that were dropped; whether any is left."""
        while self._due and self._due[0][2] != self._current[self._due[0][1]]:
            heapq.heappop(self._due)
        return bool(self._due)

    def _end_visit(self) -> None:
        due_s, index, _, deliver, work = heapq.heappop(self._due)
        self._now_s = max(self._now_s, due_s)
        worker, visit = self._feedback_workers[index], deliver.visit
        began_s, self._previous_s[index] = self._previous_s[index], self._now_s
        if not self._compute(index, visit, work):
            worker.rejected(visit)
            self._events.append(Delivered(self._iteration, index, visit.slot, False, began_s, self._now_s))
        elif not isinstance(worker, ClaimWorker):
            worker.delivered()
            self._events.append(Delivered(self._iteration, index, visit.slot, True, began_s, self._now_s))
        elif worker.committed():
            self._add(index, visit, first=worker.sum_size == 1)
            self._visits[index].append(Visited(visit.slot, began_s, self._now_s))
        self._go_on({index})

    def _add(self, index: int, visit: Visit, *, first: bool) -> None:
        total, payload = self._sums[index], self._payloads[index, visit.slot]
        if first:
            total[:] = 0.0
        width = visit.stop - visit.start
        total[visit.start : visit.stop] += payload[:width]
        if self._with_value and len(payload) > width:
            total[-1] += payload[width]

    def _go_on(self, free: set[int]) -> None:
        """Let workers go on that have nothing under way, or what is taken."""
        for index, worker in enumerate(self._feedback_workers):
            if not worker.look(self._now_s):
                self._previous_s[index] = self._now_s
                free.add(index)
        for index in sorted(free):
            self._schedule_next(index)

    def replan(self, job: Job, patience_s: Sequence[float]) -> None:
        """Take other walks, and a board for other cells."""
        self._board = ClaimTable(len(job.walks), job.cells)
        super().replan(job, patience_s)

    def announce(self, iteration: int, cells: Sequence[int]) -> None:
        """Put the cells on the board; visits to them are dropped."""
        super().announce(iteration, cells)
        self._go_on(set())

    def sum_of(self, worker: int) -> NDArray[np.float64]:
        """View of the worker's sum."""
        total: NDArray[np.float64] = self._sums[worker]
        return total

    def order(self, worker: int, visits: Sequence[Visit]) -> None:
        """Let a worker visit these too."""
        self._workers[worker].order(visits, self._now_s)
        if self._current[worker] == 0:
            self._schedule_next(worker)
