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

from cgc_fast.engines.remote_worker import RemoteWorker
from cgc_fast.engines.worker_process import load_problem
from cgc_fast.worker import Visit

__all__ = ["Item", "RayWorker", "Task"]

# Slot, whether it is finite, began and ended in seconds, the payload; or a mere sign of life.
Item = tuple[int, bool, float, float, NDArray[Any]] | None


@dataclass(frozen=True)
class Task:
    """Everything a worker is told at its start."""

    walk: Sequence[Visit]
    slot_widths: NDArray[np.int64]
    payload: np.dtype[Any]
    problem: bytes  # pickled: a shard, or (factory, sample ranges)


class RayWorker:
    """A worker; `run` is called in one thread, the rest in another. It is its own `Mailbox`."""

    def __init__(self, task: bytes) -> None:
        content: Task = pickle.loads(task)
        self._widths = content.slot_widths
        self._payload_type = content.payload
        self._buffers: dict[int, NDArray[Any]] = {}
        self._finished = 0
        self._orders: list[tuple[int, Sequence[Visit]]] = []
        self._changed = threading.Condition()
        self._loop = RemoteWorker(load_problem(content.problem), content.walk, self._place, self)

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
        for delivery in loop.run(orders or ()):
            if delivery is None:
                yield None
            else:
                slot = delivery.visit.slot
                yield slot, delivery.finite, delivery.began_s, delivery.ended_s, self._buffers[slot]

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

    def _place(self, visit: Visit) -> NDArray[Any]:
        buffer = self._buffers.get(visit.slot)
        if buffer is None:
            buffer = self._buffers[visit.slot] = np.empty(int(self._widths[visit.slot]), self._payload_type)
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
        """Sleep until the master says something."""
        with self._changed:
            if not self._orders:
                self._changed.wait(max(0.0, timeout_s))
