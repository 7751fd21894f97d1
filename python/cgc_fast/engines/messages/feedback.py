"""The same for schedules with feedback: what workers learn of each other goes through rank 0.

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
from cgc_fast.engines.board_messages import answer, make_table
from cgc_fast.engines.messages.master import MessageEngine
from cgc_fast.engines.messages.protocol import HEADER_VALUES, WORD_VALUES, Notice, Tag, Word, read_header
from cgc_fast.engines.messages.session import Session
from cgc_fast.engines.messages.transport import Message
from cgc_fast.interrupts import interrupts_postponed
from cgc_fast.worker import Visit

__all__ = ["AnnounceMessageEngine", "ClaimMessageEngine", "make_message_engine"]


def make_message_engine(job: Job, session: Session, *, share_memory: bool = True) -> MessageEngine:
    """Start the engine of a schedule, with or without feedback; see `MessageEngine`."""
    kinds = {"none": MessageEngine, "announce": AnnounceMessageEngine, "claim": ClaimMessageEngine}
    return kinds[job.feedback](job, session, share_memory=share_memory)


class AnnounceMessageEngine(MessageEngine):
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


class ClaimMessageEngine(OwnBoard, MessageEngine):
    """Answer questions, and receive sums."""

    _board: Board
    _longest_sleep_s = 2e-4  # a worker may wait for an answer

    def _lay_out(self, job: Job) -> None:
        self._board = make_table(self._workers, job.cells)
        self._last_of_earlier_plans = self._iteration
        self._sums: dict[int, NDArray[np.float64]] = {}  # worker -> its last one
        self._sum_came = False
        self._answers = [1 for _ in job.walks]
        self._set_room_aside(job, [() for _ in job.walks])

    def _generation(self, worker: int) -> int:
        return self._board.generation(worker)

    def _answers_to_orders(self, visits: Sequence[Visit]) -> int:
        return 1

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        """Receive the next sum: the master has read that of the last call."""
        self._sum_came = False
        return super().wait(timeout_s)

    def _is_full(self) -> bool:
        return self._sum_came and self._running

    def _take_other(self, message: Message) -> None:
        if message.tag == Tag.SUM:
            self._take_sum(message.source - 1, message.buffer)
        else:
            self._take_question(message.source - 1, message.buffer.view(np.int64))

    def _take_sum(self, worker: int, message: NDArray[np.float64]) -> None:
        iteration, generation, count = map(int, read_header(message.data)[:3])
        self._answered(worker, iteration)
        visits: list[Visited] = []
        if iteration == self._iteration and generation == self._board.generation(worker):
            total = HEADER_VALUES + 3 * count
            records = message[HEADER_VALUES:total].reshape(-1, 3).tolist()
            visits = [Visited(int(slot), began_s, ended_s) for slot, began_s, ended_s in records]
            self._sums[worker] = message[total:]
        self._sum_came = True
        self._early.append(Summed(iteration, worker, generation, visits))

    def _take_question(self, worker: int, message: NDArray[np.int64]) -> None:
        question = message[1:]
        iteration = int(question[1])
        self._hear(worker, iteration)
        if iteration <= self._last_of_earlier_plans:  # about cells that are no more: the new plan tells it
            return
        reply = np.array([message[0], *answer(self._board, worker, question)], dtype=np.int64)
        self._session.pending.send(reply, worker + 1, Tag.BOARD)

    def _take_word(self, worker: int, word: NDArray[np.float64]) -> None:
        kind, iteration, slot = map(int, word[:WORD_VALUES].tolist())
        if kind != Word.NOT_FINITE:
            super()._take_word(worker, word)
            return
        self._hear(worker, iteration)
        now_s = self.elapsed_s()
        self._early.append(Delivered(iteration, worker, slot, False, now_s, now_s))

    def sum_of(self, worker: int) -> NDArray[Any]:
        """View of the message that it came in."""
        return self._sums[worker]
