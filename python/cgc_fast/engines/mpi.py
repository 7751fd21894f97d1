"""The MPI engine: rank 0 is the master, worker w is rank w + 1.

    from cgc_fast.engines import mpi
    mpi.run(main)      # rank 0 runs main(); the other ranks work for the clusters that it makes

This is what carries messages, and how a job begins and ends. What ranks say to each other, and what they do,
is the same over anything that carries messages: see the package `messages`. What becomes of the job when a
rank is gone is up to MPI: see docs/engines.md.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mpi4py import MPI
from numpy.typing import NDArray

from cgc_fast.engines.base import Job
from cgc_fast.engines.messages.feedback import make_message_engine
from cgc_fast.engines.messages.master import MessageEngine
from cgc_fast.engines.messages.session import Session
from cgc_fast.engines.messages.transport import Message, RanksGone, Transport
from cgc_fast.engines.messages.worker import serve
from cgc_fast.errors import CgcError

__all__ = ["MpiTransport", "make_mpi_engine", "run"]

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

_session: Session | None = None


def run(main: Callable[[], _Result], comm: MPI.Intracomm | None = None) -> _Result | None:
    """Call `main` on rank 0, and let all other ranks work for the clusters that it makes.

    All ranks of the communicator call this at the same time.

    Parameters
    ----------
    main : callable
        Makes clusters with ``engine="mpi"``; it is called without arguments, on rank 0 only.
    comm : mpi4py.MPI.Intracomm, optional
        Duplicated, so that no message of yours is touched; MPI.COMM_WORLD by default.

    Returns
    -------
    object
        What `main` returned on rank 0; None on the others, when rank 0 is done with them.

    Notes
    -----
    If a rank does not answer in the end, MPI itself would wait for it for ever: rank 0 then ends the job with
    MPI_Abort when its program ends, with exit code 0 only if `main` returned. If one was lost and MPI went
    on, all ranks end without MPI_Finalize when their programs do: there, Open MPI may wait for the lost one.
    """
    global _session
    if _session is not None:
        raise CgcError("cgc_fast.engines.mpi.run: expected one call at a time, got one within another")
    transport = MpiTransport((MPI.COMM_WORLD if comm is None else comm).Dup())
    if transport.rank > 0:
        serve(transport)
        return None
    session = _session = Session(transport)
    exit_code = 1
    try:
        result = main()
        exit_code = 0
        return result
    finally:
        _session = None
        session.dismiss(exit_code)


def make_mpi_engine(job: Job, *, share_memory: bool = True) -> MessageEngine:
    """Hire ranks for a job; see `MessageEngine`."""
    if _session is None:
        raise CgcError(
            "engine 'mpi': expected to be called on rank 0 by cgc_fast.engines.mpi.run(main), which lets the "
            "other ranks work; got a call from elsewhere"
        )
    if MPI.Query_thread() < MPI.THREAD_SERIALIZED:
        raise CgcError(
            "engine 'mpi': expected calls from several threads in turn to be allowed "
            f"(MPI_THREAD_SERIALIZED), got thread level {MPI.Query_thread()}: leave "
            "mpi4py.rc.thread_level at its default"
        )
    return make_message_engine(job, _session, share_memory=share_memory)


class MpiTransport(Transport):
    """Messages over a communicator, which is this object's alone."""

    launch = "mpiexec -n {}"

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm
        self.rank, self.size = comm.rank, comm.size
        self.most_tag = int(MPI.COMM_WORLD.Get_attr(MPI.TAG_UB) or 0)
        self.gone = set()
        self._acknowledged = 0  # how many of these MPI was told that they are known
        self._status = MPI.Status()
        self._source = MPI.ANY_SOURCE if comm.rank == 0 else 0

    def send(self, message: NDArray[Any], rank: int, tag: int) -> MPI.Request | None:
        """Begin to send."""
        try:
            return self._comm.Isend(message, rank, tag)
        except MPI.Exception:
            return None

    def find(self) -> Message | None:
        """Probe."""
        status = self._status
        try:
            found = self._comm.Improbe(self._source, MPI.ANY_TAG, status)
        except MPI.Exception as error:
            raise RanksGone(self._lost()) from error
        if found is None:
            return None
        return Message(status.source, status.tag, status.Get_count(MPI.DOUBLE), found)

    def _lost(self) -> set[int]:
        """Ranks of which MPI says by now that they are gone (ULFM); it goes on with the others.

        Called where an exception is handled, which is another one if MPI says nothing of the kind.
        """
        acknowledged, failed = self._comm.Ack_failed(), self._comm.Get_failed()
        ranks = failed.Translate_ranks(range(failed.size), self._comm.Get_group())
        found = {int(rank) for rank in ranks} - self.gone
        if not found and acknowledged == self._acknowledged:
            raise
        self._acknowledged = acknowledged
        self.gone |= found
        return found

    def receive(self, message: Message, buffer: NDArray[Any]) -> MPI.Request:
        """Begin to receive."""
        try:
            request: MPI.Request = message.found.Irecv(buffer)
        except MPI.Exception as error:
            raise RanksGone from error
        return request

    def is_done(self, request: MPI.Request) -> bool:
        """Test."""
        try:
            return request.Test()
        except MPI.Exception as error:
            raise RanksGone from error

    def are_done(self, requests: Sequence[MPI.Request]) -> bool:
        """Test all."""
        try:
            return bool(MPI.Request.Testall(requests))
        except MPI.Exception as error:
            raise RanksGone from error

    def work(self) -> None:
        """Probe where nothing is ever sent."""
        MPI.COMM_SELF.Iprobe()

    def leave(self, *, all_left: bool, any_gone: bool, exit_code: int = 0) -> None:
        """Release the communicator, unless MPI would wait for a rank in that, or in MPI_Finalize."""
        if self.rank == 0 and not all_left:
            logger.warning("a rank does not answer: the job will be ended by MPI_Abort")
            atexit.register(self._comm.Abort, exit_code)
        elif any_gone:
            atexit.register(_end_without_mpi, exit_code)
        elif all_left:
            self._comm.Free()


def _end_without_mpi(exit_code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
