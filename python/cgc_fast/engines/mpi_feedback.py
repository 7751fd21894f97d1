"""The MPI engine for schedules with feedback: what workers learn of each other goes through rank 0.

Under announce rank 0 tells all workers which cells are decoded. Under claim it has the board: workers ask it,
one question at a time, and it answers whenever it looks for messages. See `board_messages`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import Board
from cgc_fast.engines.base import Delivered, Event, Job, OwnBoard, Summed, Visited
from cgc_fast.engines.board_messages import QUESTION, answer, make_table
from cgc_fast.engines.mpi import Incoming, MpiEngine
from cgc_fast.engines.mpi_worker import HEADER, Notice, Tag, Word, read_header
from cgc_fast.interrupts import interrupts_postponed
from cgc_fast.worker import Visit

__all__ = ["MpiAnnounceEngine", "MpiClaimEngine", "MpiFeedbackEngine"]

_SUM, _QUESTION = -1, -2  # in the place of a slot
_ASKED = 2  # values before a question: its number and length


def MpiFeedbackEngine(job: Job) -> MpiEngine:
    """Start the engine of an `announce` or a `claim` schedule."""
    return MpiClaimEngine(job) if job.feedback == "claim" else MpiAnnounceEngine(job)


class MpiAnnounceEngine(MpiEngine):
    """Tell the workers what is decoded."""

    def _lay_out(self, job: Job) -> None:
        super()._lay_out(job)
        self._announced: list[int] = []  # and nobody was told yet
        self._cells_of_walk = [frozenset(visit.cell for visit in walk) for walk in job.walks]

    def announce(self, iteration: int, cells: Sequence[int]) -> None:
        """Have it told before the next wait."""
        self._announced += cells

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        """Tell each worker which cells of its walk are decoded."""
        announced, self._announced = self._announced, []
        if announced and self._running:
            with interrupts_postponed():
                for worker, rank in enumerate(self._ranks):
                    if rank.presence != "there" or rank.iteration != self._iteration:
                        continue
                    if cells := [cell for cell in announced if cell in self._cells_of_walk[worker]]:
                        self._notify(worker, Notice.ANNOUNCE, np.array(cells, dtype=np.int64))
        return super().wait(timeout_s)

    def finish(self, iteration: int) -> None:
        """Drop what was not told: the iteration is over."""
        self._announced = []
        super().finish(iteration)


class MpiClaimEngine(OwnBoard, MpiEngine):
    """Answer questions, and receive sums."""

    _board: Board
    _longest_sleep_s = 2e-4  # a worker may wait for an answer

    def _lay_out(self, job: Job) -> None:
        self._board = make_table(self._workers, job.cells)

    def _expect_deliveries(self) -> None:
        cells = self._job.cells
        for worker in range(self._workers):
            total = np.empty(HEADER + 3 * cells + self._coordinates + 1)
            self._index[worker, _SUM] = len(self._requests)
            self._expect(total, worker, _SUM, Tag.SUM)
            question = np.empty(_ASKED + QUESTION + cells, dtype=np.int64)
            self._expect(question, worker, _QUESTION, Tag.BOARD)

    def _generation(self, worker: int) -> int:
        return self._board.generation(worker)

    def _answers_to_walk(self, worker: int) -> int:
        return 1

    def _expect_orders(self, worker: int, visits: Sequence[Visit]) -> int:
        return 1

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        """Listen for sums again: the master has read those of the last call."""
        with self._waiting:
            self._restart()
        return super().wait(timeout_s)

    def _arrived(self, index: int) -> list[Event]:
        incoming = self._incoming[index]
        if incoming.slot == _SUM:
            self._idle.append(index)
            return [self._take_sum(incoming)]
        if incoming.slot == _QUESTION:
            self._take_question(incoming)
            self._listen(incoming)
            return []
        return super()._arrived(index)

    def _take_sum(self, incoming: Incoming) -> Summed:
        worker = incoming.worker
        iteration, generation, count = map(int, read_header(incoming.bytes)[:3])
        self._hear(worker, iteration)
        if iteration == self._ranks[worker].iteration:
            self._ranks[worker].owed -= 1
        visits: list[Visited] = []
        if iteration == self._iteration and generation == self._board.generation(worker):
            records = incoming.buffer[HEADER : HEADER + 3 * count].reshape(-1, 3).tolist()
            visits = [Visited(int(slot), began_s, ended_s) for slot, began_s, ended_s in records]
        return Summed(iteration, worker, generation, visits)

    def _take_question(self, incoming: Incoming) -> None:
        number, length = incoming.buffer[:_ASKED].tolist()
        question = incoming.buffer[_ASKED : _ASKED + length]
        worker = incoming.worker
        self._hear(worker, int(question[1]))
        reply = np.array([number, *answer(self._board, worker, question)], dtype=np.int64)
        self._keep([(sent, reply) for sent in self._send(reply, worker, Tag.BOARD)])

    def _take_word(self, incoming: Incoming) -> list[Event]:
        kind, iteration, slot = map(int, incoming.header.tolist())
        if kind != Word.NOT_FINITE:
            return super()._take_word(incoming)
        self._hear(incoming.worker, iteration)
        now_s = self.elapsed_s()
        return [Delivered(iteration, incoming.worker, slot, False, now_s, now_s)]

    def sum_of(self, worker: int) -> NDArray[Any]:
        """View of the buffer that it arrived in."""
        buffer = self._incoming[self._index[worker, _SUM]].buffer
        return buffer[HEADER + 3 * self._job.cells :]
