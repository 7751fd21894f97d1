"""The loop around an `AnnounceWorker` or a `ClaimWorker` inside a worker process."""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import Board, all_finite, monotonic_ns, sleep_precisely
from cgc_fast.claims import WorkerBoard
from cgc_fast.engines.worker_process import (
    FOREVER_NS,
    FeedbackConfiguration,
    Loop,
    NewPlan,
    WorkerConfiguration,
)
from cgc_fast.feedback_worker import AnnounceWorker, ClaimWorker, FeedbackWorker
from cgc_fast.memory import Segment
from cgc_fast.worker import SLICE_S, Deliver, SendSum, Visit

__all__ = ["SUM", "VISITS", "FeedbackLoop", "sum_widths"]

# What a worker's segment holds under claim: the sum, and the visits in it (their number, then slot, begin and
# end of each, in nanoseconds of CLOCK_MONOTONIC).
SUM, VISITS = 0, 1


def sum_widths(coordinates: int, cells: int) -> NDArray[np.int64]:
    """Values of the two."""
    return np.array([coordinates + 1, 1 + 3 * cells], dtype=np.int64)


class FeedbackLoop(Loop):
    """Serve iterations of a schedule with feedback until told to stop."""

    def __init__(self, configuration: WorkerConfiguration, feedback: FeedbackConfiguration) -> None:
        self._feedback = feedback
        self._workers, self._coordinates = configuration.workers, configuration.coordinates
        self._index = configuration.worker
        self._last_sum: tuple[int, int, int] | None = None  # iteration, generation, one of its cells
        self._map_board(feedback.board_size, feedback.board_descriptor)
        super().__init__(configuration)
        sleep_precisely()
        self._scratch = np.empty(self._coordinates + 1)
        self._map_sum()

    def _map_board(self, size: int, descriptor: int) -> None:
        self._board_memory = Segment(size, descriptor=descriptor)
        self._table = Board(self._board_memory.memory, self._workers, self._feedback.cells)
        self._board = WorkerBoard(self._table, self._index)

    def _map_sum(self) -> None:
        if self._feedback.claims:
            self._sum = super()._payload(SUM)
            self._record = super()._payload(VISITS)

    def _take_up(self, plan: NewPlan, descriptors: list[int]) -> None:
        super()._take_up(plan, descriptors[:1])
        assert plan.feedback is not None
        self._feedback = plan.feedback
        self._board_memory.close()
        self._map_board(plan.feedback.board_size, descriptors[1])
        self._map_sum()
        self._last_sum = None

    def _make_worker(self, walk: list[Visit]) -> FeedbackWorker:
        kind = ClaimWorker if self._feedback.claims else AnnounceWorker
        traits = self._traits
        self._machine = kind(walk, self._board, sliceable=traits.sliceable, forward=traits.has_forward)
        return self._machine

    def _payload(self, slot: int) -> NDArray[np.float64]:
        # Under claim it goes into the sum, or nowhere.
        return self._scratch if self._feedback.claims else super()._payload(slot)

    def _look(self) -> None:
        super()._look()
        self._look_at_board()

    def _look_at_board(self) -> bool:
        """Whether the visit under way is still wanted."""
        now_ns = monotonic_ns()
        if self._machine.look(1e-9 * (now_ns - self._began_ns)):
            return True
        self._visit_began_ns = now_ns
        return False

    def _deliver(self, instruction: Deliver) -> bool:
        visit = instruction.visit
        width = self._add_value(visit)
        if instruction.due_s > 0:
            why = self._sleep_until(instruction.due_s, visit.cell)
            if why != "due":
                return why != "stopped"
        machine = self._machine
        if not all_finite(self._payload(visit.slot)[:width]):
            machine.rejected(visit)
            self._push(self._begun, visit.slot, False, self._visit_began_ns, wake=True)
        elif not isinstance(machine, ClaimWorker):
            machine.delivered()
            self._push(self._begun, visit.slot, True, self._visit_began_ns, wake=True)
        elif machine.committed():
            self._add(visit, machine.sum_size)
        return True

    def _add_value(self, visit: Visit) -> int:
        """Complete the payload with the loss, if that is asked for: its length."""
        width = visit.stop - visit.start
        if self._with_value and visit.stop == self._coordinates:
            assert self._value is not None
            self._payload(visit.slot)[width] = self._value(visit.ranges, visit.coefficients)
            width += 1
        return width

    def _sleep_until(self, due_s: float, cell: int) -> str:
        """Wait for the moment: "due", or "stopped", or "dropped" if the visit to the cell is not wanted."""
        due_ns = self._began_ns + int(due_s * 1e9) if math.isfinite(due_s) else FOREVER_NS
        while True:
            machine = self._machine
            # Whoever never answers (due at no time) sends no sum either.
            claims = machine if isinstance(machine, ClaimWorker) and due_ns != FOREVER_NS else None
            why = self._channel.sleep_while_wanted(
                self._table,
                self._index,
                self._begun,
                machine.generation,
                cell,
                due_ns,
                self._wake,
                self._inbox.descriptor,
                None if claims is None else claims.cells,
                self._feedback.slots + machine.generation,
                claims is None or claims.sum_size == 0,
                self._visit_began_ns,
                self._master,
            )
            if why == "stopped":
                return why
            if why == "answered":
                assert claims is not None
                now_ns = monotonic_ns()
                self._note_sum(claims.answered(1e-9 * (now_ns - self._began_ns)))
                self._visit_began_ns = now_ns
                return "dropped"
            if why == "finished":
                self._machine.abandon()
                return "dropped"
            if why == "orders":
                self._take_orders()
            if not self._look_at_board():
                return "dropped"
            if monotonic_ns() >= due_ns:
                return "due"

    def _add(self, visit: Visit, size: int) -> None:
        """Add the payload to the sum as its visit number `size`, from 1."""
        if size == 1:
            while not self._is_sum_read():
                if self._channel.is_over(self._begun):
                    return
                time.sleep(SLICE_S)
            self._sum[:] = 0.0
        width = visit.stop - visit.start
        self._sum[visit.start : visit.stop] += self._scratch[:width]
        if self._with_value and visit.stop == self._coordinates:
            self._sum[-1] += self._scratch[width]
        ended_ns = monotonic_ns()
        self._record[0] = size
        self._record[3 * size - 2 : 3 * size + 1] = (visit.slot, self._visit_began_ns, ended_ns)
        self._visit_began_ns = ended_ns

    def _is_sum_read(self) -> bool:
        """Whether the master has taken the last sum, or never will."""
        if self._last_sum is None:
            return True
        iteration, generation, cell = self._last_sum
        return (
            iteration != self._begun
            or generation != self._board.generation()
            or self._board.is_announced(iteration, cell)
        )

    def _send_sum(self, instruction: SendSum) -> None:
        self._note_sum(instruction)
        slot = self._feedback.slots + instruction.generation
        self._push(self._begun, slot, bool(instruction.visits), self._visit_began_ns, wake=True)

    def _note_sum(self, sent: SendSum) -> None:
        if sent.visits:
            self._last_sum = self._begun, sent.generation, sent.visits[0].cell
