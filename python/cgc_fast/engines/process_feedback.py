"""The process engine for schedules with feedback: one more segment, the board, that all processes map.

    board segment      --- announce, withdraw ---------> looked at between slices
                       <-- claims, commitments --------- compare-and-swap among the workers
    payload segment w  <-- under claim: one sum -------- and the visits that are in it

A sum is one entry in the worker's ring, numbered behind the rows of all cells by the worker's generation, and
"finite" if it is not empty. So the master knows without looking into the segment whether it counts; if it
does, the worker leaves the sum alone until its cells are announced.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import Board
from cgc_fast.engines.base import Delivered, Event, Job, OwnBoard, Summed, Visited
from cgc_fast.engines.feedback_loop import SUM, VISITS, sum_widths
from cgc_fast.engines.processes import ProcessEngine
from cgc_fast.engines.worker_process import FeedbackConfiguration, WorkerConfiguration
from cgc_fast.memory import Segment

__all__ = ["ProcessFeedbackEngine"]

# When everything is committed all workers hand over their sums at about the same time. Where they are more
# than the cores, a master that adds up the first ones keeps a core from the last.
_GATHER_S = 1e-4


class ProcessFeedbackEngine(OwnBoard, ProcessEngine):
    """Start the workers of an `announce` or `claim` schedule."""

    def __init__(self, job: Job) -> None:
        self._claims = job.feedback == "claim"
        super().__init__(self._with_sums(job))

    def _with_sums(self, job: Job) -> Job:
        self._slots = len(job.slot_widths)
        if not self._claims:
            return job
        return replace(job, slot_widths=sum_widths(job.problem.coordinates, job.cells))

    def _lay_out(self, job: Job) -> None:
        super()._lay_out(job)
        self._lay_out_board(job)

    def _lay_out_board(self, job: Job) -> None:
        self._board_memory = Segment(Board.bytes(self._workers, job.cells), label="board")
        self._segments.append(self._board_memory)
        self._board = Board(self._board_memory.memory, self._workers, job.cells)
        self._all_cells = np.arange(job.cells)

    def replan(self, job: Job, patience_s: Sequence[float]) -> None:
        """Make a new board, too."""
        super().replan(self._with_sums(job), patience_s)

    def _replace_segments(self, job: Job) -> None:
        super()._replace_segments(job)
        self._board_memory.close()
        self._segments.remove(self._board_memory)
        self._lay_out_board(job)

    def _plan_descriptors(self, worker: int) -> list[int]:
        return [*super()._plan_descriptors(worker), self._board_memory.descriptor]

    def _configuration(self, worker: int, problem: bytes | None = None) -> WorkerConfiguration:
        feedback = FeedbackConfiguration(
            claims=self._claims,
            cells=self._job.cells,
            slots=self._slots,
            board_descriptor=self._board_memory.descriptor,
            board_size=self._board_memory.size,
        )
        return replace(super()._configuration(worker, problem), feedback=feedback)

    def _take_in(self, fired: Sequence[int]) -> list[Event]:
        now = self._iteration
        if self._claims and not self._signal.is_over(now) and self._board.all_taken(now, self._all_cells):
            time.sleep(_GATHER_S)
        return super()._take_in(fired)

    def _events_of(self, arrival: Delivered) -> list[Event]:
        generation = arrival.slot - self._slots
        if arrival.iteration == 0 or generation < 0:
            return super()._events_of(arrival)
        worker = arrival.worker
        visits: list[Visited] = []
        is_current = arrival.iteration == self._iteration and generation == self._board.generation(worker)
        if is_current and arrival.finite:  # else there is none, and the record may be another's already
            record = self.payload(worker, VISITS)
            entries = record[1 : 1 + 3 * int(record[0])].reshape(-1, 3).tolist()
            visits = [
                Visited(int(slot), 1e-9 * (began_ns - self._began_ns), 1e-9 * (ended_ns - self._began_ns))
                for slot, began_ns, ended_ns in entries
            ]
        return [Summed(arrival.iteration, worker, generation, visits)]

    def sum_of(self, worker: int) -> NDArray[np.float64]:
        """Read-only view into the memory that the worker wrote."""
        return self.payload(worker, SUM)

    def _release(self) -> None:
        super()._release()
        for name in ("_board", "_board_memory"):
            self.__dict__.pop(name, None)
