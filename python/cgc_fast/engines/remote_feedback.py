"""As `remote_worker`, for workers that learn of each other: an `AnnounceWorker` or a `ClaimWorker` inside."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.claims import Board
from cgc_fast.engines.base import Visited
from cgc_fast.engines.remote_worker import ALIVE_S, Delivery, Mailbox, RemoteWorker, Sum
from cgc_fast.feedback_worker import AnnounceWorker, ClaimWorker, FeedbackWorker
from cgc_fast.problems import Problem
from cgc_fast.worker import SLICE_S, SendSum, Visit

__all__ = ["AnnounceRemoteWorker", "ClaimRemoteWorker"]


class _FeedbackRemoteWorker(RemoteWorker):
    """What both have in common: a visit is dropped as soon as the board says that it is taken."""

    _worker: FeedbackWorker

    def _look(self) -> None:
        super()._look()
        self._look_at_board()

    def _look_at_board(self) -> bool:
        """Whether the visit under way is still wanted."""
        now_s = self._elapsed_s()
        if self._worker.look(now_s):
            return True
        self._visit_began_s = now_s
        return False

    def _hand_over(self, visit: Visit, due_s: float, finite: bool) -> Iterator[Delivery | None]:
        while self._elapsed_s() < due_s:
            yield from self._sign_of_life()
            self._mailbox.wait(min(ALIVE_S, SLICE_S, self._began_s + due_s - time.monotonic()))
            super()._look()
            if not self._worker.is_active or not self._look_at_board():
                return
        if not finite:
            yield self._delivery(visit, False)
        else:
            yield from self._complete_visit(visit)

    def _complete_visit(self, visit: Visit) -> Iterator[Delivery | None]:
        raise NotImplementedError


class AnnounceRemoteWorker(_FeedbackRemoteWorker):
    """Parameters as those of `RemoteWorker`, and the board."""

    def __init__(
        self,
        problem: Problem,
        walk: Sequence[Visit],
        place: Any,
        mailbox: Mailbox,
        board: Board,
    ) -> None:
        self._board = board
        super().__init__(problem, walk, place, mailbox)

    def _machine(self, walk: Sequence[Visit], *, sliceable: bool, forward: bool) -> AnnounceWorker:
        return AnnounceWorker(walk, self._board, sliceable=sliceable, forward=forward)

    def _complete_visit(self, visit: Visit) -> Iterator[Delivery | None]:
        self._worker.delivered()
        yield self._delivery(visit, True)


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

    def _complete_visit(self, visit: Visit) -> Iterator[Delivery | None]:
        if self._worker.committed():
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
        yield from ()

    def _sum_of(self, instruction: SendSum) -> Iterator[Sum]:
        self._answered = True
        self._spoke_s = time.monotonic()
        visits = self._visits if instruction.visits else []
        yield Sum(instruction.generation, visits, self._sum)
