"""The compiled collector where payloads arrive as messages.

The collector takes arrivals out of the signal, into which workers write that share memory with the master.
Here the master has a signal of its own and writes into it what its messages say.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import Collector, Signal
from cgc_fast.engines.base import CellOutline, Delivered, Event

__all__ = ["MessageCollector"]

_NOBODY = -1  # in the place of a descriptor: nobody sleeps on this signal


class MessageCollector:
    """A collector and the signal that it looks at.

    Parameters
    ----------
    cells, blocks
        As `Collecting.lay_out_collector` is told.
    offsets : sequence of ndarray of int64 (S,)
        Of each worker: where the payload of each row lies in its memory, in bytes; negative: nowhere.
    payloads : sequence of ndarray of float64
        The memory of each worker, into which its messages are received.
    thetas : sequence of ndarray of float64 (L,)
        Where theta is put, in even and in odd iterations.
    """

    def __init__(
        self,
        cells: Sequence[CellOutline],
        blocks: NDArray[np.int64],
        offsets: Sequence[NDArray[np.int64]],
        payloads: Sequence[NDArray[np.float64]],
        thetas: Sequence[NDArray[np.float64]],
    ) -> None:
        workers = len(payloads)
        # Between two calls of `collect` no more comes of one worker than two iterations unanswered, and this.
        capacity = 4 * len(offsets[0]) + 16
        self._signal = Signal(mmap.mmap(-1, Signal.bytes(workers, capacity)), workers, capacity)
        self._wake_fds = np.full(workers, _NOBODY, dtype=np.int32)
        self._fds = np.array([_NOBODY], dtype=np.int32)
        even_theta, odd_theta = thetas
        self.collector = Collector(
            self._signal,
            list(cells),
            blocks,
            list(offsets),
            list(payloads),
            even_theta,
            odd_theta,
            self._wake_fds,
            self._fds,
            1.0,
        )

    def begin(
        self, iteration: int, theta: NDArray[np.float64], gradient: NDArray[np.float64], with_value: bool
    ) -> bool:
        """Open the accounts and put theta into its place; False if theta is not finite."""
        # Whether all workers are well is known elsewhere: here, no iteration is too late to have taken up.
        return self.collector.run(0, 0, iteration, theta, gradient, with_value, None) is not None

    def arrived(self, payload: Delivered) -> None:
        """Take down a payload that is not in its place."""
        iteration, worker, slot, finite, began_s, ended_s = payload
        start_ns = self.collector.began_ns
        began_ns, ended_ns = start_ns + int(1e9 * began_s), start_ns + int(1e9 * ended_s)
        if not self._signal.push(worker, iteration, slot, finite, began_ns, ended_ns, False, _NOBODY):
            raise RuntimeError(f"worker {worker}: more messages than it can have sent")

    def take_in(self, worker: int, slots: NDArray[np.int64]) -> bool:
        """Take down payloads that are in their places, each behind its header; whether all of them count."""
        return self.collector.take_in(worker, slots)

    def collect(self, each_block: bool) -> str:
        """Go through what has arrived: a reason to come back, "late" if there is none."""
        return self.collector.collect(0, each_block)

    def events(self) -> list[Event]:
        """Everything that arrived in the iteration so far, in its order."""
        arrivals, _, _ = self.collector.record()
        taken: list[tuple[int, int, int, bool, float, float]] = [
            (iteration, worker, slot, bool(finite), self._seconds(began_ns), self._seconds(ended_ns))
            for iteration, worker, slot, finite, began_ns, ended_ns in arrivals.tolist()
        ]
        return [
            Delivered._make(arrival) for arrival in [*taken, *self._signal.pop_all(self.collector.began_ns)]
        ]

    def record(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int]:
        """As `Collecting.record`."""
        return (*self.collector.record(), self.collector.began_ns)

    def _seconds(self, moment_ns: int) -> float:
        return 1e-9 * (moment_ns - self.collector.began_ns)
