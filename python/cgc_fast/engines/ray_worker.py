"""What runs in an actor: iterations as a generator of payloads, while a second thread hears the master."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from cgc_fast._core import Board
from cgc_fast.engines.base import OwnBoard
from cgc_fast.engines.board_messages import answer, make_table
from cgc_fast.engines.remote_feedback import make_remote_worker
from cgc_fast.engines.remote_worker import Assignment, Run, Sum
from cgc_fast.engines.worker_process import load_problem
from cgc_fast.problems import Problem
from cgc_fast.worker import Visit

__all__ = ["BoardActor", "Item", "RayWorker", "Task"]

# What leaves together, of each: slot, whether it is finite, began and ended in seconds, the payload (under
# claim: none); or a sum; or a mere sign of life.
Item = list[tuple[int, bool, float, float, NDArray[Any] | None]] | Sum | None


@dataclass(frozen=True)
class Task:
    """Everything a worker is told at its start."""

    worker: int
    assignment: Assignment
    problem: bytes  # for `load_problem`


class BoardActor(OwnBoard):
    """The board of a `claim` schedule; calls of the master are answered in its order."""

    _board: Board

    def __init__(self, workers: int, cells: int) -> None:
        self._board = make_table(workers, cells)

    def ask(self, worker: int, question: NDArray[np.int64]) -> tuple[int, int, int, int]:
        """Answer a worker; see `board_messages`."""
        return answer(self._board, worker, question)


class RayWorker:
    """A worker; `run` is called in one thread, the rest in another. It is its own `Mailbox`."""

    def __init__(self, task: bytes, board: Any) -> None:
        content: Task = pickle.loads(task)
        self._worker = content.worker
        self._finished = 0
        self._orders: list[tuple[int, Sequence[Visit]]] = []
        self._changed = threading.Condition()
        self._take_up(load_problem(content.problem), content.assignment, board)

    def _take_up(self, problem: Problem, assignment: Assignment, board: Any) -> None:
        self._assignment, self._board = assignment, board
        self._buffers: dict[int, NDArray[Any]] = {}
        self._loop, self._table = make_remote_worker(problem, assignment, self._place, self, self._ask)

    def _ask(self, question: NDArray[np.int64]) -> Sequence[int]:
        reply: Sequence[int] = ray.get(self._board.ask.remote(self._worker, question))
        return reply

    def run(
        self,
        theta: NDArray[np.float64],
        what: tuple[int, float | None, bool, Sequence[Visit] | None],
    ) -> Iterator[Item]:
        """Do the walk, or only the orders; payloads are copied when they are yielded.

        `what`: iteration, cycle time to emulate, whether the loss is asked for too, orders.
        """
        iteration, cycle_time, with_value, orders = what
        loop = self._loop
        if iteration < loop.iteration:
            return
        if iteration > loop.iteration:
            loop.begin(iteration, theta, cycle_time=cycle_time, with_value=with_value, walk=orders is None)
        for output in loop.run(orders or ()):
            assert not isinstance(output, Run)  # its walk is not compiled
            if output is None or isinstance(output, Sum):
                yield output
            else:
                yield [
                    (visit.slot, finite, began_s, ended_s, self._buffers.get(visit.slot))
                    for visit, finite, began_s, ended_s in output
                ]

    def replan(self, assignment: bytes, board: Any) -> None:
        """Do as another plan says from now on."""
        self._take_up(self._loop.problem, pickle.loads(assignment), board)

    def identify(self) -> int:
        """Answer when the samples are loaded: the process id."""
        return os.getpid()

    @ray.method(concurrency_group="control")
    def finish(self, iteration: int) -> None:
        """End an iteration, and those before."""
        with self._changed:
            self._finished = max(self._finished, iteration)
            self._changed.notify()

    @ray.method(concurrency_group="control")
    def order(self, iteration: int, visits: Sequence[Visit]) -> None:
        """Let a walk that is under way visit these first."""
        with self._changed:
            self._orders.append((iteration, visits))
            self._changed.notify()

    @ray.method(concurrency_group="control")
    def announce(self, iteration: int, cells: Sequence[int]) -> None:
        """Hear which cells are decoded."""
        table = self._table
        if table is not None:
            for cell in cells:
                table.announce(iteration, cell)

    def _place(self, visit: Visit) -> NDArray[Any]:
        buffer = self._buffers.get(visit.slot)
        if buffer is None:
            width, kind = int(self._assignment.slot_widths[visit.slot]), self._assignment.payload
            buffer = self._buffers[visit.slot] = np.empty(width, kind)
        return buffer

    # --- the mailbox ----------------------------------------------------------------------------------

    def is_over(self, iteration: int) -> bool:
        """Whether it was finished."""
        return self._finished >= iteration

    def take_orders(self, iteration: int) -> Sequence[Visit]:
        """Orders of this iteration; all others are late."""
        if not self._orders:
            return ()
        with self._changed:
            taken, self._orders = self._orders, []
        return [visit for ordered, visits in taken if ordered == iteration for visit in visits]

    def wait(self, timeout_s: float) -> None:
        """Sleep until the master says something, unless it has already."""
        with self._changed:
            if not self._orders and not self.is_over(self._loop.iteration):
                self._changed.wait(max(0.0, timeout_s))
