"""What engines with a compiled collector have in common: who asks it between two steps."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import Collector
from cgc_fast.engines.base import Delivered
from cgc_fast.errors import ClusterClosed

__all__ = ["WithCollector"]


class WithCollector:
    """The part of `Collecting` that looks at the collector, and has nothing to do with workers."""

    _collector: Collector | None = None
    _waiting: threading.RLock  # held while a thread waits for events

    def running_collector(self) -> Collector:
        """What `collect` runs."""
        if self._collector is None:
            raise ClusterClosed("the cluster was closed while an iteration was under way")
        return self._collector

    def take_ended(self) -> NDArray[np.int64] | None:
        """Rows of the iterations that were ended."""
        return None if self._collector is None else self._collector.take_ended()

    def record(
        self, *, at_once: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int] | None:
        """What happened so far."""
        if not self._waiting.acquire(blocking=not at_once):
            return None
        try:
            collector = self._collector
            return None if collector is None else (*collector.record(), collector.began_ns)
        finally:
            self._waiting.release()

    def _collected_arrivals(self) -> list[Delivered]:
        """Everything that arrived in the iteration so far, in its order."""
        collector = self.running_collector()
        arrivals, _, _ = collector.record()

        def seconds(moment_ns: int) -> float:
            return 1e-9 * (moment_ns - collector.began_ns)

        return [
            Delivered(iteration, worker, slot, bool(finite), seconds(began_ns), seconds(ended_ns))
            for iteration, worker, slot, finite, began_ns, ended_ns in arrivals.tolist()
        ]
