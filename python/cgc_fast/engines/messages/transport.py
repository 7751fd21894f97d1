"""What carries messages between ranks: the part of the engine that is MPI, or something else."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence, Set
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.errors import CgcError

__all__ = ["Backoff", "Message", "Pending", "RanksGone", "Request", "Transport"]

Request = Any  # a transport's own: a message that is being sent, or received

_SPIN_S = 1e-3
_SHORTEST_SLEEP_S, _LONGEST_SLEEP_S = 2e-5, 1e-3

_NO_VALUES: NDArray[np.float64] = np.empty(0)


class RanksGone(CgcError):
    """Ranks are no more, or a message never will be here; `ranks`: those that were not known before."""

    def __init__(self, ranks: Set[int] = frozenset()) -> None:
        what = f"ranks that are gone: {sorted(ranks)}" if ranks else "a message that never will be here"
        super().__init__(what)
        self.ranks = ranks


class Message:
    """A message that was found; `size`: in 8 bytes. `found`: what its transport needs to receive it."""

    __slots__ = ("buffer", "found", "request", "size", "source", "tag")

    def __init__(self, source: int, tag: int, size: int, found: Any) -> None:
        self.source, self.tag, self.size, self.found = source, tag, size, found
        self.buffer: NDArray[Any] = _NO_VALUES
        self.request: Request = None


class Transport(ABC):
    """The ranks of a job, as one of them sees them: rank 0 is the master, worker w is rank w + 1.

    No call waits for another rank. Messages of one rank to another are found in the order in which they were
    sent. Each that is found is received, sooner or later, if need be after those that other ranks send in
    between. What is sent are C-contiguous arrays of 8-byte values.

    All calls are made by one thread at a time, with Ctrl-C held back. Other signal handlers of Python that
    close a cluster, or raise, may come in the midst of a call that is not made in compiled code.

    Attributes
    ----------
    rank, size : int
        Of this one, and how many there are.
    most_tag : int
        Tags are 0 .. most_tag.
    gone : set of int
        Ranks of which this one was told that they are no more. It stays empty where the network never tells:
        they are silent then.
    launch : str
        What to start, with {} for how many ranks; for errors.
    """

    rank: int
    size: int
    most_tag: int
    gone: set[int]
    launch = "{} ranks"

    @abstractmethod
    def send(self, message: NDArray[Any], rank: int, tag: int) -> Request | None:
        """Begin to send an array, which stays as it is until that is done; None if the rank is gone."""

    @abstractmethod
    def find(self) -> Message | None:
        """The next message that has come, if there is any: at rank 0 of any rank, elsewhere of rank 0.

        Raises
        ------
        RanksGone
            At rank 0 once of each rank, which is in `gone` from then on, if possible after everything that
            it had sent; `find` goes on with the others. Elsewhere rank 0 is gone.
        """

    @abstractmethod
    def receive(self, message: Message, buffer: NDArray[Any]) -> Request:
        """Begin to receive a message that was found, of the size of the buffer.

        Raises
        ------
        RanksGone
            It never will be here.
        """

    @abstractmethod
    def is_done(self, request: Request) -> bool:
        """Go on with a message; whether it has been sent, or received. May be asked again after that.

        Raises
        ------
        RanksGone
            It never will be.
        """

    def are_done(self, requests: Sequence[Request]) -> bool:
        """Whether all are, by one call; raises if one never will be."""
        return all(map(self.is_done, requests))

    @abstractmethod
    def work(self) -> None:
        """See what has come, where `find` answers from what is known already, and nothing works by itself."""

    @abstractmethod
    def leave(self, *, all_left: bool, any_gone: bool, exit_code: int = 0) -> None:
        """Part from the others. Nothing more is sent; what was still goes out where it can.

        Parameters
        ----------
        all_left : bool
            Everybody who is there does the same. Else some rank does not answer, and rank 0 sees to it that
            the job ends, with this exit code, when its program does.
        any_gone : bool
            Ranks were lost: nobody may wait for them.
        exit_code : int
            Of the job; at rank 0.
        """


class Pending:
    """Messages that are on their way, each kept until it has been sent, or received."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._requests: list[Request] = []
        self._messages: list[NDArray[Any]] = []
        self._look_at = 16

    def send(self, message: NDArray[Any], rank: int, tag: int) -> None:
        """Begin to send; nothing if the rank is known to be gone, which the next look for messages tells."""
        request = self._transport.send(message, rank, tag)
        if request is not None:
            self.keep(request, message)

    def keep(self, request: Request, message: NDArray[Any]) -> None:
        """Keep a message until the request is done with it."""
        self._requests.append(request)
        self._messages.append(message)
        if len(self._requests) > self._look_at:
            self.is_empty()
            self._look_at = 2 * len(self._requests) + 16

    def take_over(self, other: Pending) -> None:
        """Keep what the other one has kept."""
        self._requests += other._requests
        self._messages += other._messages

    def is_empty(self) -> bool:
        """Whether nothing is on its way."""
        if not self._requests:
            return True
        try:
            if self._transport.are_done(self._requests):
                self._requests, self._messages = [], []
                return True
        except RanksGone:
            pass
        left = [not self._is_over(request) for request in self._requests]
        self._requests = list(compress(self._requests, left))
        self._messages = list(compress(self._messages, left))
        return not self._requests

    def _is_over(self, request: Request) -> bool:
        """Whether a message has been sent, or received, or never will be."""
        try:
            return self._transport.is_done(request)
        except RanksGone:
            return True


class Backoff:
    """Wait between two looks: for a moment not at all, then sleep longer and longer."""

    def __init__(self, transport: Transport, longest_s: float = _LONGEST_SLEEP_S) -> None:
        self._transport = transport
        self._longest_s = longest_s
        self.reset()

    def reset(self) -> None:
        """Something came: what follows may come soon."""
        self._since_s = time.monotonic()
        self._sleep_s = _SHORTEST_SLEEP_S

    def pause(self, at_most_s: float = _LONGEST_SLEEP_S) -> None:
        """Let others run, unless the last time that something came is a moment ago."""
        if time.monotonic() - self._since_s < _SPIN_S:
            return
        time.sleep(max(0.0, min(self._sleep_s, at_most_s)))
        self._sleep_s = min(2 * self._sleep_s, self._longest_s)
        self._transport.work()
