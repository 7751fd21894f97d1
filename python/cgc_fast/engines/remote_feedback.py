"""As `remote_worker`, for workers that learn of each other: an `AnnounceWorker` or a `ClaimWorker` inside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import MessageWalk
from cgc_fast.claims import Board, ClaimTable, WorkerBoard
from cgc_fast.engines.base import Visited
from cgc_fast.engines.board_messages import AskingBoard
from cgc_fast.engines.remote_worker import Assignment, Mailbox, Output, RemoteWorker, Sum
from cgc_fast.feedback_worker import AnnounceWorker, ClaimWorker, FeedbackWorker
from cgc_fast.problems import Problem
from cgc_fast.worker import SLICE_S, SendSum, Visit

__all__ = ["AnnounceRemoteWorker", "ClaimRemoteWorker", "make_remote_worker"]

Ask = Callable[[NDArray[np.int64]], Sequence[int] | None]


def make_remote_worker(
    problem: Problem,
    assignment: Assignment,
    place: Callable[[Visit], NDArray[Any]],
    mailbox: Mailbox,
    ask: Ask,
    generation: int = 0,
    compiled: MessageWalk | None = None,
) -> tuple[RemoteWorker, ClaimTable | None]:
    """Make the worker that does what is assigned; and, under announce, where what it is told goes.

    Parameters as those of `RemoteWorker`, and, under claim, those of `AskingBoard`.
    """
    walk = assignment.walk
    if assignment.feedback == "claim":
        return ClaimRemoteWorker(problem, walk, mailbox, AskingBoard(ask, generation)), None
    if assignment.feedback == "announce":
        table = ClaimTable(1, assignment.cells)
        return AnnounceRemoteWorker(problem, walk, place, mailbox, WorkerBoard(table, 0)), table
    return RemoteWorker(problem, walk, place, mailbox, compiled), None


class _FeedbackRemoteWorker(RemoteWorker):
    """What both have in common: a visit is dropped as soon as the board says that it is taken."""

    _worker: FeedbackWorker
    _patience_s = SLICE_S

    def _look(self) -> bool:
        if not super()._look():
            return False
        now_s = self._elapsed_s()
        if self._worker.look(now_s):
            return True
        self._visit_began_s = now_s
        return False


class AnnounceRemoteWorker(_FeedbackRemoteWorker):
    """Parameters as those of `RemoteWorker`, and the board."""

    def __init__(
        self,
        problem: Problem,
        walk: Sequence[Visit],
        place: Callable[[Visit], NDArray[Any]],
        mailbox: Mailbox,
        board: Board,
    ) -> None:
        self._board = board
        super().__init__(problem, walk, place, mailbox)

    def _machine(self, walk: Sequence[Visit], *, sliceable: bool, forward: bool) -> AnnounceWorker:
        return AnnounceWorker(walk, self._board, sliceable=sliceable, forward=forward)

    def _deliver(self, visit: Visit, finite: bool) -> Iterator[Output]:
        if finite:
            self._worker.delivered()
        return super()._deliver(visit, finite)


class ClaimRemoteWorker(_FeedbackRemoteWorker):
    """Parameters as those of `RemoteWorker`, and the board. No payload leaves it, only sums."""

    _worker: ClaimWorker

    def __init__(self, problem: Problem, walk: Sequence[Visit], mailbox: Mailbox, board: Board) -> None:
        self._board = board
        coordinates = int(problem.coordinates)
        self._scratch = np.empty(coordinates + 1)
        self._sum = np.zeros(coordinates + 1)
        self._visits: list[Visited] = []  # in the sum
        super().__init__(problem, walk, self._scratch_of, mailbox)

    def _machine(self, walk: Sequence[Visit], *, sliceable: bool, forward: bool) -> ClaimWorker:
        return ClaimWorker(walk, self._board, sliceable=sliceable, forward=forward)

    def _scratch_of(self, visit: Visit) -> NDArray[np.float64]:
        loss = int(visit.stop == len(self._sum) - 1)
        return self._scratch[: visit.stop - visit.start + loss]

    def _deliver(self, visit: Visit, finite: bool) -> Iterator[Output]:
        if not finite:
            yield from super()._deliver(visit, False)
        elif self._worker.committed():
            if self._worker.sum_size == 1:
                self._sum[:] = 0.0
                self._visits = []
            width = visit.stop - visit.start
            self._sum[visit.start : visit.stop] += self._scratch[:width]
            if self._with_value and visit.stop == len(self._sum) - 1:
                self._sum[-1] += self._scratch[width]
            now_s = self._elapsed_s()
            self._visits.append(Visited(visit.slot, self._visit_began_s, now_s))
            self._visit_began_s = now_s

    def _sum_of(self, instruction: SendSum) -> Iterator[Sum]:
        self._answered = True
        self._spoke_s = time.monotonic()
        visits = self._visits if instruction.visits else []
        yield Sum(instruction.generation, visits, self._sum)
