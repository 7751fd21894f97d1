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

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from cgc_fast.engines.mpi_messages import WORD_VALUES, Backoff, Notice, Pending, Tag, Word
from cgc_fast.errors import ArgumentValueError, WorkerDied
from cgc_fast.interrupts import interrupts_postponed

__all__ = ["Ranks"]

logger = logging.getLogger(__name__)

_LEAVE_S = 2.0  # how long a worker may take to leave when asked before nobody waits for it any longer
_NOTHING: NDArray[np.int64] = np.empty(0, dtype=np.int64)


class Ranks:
    """All ranks of a communicator but this one.

    Attributes
    ----------
    status : MPI.Status
        Of the message that was found last.
    pending : Pending
        What is sent to them.
    gone : set of int
        Ranks that MPI says are no more.
    """

    def __init__(self, comm: MPI.Intracomm) -> None:
        self.comm = comm
        self.status = MPI.Status()
        self.pending = Pending(comm)
        self.gone: set[int] = set()
        self._acknowledged = 0  # how many of these MPI was told that they are known
        self._leaving: set[int] = set()  # were told to, and have not said goodbye

    def hire(self, workers: int) -> None:
        """Wait until the first `workers` have left the cluster before."""
        if workers >= self.comm.size:
            raise ArgumentValueError(
                f"schedule: expected at most {self.comm.size - 1} workers, one a rank beside the master, got "
                f"{workers}: start mpiexec -n {workers + 1}"
            )
        hired = set(range(1, workers + 1))
        if late := self._hear_out(hired, _LEAVE_S):
            logger.warning("waiting for ranks that have not left the cluster before: %s", sorted(late))
            self._hear_out(hired, math.inf)
        if gone := hired & self.gone:
            raise WorkerDied(f"rank {min(gone)} is gone, and MPI starts no other", min(gone) - 1, None)

    def tell(self, rank: int, kind: int, iteration: int = 0, content: NDArray[np.int64] = _NOTHING) -> None:
        """Send a notice."""
        self.pending.send(np.concatenate([[kind, iteration], content]), rank, Tag.NOTICE)

    def find(self) -> MPI.Message | None:
        """A message of a rank that is not leaving; those of others are dropped."""
        probe, status = self.comm.Improbe, self.status
        while (message := probe(MPI.ANY_SOURCE, MPI.ANY_TAG, status)) and status.source in self._leaving:
            self._drop(message)
        return message

    def _drop(self, message: MPI.Message) -> None:
        """Receive the message that was found last, and forget it."""
        source, tag = self.status.source, self.status.tag
        buffer = np.empty(self.status.Get_count(MPI.DOUBLE))
        with suppress(MPI.Exception):  # its rank is gone
            if tag == Tag.WORD and len(buffer) == WORD_VALUES:
                message.Recv(buffer)  # so small a message has come as a whole
                if buffer[0] == Word.BYE:
                    self._leaving.discard(source)
            else:
                self.pending.keep(message.Irecv(buffer), buffer)

    def bury(self) -> set[int]:
        """Ranks of which MPI says by now that they are gone (ULFM); it goes on with the others.

        Called where an exception is handled, which is another one if MPI says nothing of the kind.
        """
        acknowledged, failed = self.comm.Ack_failed(), self.comm.Get_failed()
        ranks = failed.Translate_ranks(range(failed.size), self.comm.Get_group())
        found = {int(rank) for rank in ranks} - self.gone
        if not found and acknowledged == self._acknowledged:
            raise
        self._acknowledged = acknowledged
        self.gone |= found
        return found

    def let_go(self, ranks: Set[int]) -> bool:
        """Tell ranks to leave the cluster, and wait a moment until they have; whether nothing is missing."""
        for rank in ranks - self.gone - self._leaving:
            self._leaving.add(rank)
            self.tell(rank, Notice.STOP)
        all_left = not self._hear_out(ranks, _LEAVE_S)
        self.pending.is_empty()  # what has been sent is not kept
        return all_left

    def dismiss(self) -> bool:
        """Let all ranks return from their service; whether all that are there did."""
        everybody = set(range(1, self.comm.size))
        all_left = self.let_go(everybody)
        how = np.array([all_left, len(self.gone)], dtype=np.int64)
        for rank in everybody - self.gone:
            self.tell(rank, Notice.END, content=how)
        if all_left and not self.gone:
            backoff = Backoff()
            while not self.pending.is_empty():
                backoff.pause()
            self.comm.Free()
        return all_left

    def _hear_out(self, ranks: Set[int], within_s: float) -> Set[int]:
        """Wait for goodbyes; those of these ranks that have not said it."""
        backoff, until_s = Backoff(), time.monotonic() + within_s
        while (late := (self._leaving & ranks) - self.gone) and time.monotonic() < until_s:
            with interrupts_postponed():
                try:
                    self.find()  # nothing, as the others have nothing to say
                except MPI.Exception:
                    self.bury()
            backoff.pause()
        return late
