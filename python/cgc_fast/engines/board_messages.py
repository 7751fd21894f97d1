"""The board where workers and master exchange messages: a worker asks, and one place answers.

Under announce nobody asks: the master tells, and each worker keeps a table of its own. Under claim all claims
and commitments go through the place that has the table, one question at a time. To ask seldom, a commitment
claims the next cell in the same breath, and what is known of the cell under way is asked again only every few
milliseconds.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import Board

__all__ = ["MOST_CELLS", "QUESTION", "REPLY", "AskingBoard", "Question", "answer", "make_table"]

QUESTION, REPLY = 4, 4  # values of a question, before its cells, and of a reply
MOST_CELLS = 64  # candidates in a question for a cell that is free

# How old may be what is known of the cell under way: if nobody else has claimed it, and else, when the end of
# the iteration is near.
_RECENT_S, _CONTESTED_S = 5e-3, 5e-4


class Question:
    """Kinds of questions: (kind, iteration, generation, cell), and cells."""

    LOOK, CLAIM, CLAIM_AGAIN, COMMIT = range(4)


class _Reply(NamedTuple):
    """`found`: whether the cell is taken, or committed now, or the index of the cell claimed.

    `claimants` of the cell in question, or of the one claimed; `free`: with a commitment, index of the first
    of the cells that was free, and is claimed now.
    """

    found: int
    generation: int
    claimants: int
    free: int


def make_table(workers: int, cells: int) -> Board:
    """Make the table."""
    return Board(mmap.mmap(-1, Board.bytes(workers, cells)), workers, cells)


def answer(table: Board, worker: int, question: NDArray[np.int64]) -> tuple[int, int, int, int]:
    """Answer a worker's question."""
    kind, iteration, generation, cell = question[:QUESTION].tolist()
    cells = question[QUESTION:]
    claimants, free = 0, len(cells)
    if kind == Question.LOOK:
        found = int(table.is_taken(iteration, cell))
        claimants = table.claimants(iteration, cell)
    elif kind == Question.CLAIM:
        found = table.claim_free(iteration, cells, 0)
        claimants = 1
    elif kind == Question.CLAIM_AGAIN:
        found = table.claim_again(iteration, cells)
        claimants = table.claimants(iteration, int(cells[found])) if found >= 0 else 0
    else:
        found = int(table.commit(iteration, worker, generation, cell))
        free = table.claim_free(iteration, cells, 0)
    return _Reply(found, table.generation(worker), claimants, free)


class AskingBoard:
    """The `Board` of a worker under claim.

    Parameters
    ----------
    ask : callable
        Question, with its cells -> reply; None if the iteration is over, and nobody wants an answer.
    generation : int
        Of the worker, as far as is known.
    """

    def __init__(self, ask: Callable[[NDArray[np.int64]], Sequence[int] | None], generation: int = 0) -> None:
        self._ask_for = ask
        self._generation = generation
        # The cells that claims are about, where the next look for a free one begins, and what came of it if
        # that was asked already.
        self._cells: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._of_iteration = 0
        self._next = 0
        self._claimed: int | None = None
        # Of the cell under way.
        self._cell = -1
        self._is_taken = False
        self._claimants = 0
        self._seen_s = 0.0

    def generation(self) -> int:
        """As of the last reply."""
        return self._generation

    def is_announced(self, iteration: int, cell: int) -> Literal[False]:
        """Nobody is told under claim."""
        return False

    def is_taken(self, iteration: int, cell: int) -> bool:
        """See `Board`; as of a moment ago."""
        oldest_s = _RECENT_S if self._claimants <= 1 else _CONTESTED_S
        known = (self._of_iteration, self._cell) == (iteration, cell)
        if known and (self._is_taken or time.monotonic() - self._seen_s < oldest_s):
            return self._is_taken
        reply = self._ask(Question.LOOK, iteration, cell)
        if reply is None:
            return True
        self._note(iteration, cell, reply.claimants, taken=bool(reply.found))
        return self._is_taken

    def claimants(self, iteration: int, cell: int) -> int:
        """See `Board`; as of a moment ago."""
        return self._claimants if (self._of_iteration, self._cell) == (iteration, cell) else 0

    def claim_free(self, iteration: int, cells: NDArray[np.int64], begin: int) -> int:
        """See `Board`."""
        index = begin
        asked_already = (self._of_iteration, self._next) == (iteration, begin) and cells is self._cells
        if asked_already and self._claimed is not None:
            index = self._claimed
        else:
            index = self._first_free(iteration, cells, begin)
        self._claimed = None
        self._cells, self._next = cells, index + 1
        if index < len(cells):
            self._note(iteration, int(cells[index]), 1)
        return index

    def _first_free(self, iteration: int, cells: NDArray[np.int64], begin: int) -> int:
        while begin < len(cells):
            candidates = cells[begin : begin + MOST_CELLS]
            reply = self._ask(Question.CLAIM, iteration, 0, 0, candidates)
            if reply is None:
                break
            if reply.found < len(candidates):
                return begin + reply.found
            begin += len(candidates)
        return len(cells)

    def claim_again(self, iteration: int, cells: NDArray[np.int64]) -> int:
        """See `Board`."""
        reply = self._ask(Question.CLAIM_AGAIN, iteration, 0, 0, cells)
        if reply is None or reply.found < 0:
            return -1
        self._note(iteration, int(cells[reply.found]), reply.claimants)
        return reply.found

    def commit(self, iteration: int, generation: int, cell: int) -> bool:
        """See `Board`. The next cell is claimed as well."""
        candidates = self._cells[:0]
        if self._of_iteration == iteration and self._claimed is None:
            candidates = self._cells[self._next : self._next + MOST_CELLS]
        reply = self._ask(Question.COMMIT, iteration, cell, generation, candidates)
        if reply is None:
            return False
        if reply.free < len(candidates):
            self._claimed = self._next + reply.free
        return bool(reply.found)

    def _ask(
        self,
        kind: int,
        iteration: int,
        cell: int,
        generation: int = 0,
        cells: NDArray[np.int64] | tuple[()] = (),
    ) -> _Reply | None:
        question = np.empty(QUESTION + len(cells), dtype=np.int64)
        question[:QUESTION] = kind, iteration, generation, cell
        question[QUESTION:] = cells
        numbers = self._ask_for(question)
        if numbers is None:
            return None
        reply = _Reply(*numbers)
        self._generation = reply.generation
        return reply

    def _note(self, iteration: int, cell: int, claimants: int, *, taken: bool = False) -> None:
        self._of_iteration, self._cell = iteration, cell
        self._claimants, self._is_taken, self._seen_s = claimants, taken, time.monotonic()
