"""Signs of life of workers that can only be heard: kept by the master, on its own clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cgc_fast.supervisor import SignOfLife

__all__ = ["Hearing"]


class Hearing:
    """When each worker was last heard, and its longest silence while the master listened.

    Silence counts from the beginning of an iteration or the last word of the worker. Time in which the master
    did something else, and could not have heard it, is nobody's silence.
    """

    def __init__(self, workers: int) -> None:
        now_s = time.monotonic()
        self._seen_s = [now_s] * workers
        self._longest_s = [0.0] * workers
        self._iteration = [0] * workers
        self._since_s = [0.0] * workers  # on the clock of listening
        self._listened_s = 0.0
        self._listening_since_s = now_s

    @contextmanager
    def listening(self) -> Iterator[None]:
        """The master waits for messages."""
        self._listening_since_s = time.monotonic()
        try:
            yield
        finally:
            self._listened_s += time.monotonic() - self._listening_since_s

    def begin(self) -> None:
        """An iteration begins."""
        self._since_s = [self._listened_s] * len(self._since_s)

    def heard(self, worker: int, iteration: int) -> None:
        """A worker said something, in an iteration; call it while listening."""
        now_s = time.monotonic()
        listened_s = self._listened_s + now_s - self._listening_since_s
        self._seen_s[worker] = now_s
        if iteration > 0:
            self._longest_s[worker] = max(self._longest_s[worker], listened_s - self._since_s[worker])
            self._iteration[worker] = max(self._iteration[worker], iteration)
        self._since_s[worker] = listened_s

    def signs(self, *, reset: bool) -> Sequence[SignOfLife]:
        """Of each worker; `reset` begins new longest times."""
        found = [
            SignOfLife(*sign) for sign in zip(self._seen_s, self._longest_s, self._iteration, strict=True)
        ]
        if reset:
            self._longest_s = [0.0] * len(self._longest_s)
        return found
