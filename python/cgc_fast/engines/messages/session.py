"""The ranks of a job as rank 0 sees them, from one cluster to the next.

A rank that is told to leave a cluster says goodbye when everything that it sent has arrived. Until then
nothing that it sends is taken for a message of the next.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Set
from contextlib import suppress
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cgc_fast.engines.messages.protocol import WORD_VALUES, Notice, Tag, Word
from cgc_fast.engines.messages.transport import Backoff, Message, Pending, RanksGone, Request, Transport
from cgc_fast.errors import ArgumentValueError, CgcError, WorkerDied
from cgc_fast.interrupts import interrupts_postponed

__all__ = ["Session"]

logger = logging.getLogger(__name__)

_LEAVE_S = 2.0  # how long a worker may take to leave when asked before nobody waits for it any longer
_NOTHING: NDArray[np.int64] = np.empty(0, dtype=np.int64)
_kept: list[Session] = []  # with what ranks that do not answer are still sent


class _Closes(Protocol):
    def close(self) -> None:
        """Let the ranks go."""


class Session:
    """All ranks but this one.

    Attributes
    ----------
    transport : Transport
    pending : Pending
        What is sent to them.
    engine : object or None
        For which they work.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.pending = Pending(transport)
        self.engine: _Closes | None = None
        self._leaving: set[int] = set()  # were told to, and have not said goodbye
        # Source, request and buffer of what may be one.
        self._words: list[tuple[int, Request, NDArray[np.float64]]] = []

    def hire(self, workers: int) -> None:
        """Wait until the first `workers` have left the cluster before."""
        if workers >= self.transport.size:
            most, launch = self.transport.size - 1, self.transport.launch.format(workers + 1)
            raise ArgumentValueError(
                f"schedule: expected at most {most} workers, one a rank beside the master, got {workers}: "
                f"start {launch}"
            )
        if self.engine is not None:
            raise CgcError("engine: expected one cluster at a time, got another: close the first")
        hired = set(range(1, workers + 1))
        if late := self._hear_out(hired, _LEAVE_S):
            logger.warning("waiting for ranks that have not left the cluster before: %s", sorted(late))
            self._hear_out(hired, math.inf)
        if gone := hired & self.transport.gone:
            raise WorkerDied(f"rank {min(gone)} is gone, and nobody starts another", min(gone) - 1, None)

    def tell(self, rank: int, kind: int, iteration: int = 0, content: NDArray[np.int64] = _NOTHING) -> None:
        """Send a notice."""
        self.pending.send(np.concatenate([[kind, iteration], content]), rank, Tag.NOTICE)

    def find(self) -> Message | None:
        """A message of a rank that is not leaving; those of others are dropped."""
        if self._words:
            self._read_words()
        find = self.transport.find
        while (message := find()) is not None and message.source in self._leaving:
            self._drop(message)
        return message

    def _drop(self, message: Message) -> None:
        """Receive a message, and forget it."""
        buffer = np.empty(message.size)
        with suppress(RanksGone):
            request = self.transport.receive(message, buffer)
            if message.tag == Tag.WORD and message.size == WORD_VALUES:
                self._words.append((message.source, request, buffer))
            else:
                self.pending.keep(request, buffer)

    def _read_words(self) -> None:
        """See who has said goodbye."""
        words, self._words = self._words, []
        for word in words:
            source, request, buffer = word
            with suppress(RanksGone):
                if not self.transport.is_done(request):
                    self._words.append(word)
                elif buffer[0] == Word.BYE:
                    self._leaving.discard(source)

    def let_go(self, ranks: Set[int]) -> bool:
        """Tell ranks to leave the cluster, and wait a moment until they have; whether nothing is missing."""
        for rank in ranks - self.transport.gone - self._leaving:
            self._leaving.add(rank)
            self.tell(rank, Notice.STOP)
        all_left = not self._hear_out(ranks, _LEAVE_S)
        self.pending.is_empty()  # what has been sent is not kept
        return all_left

    def dismiss(self, exit_code: int) -> None:
        """Let all ranks return from their service, and have the job end with the exit code."""
        with interrupts_postponed():
            try:
                if self.engine is not None:
                    self.engine.close()
            finally:
                transport = self.transport
                everybody = set(range(1, transport.size))
                all_left, any_gone = self.let_go(everybody), bool(transport.gone)
                for rank in everybody - transport.gone:
                    self.tell(rank, Notice.END, content=np.array([all_left, any_gone], dtype=np.int64))
                backoff = Backoff(transport)
                while all_left and not any_gone and not self.pending.is_empty():
                    backoff.pause()
                transport.leave(all_left=all_left, any_gone=any_gone, exit_code=exit_code)
                if not self.pending.is_empty():
                    _kept.append(self)

    def _hear_out(self, ranks: Set[int], within_s: float) -> Set[int]:
        """Wait for goodbyes; those of these ranks that have not said it."""
        backoff, until_s = Backoff(self.transport), time.monotonic() + within_s
        while (late := (self._leaving & ranks) - self.transport.gone) and time.monotonic() < until_s:
            with interrupts_postponed(), suppress(RanksGone):
                self.find()  # nothing, as the others have nothing to say
            backoff.pause()
        return late
