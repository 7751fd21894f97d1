"""The Ray engine for schedules with feedback.

Under announce the master tells all actors which cells are decoded. Under claim the board is an actor of its
own beside the master, which all of them ask; see `board_messages`.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import ray
from numpy.typing import NDArray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cgc_fast.engines.base import Event, Job, Summed
from cgc_fast.engines.ray import RayEngine
from cgc_fast.engines.ray_worker import BoardActor
from cgc_fast.engines.remote_worker import Sum

__all__ = ["RayAnnounceEngine", "RayClaimEngine", "RayFeedbackEngine"]

_Board: Any = cast(Any, ray).remote(BoardActor)


def RayFeedbackEngine(job: Job, **options: Any) -> RayEngine:
    """Start the engine of an `announce` or a `claim` schedule; options as those of `RayEngine`."""
    kind = RayClaimEngine if job.feedback == "claim" else RayAnnounceEngine
    return kind(job, **options)


class RayAnnounceEngine(RayEngine):
    """Tell the workers what is decoded."""

    def announce(self, iteration: int, cells: Sequence[int]) -> None:
        """Call everybody who is at it."""
        for worker in self._at_work(iteration):
            self._workers[worker].actor.announce.remote(iteration, list(cells))


class RayClaimEngine(RayEngine):
    """Receive sums; the board is elsewhere."""

    def _lay_out(self, job: Job) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._end_board()
        self._board = _Board.options(num_cpus=0, scheduling_strategy=here).remote(len(job.walks), job.cells)
        self._board_finalizer = weakref.finalize(self, _kill, self._board)
        self._sums: dict[int, NDArray[np.float64]] = {}

    def _end_board(self) -> None:
        if self._board is not None:
            self._board_finalizer()

    def _take_sum(self, worker: int, iteration: int, found: Sum) -> Event:
        self._sums[worker] = found.total
        return Summed(iteration, worker, found.generation, found.visits)

    def announce(self, iteration: int, cells: Sequence[int]) -> None:
        """Tell the board, which hears it before whatever it is told next."""
        if cells:
            self._board.announce.remote(iteration, list(cells))

    def withdraw(self, worker: int) -> int:
        """Have the board count the worker's generation up."""
        generation: int = ray.get(self._board.withdraw.remote(worker))
        return generation

    def committed_by(self, iteration: int, cell: int) -> int | None:
        """As the board has it."""
        worker: int | None = ray.get(self._board.committed_by.remote(iteration, cell))
        return worker

    def sum_of(self, worker: int) -> NDArray[np.float64]:
        """View into the object store."""
        return self._sums[worker]

    def _release(self) -> None:
        """Kill the board, too."""
        super()._release()
        self._sums = {}
        self._end_board()


def _kill(actor: Any) -> None:
    with contextlib.suppress(Exception):  # Ray may be gone
        ray.kill(actor)
