"""A worker's side of one iteration where workers learn of each other: `announce` and `claim`.

As in `worker`, pure state machines; what is known of the others comes from a `Board`, and the host calls
`look` between slices and while it waits. A visit under way is dropped, in its middle, as soon as its cell is
taken. So what a worker visits depends on the others, and the emulated clock follows what it did visit.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cgc_fast.claims import Board
from cgc_fast.worker import Deliver, Forward, Idle, Instruction, SendSum, Visit, Worker

__all__ = ["AnnounceWorker", "ClaimWorker", "FeedbackWorker", "Touched"]

Spans = Sequence[tuple[float, float]]


class Touched:
    """Samples that a worker has touched in an iteration: disjoint intervals of real numbers, ascending."""

    def __init__(self) -> None:
        self._lows: list[float] = []
        self._highs: list[float] = []

    def untouched(self, spans: Spans) -> float:
        """How many of these samples are not touched yet."""
        return sum(high - low for span in spans for low, high in self._gaps(*span))

    def touch(self, spans: Spans, most: float = math.inf) -> float:
        """Touch them in their order, so many new ones at most; how many were new."""
        new = 0.0
        for span in spans:
            for low, gap_end in self._gaps(*span):
                high = min(gap_end, low + (most - new))
                if high > low:
                    self._insert(low, high)
                    new += high - low
        return new

    def _gaps(self, low: float, high: float) -> list[tuple[float, float]]:
        gaps = []
        index = bisect_right(self._highs, low)
        while low < high:
            begin = self._lows[index] if index < len(self._lows) else math.inf
            if low < begin:
                gaps.append((low, min(begin, high)))
            if begin >= high:
                break
            low = self._highs[index]
            index += 1
        return gaps

    def _insert(self, low: float, high: float) -> None:
        """Add an interval that overlaps none, joined with those that it meets."""
        index = bisect_left(self._lows, low)
        if index < len(self._lows) and self._lows[index] == high:
            high = self._highs.pop(index)
            del self._lows[index]
        if index > 0 and self._highs[index - 1] == low:
            self._highs[index - 1] = high
        else:
            self._lows.insert(index, low)
            self._highs.insert(index, high)


class FeedbackWorker(Worker):
    """What both kinds of feedback share; parameters as those of `Worker`, and the board.

    Other than there, `Deliver` is repeated until the host says `delivered` or `rejected`: while it waits for
    the due time it calls `look`, and goes on with `next` if that drops the visit.
    """

    def __init__(
        self, visits: Sequence[Visit], board: Board, *, sliceable: bool = False, forward: bool = False
    ) -> None:
        super().__init__(visits, sliceable=sliceable, forward=forward)
        self._board = board
        self._touched = Touched()

    def begin(self, iteration: int, cycle_time: float | None = None, *, walk: bool = True) -> None:
        """Start a new iteration; see `Worker.begin`."""
        super().begin(iteration, cycle_time, walk=walk)
        self._generation = self._board.generation()
        self._touched = Touched()
        self._began_s = 0.0  # of the visit under way, on the emulated clock; `_done_s`: of the last one's end

    @property
    def generation(self) -> int:
        """The worker's generation on the board when it last looked."""
        return self._generation

    def next(self) -> Instruction:
        """What to do now."""
        if not self._active:
            return Idle()
        if self._visit is None and not self._enter():
            return Idle()
        visit = self._visit
        assert visit is not None
        if self._forward_queue:
            return Forward(self._next_forward())
        if self._next_coordinate < visit.stop:
            return self._next_derive(visit)
        return Deliver(visit, self._due_s)

    def stride(self) -> None:
        """Nothing: what comes next depends on the others."""

    def look(self, now_s: float) -> bool:
        """Look at the board, `now_s` seconds into the iteration: whether the visit under way is still wanted.

        If not, it is dropped. True if none is under way.
        """
        visit = self._visit
        if visit is None or not self._active or not self._board.is_taken(self.iteration, visit.cell):
            return True
        self._drop(visit, now_s)
        return False

    def _drop(self, visit: Visit, now_s: float) -> None:
        if self._cycle_time is not None:
            # On the emulated clock the forward pass counts as far as it went.
            elapsed_s = max(0.0, now_s - self._began_s)
            each_s = self._cycle_time * visit.forward_cycles_of(1.0)
            if each_s > 0.0:
                self._touched.touch(visit.spans, elapsed_s / each_s)
            self._done_s = self._began_s + elapsed_s
        # Passes that were not finished are not done.
        self._passed.difference_update(pair for pair in visit.pairs if self._is_unfinished(pair))
        self._forward_queue.clear()
        self._visit = None

    def delivered(self) -> None:
        """Tell that the visit under way was handed over."""
        self._end_visit()

    def rejected(self, visit: Visit) -> None:
        """Tell that the payload of the visit under way was not finite: it is made again if ordered."""
        super().rejected(visit)
        self._end_visit()

    def _end_visit(self) -> None:
        visit = self._visit
        assert visit is not None
        if self._cycle_time is not None:
            self._touched.touch(visit.spans)
            self._done_s = max(self._done_s, self._due_s)
        self._visit = None

    def _is_unfinished(self, pair: tuple[int, int]) -> bool:
        # The queue holds what is left of a pass: the end of its range.
        return any(high == pair[1] and low >= pair[0] for low, high in self._forward_queue)

    def _go_to(self, visit: Visit, not_before_s: float = 0.0) -> None:
        """Begin a visit."""
        self._visit = visit
        self._visited.add(visit.slot)
        self._rejected.discard(visit.slot)
        self._next_coordinate = visit.start
        for pair in visit.pairs:
            if pair not in self._passed:
                self._passed.add(pair)
                if self.forward and visit.start < visit.stop:
                    self._forward_queue.append(pair)
        self._due_s = 0.0
        if self._cycle_time is None:
            return
        self._began_s = max(self._done_s, not_before_s)
        cycles = visit.cycles
        if visit.forward_cycles > 0.0:
            cycles += visit.forward_cycles_of(self._touched.untouched(visit.spans))
        if cycles > 0.0:  # 0 times infinity is 0
            self._due_s = self._began_s + self._cycle_time * cycles


class AnnounceWorker(FeedbackWorker):
    """Walk past cells that the master announced as decoded, and leave the one under way when it is."""

    def _enter(self) -> bool:
        taken = self._board.is_taken
        while self._orders and (
            self._is_done(self._orders[0][0]) or taken(self.iteration, self._orders[0][0].cell)
        ):
            self._orders.popleft()
        self._skip_visited()
        if self._orders:
            self._go_to(*self._orders.popleft())
            return True
        visits = self.visits
        while self._next_of_walk < len(visits) and taken(self.iteration, visits[self._next_of_walk].cell):
            self._next_of_walk += 1
            self._skip_visited()
        if self._next_of_walk == len(visits):
            return False
        self._next_of_walk += 1
        self._go_to(visits[self._next_of_walk - 1])
        return True


class ClaimWorker(FeedbackWorker):
    """Visit cells that nobody has claimed, then those that nobody has committed; then send their sum.

    The host asks `committed` where `FeedbackWorker` is told `delivered`, and adds the payload to the sum if
    the answer is yes. Every walk and every order is answered with a sum, maybe of nothing: then the master
    knows that nothing more is to be expected. A worker that is told to go on after that begins another sum.
    """

    def begin(self, iteration: int, cycle_time: float | None = None, *, walk: bool = True) -> None:
        """Start a new iteration; see `Worker.begin`."""
        super().begin(iteration, cycle_time, walk=walk)
        self._sum: list[Visit] = []
        self._ways: dict[int, Visit] = {}  # cell -> how to visit it
        self._refused: set[int] = set()  # cells whose payload was not finite
        self._unclaimed = 0
        self._not_before_s = 0.0
        self._is_answered = True
        if walk:
            self._add(self.visits)

    @property
    def sum_size(self) -> int:
        """How many visits are in the sum so far."""
        return len(self._sum)

    def order(self, visits: Iterable[Visit], now_s: float = 0.0) -> None:
        """See to it that these cells are visited, as well as what is open of those before."""
        self._add(visits)
        if self._visit is None:
            self._not_before_s = now_s

    def next(self) -> Instruction:
        """What to do now."""
        instruction = super().next()
        if not self._active or self._is_answered or not isinstance(instruction, Idle):
            return instruction
        if self._cycle_time is not None and math.isinf(self._cycle_time):  # it never answers
            return instruction
        return self._answer()

    def _answer(self) -> SendSum:
        self._is_answered = True
        answer, self._sum = tuple(self._sum), []
        return SendSum(answer, self._generation)

    def look(self, now_s: float) -> bool:
        """See `FeedbackWorker.look`. What was committed is forgotten if it was withdrawn."""
        self._look_at_generation()
        return super().look(now_s)

    @property
    def cells(self) -> NDArray[np.int64]:
        """Where it may go on: if all of these are taken, the sum is its answer."""
        return self._cells

    def answered(self, now_s: float) -> SendSum:
        """Tell that the host has sent the sum, because all `cells` are taken: what was in it.

        The visit under way is dropped.
        """
        assert self._visit is not None
        self._drop(self._visit, now_s)
        return self._answer()

    def committed(self) -> bool:
        """Whether the payload of the visit under way, which is complete, enters the sum."""
        visit = self._visit
        assert visit is not None
        self._look_at_generation()
        self._end_visit()
        if not self._board.commit(self.iteration, self._generation, visit.cell):
            return False
        self._sum.append(visit)
        return True

    def rejected(self, visit: Visit) -> None:
        """Tell that the payload of the visit under way was not finite: it is made again if ordered."""
        super().rejected(visit)
        self._refused.add(visit.cell)
        self._index()

    def _look_at_generation(self) -> None:
        generation = self._board.generation()
        if generation != self._generation:
            self._generation = generation
            self._sum.clear()

    def _add(self, visits: Iterable[Visit]) -> None:
        for visit in visits:
            self._ways.setdefault(visit.cell, visit)
            self._refused.discard(visit.cell)
        self._is_answered = False
        self._index()

    def _index(self) -> None:
        """Number the cells anew; those that were looked at before are passed over quickly."""
        cells = [cell for cell in self._ways if cell not in self._refused]
        self._cells: NDArray[np.int64] = np.array(cells, dtype=np.int64)
        self._unclaimed = 0

    def _enter(self) -> bool:
        if self._is_answered:
            return False
        cells, board = self._cells, self._board
        index = self._unclaimed
        if index < len(cells):
            index = board.claim_free(self.iteration, cells, index)
            self._unclaimed = index + 1
        if index >= len(cells):
            index = board.claim_again(self.iteration, cells) if len(cells) else -1
        if index < 0:
            return False
        self._go_to(self._ways[int(cells[index])], self._not_before_s)
        self._not_before_s = 0.0
        return True
