"""The ranks of a job as rank 0 sees them: hired for one cluster after the other, dismissed in the end."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from mpi4py import MPI

from cgc_fast.engines.mpi_messages import Backoff, Session
from cgc_fast.errors import ArgumentValueError, WorkerDied
from cgc_fast.interrupts import interrupts_postponed

__all__ = ["LEAVE_S", "Ranks"]

LEAVE_S = 2.0  # how long a worker may take to leave when asked before nobody waits for it any longer


class Ranks:
    """The ranks that wait to be hired, seen from rank 0."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self.comm = comm

    def hire(self, workers: int) -> MPI.Intracomm:
        """Make a communicator of this rank and the first `workers` others."""
        if workers >= self.comm.size:
            raise ArgumentValueError(
                f"schedule: expected at most {self.comm.size - 1} workers, one a rank beside the master, got "
                f"{workers}: start mpiexec -n {workers + 1}"
            )
        hired = range(1, workers + 1)
        try:
            self._tell(hired, Session.HIRE)
            _, gone = self._hear(hired, Session.HERE)
            if gone:
                raise WorkerDied(f"rank {min(gone)} is gone, and MPI starts no other", min(gone) - 1, None)
        except BaseException:  # Ctrl-C: they are told before they wait for one another
            self._tell(hired, Session.CANCEL)
            raise
        with interrupts_postponed():
            self._tell(hired, Session.GO, workers)
            return self.comm.Create_group(self.comm.Get_group().Range_incl([(0, workers, 1)]))

    def dismiss(self) -> tuple[bool, bool]:
        """Let all ranks return from their service; whether all that are left did, and whether one is lost."""
        everybody = range(1, self.comm.size)
        self._tell(everybody, Session.DISMISS)
        missing, lost = self._hear(everybody, Session.GONE, LEAVE_S)
        self._tell(everybody, Session.PART, len(lost))
        return not missing, bool(lost)

    def _tell(self, ranks: Sequence[int], kind: int, workers: int = 0) -> None:
        message = np.array([kind, workers], dtype=np.int64)
        for rank in ranks:
            with suppress(MPI.Exception):  # it is gone
                # A few bytes, which MPI keeps for a rank that does not listen.
                self.comm.Send(message, dest=rank, tag=Session.TAG)

    def _hear(self, ranks: Sequence[int], kind: int, within_s: float = math.inf) -> tuple[set[int], set[int]]:
        """Wait until all have given this answer; ranks that did not, and ranks that are gone."""
        missing, gone, backoff = set(ranks), set[int](), Backoff()
        answer = np.zeros(2, dtype=np.int64)
        until_s = time.monotonic() + within_s
        while missing and time.monotonic() < until_s:
            for rank in list(missing):
                try:
                    while rank in missing and self.comm.Iprobe(rank, Session.TAG):
                        backoff.reset()
                        self.comm.Recv(answer, source=rank, tag=Session.TAG)
                        if answer[0] == kind:  # else it is late
                            missing.discard(rank)
                except MPI.Exception:
                    missing.discard(rank)
                    gone.add(rank)
            backoff.pause()
        return missing, gone
