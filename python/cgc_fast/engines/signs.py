"""Signs of life of workers that can only be heard: kept by the master, on its own clock."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cgc_fast.supervisor import FORGET, SignOfLife

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
        self._earlier_s = [0.0] * workers  # longest times that nobody has asked for yet
        self._iteration = [0] * workers
        self._at_start = self._seen_s, self._longest_s, self._iteration
        self._since_s = [0.0] * workers  # on the clock of listening
        self._listened_s = 0.0
        self._listening_since_s = now_s

    def listening(self) -> Hearing:
        """Enter this where the master waits for messages."""
        return self

    def __enter__(self) -> None:
        self._listening_since_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._listened_s += time.monotonic() - self._listening_since_s

    def begin(self) -> None:
        """An iteration begins."""
        self._since_s = [self._listened_s] * len(self._since_s)

    def begin_ordinary(self) -> None:
        """An iteration begins of whose predecessors nobody has asked for the longest times.

        These times are kept until somebody asks, and count less with every further iteration.
        """
        self._earlier_s = [
            max(now_s, FORGET * before_s)
            for now_s, before_s in zip(self._longest_s, self._earlier_s, strict=True)
        ]
        self._longest_s = [0.0] * len(self._longest_s)
        self._at_start = list(self._seen_s), self._earlier_s, list(self._iteration)
        self.begin()

    def signs_at_start(self) -> Sequence[SignOfLife]:
        """As `signs` would have been at the last `begin_ordinary`."""
        return [SignOfLife(*sign) for sign in zip(*self._at_start, strict=True)]

    def is_known(self, worker: int, iteration: int, within_s: float) -> bool:
        """Whether a worker has taken up an iteration, or was heard so recently."""
        return self._iteration[worker] >= iteration or time.monotonic() - self._seen_s[worker] < within_s

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
        found = self._signs()
        if reset:
            self.drop_longest()
        return found

    def drop_longest(self) -> None:
        """Begin new longest times."""
        self._longest_s = [0.0] * len(self._longest_s)
        self._earlier_s = [0.0] * len(self._earlier_s)

    def _signs(self) -> list[SignOfLife]:
        longest_s = map(max, self._longest_s, self._earlier_s)
        return [SignOfLife(*sign) for sign in zip(self._seen_s, longest_s, self._iteration, strict=True)]
