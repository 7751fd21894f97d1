"""What a worker rank does: wait to be hired for a cluster, serve its iterations, and so on until dismissed.

    rank 0                                   worker w, rank w + 1
    ------                                   --------------------
    session: HIRE, then GO or CANCEL ---->   <---- HERE
    a communicator of the cluster's own, so that no message of another cluster can ever be taken for one of it
    NOTICE load, CONTENT its samples ---->   <---- WORD ready, or failed with a traceback
    THETA of an iteration            ---->   <---- PAYLOAD of a row; WORD alive, if there is nothing else
    NOTICE finish, orders + CONTENT  ---->
    NOTICE stop                      ---->   <---- WORD bye
    NOTICE end                       ---->   the communicator is released, if everybody said bye

All calls return at once; whoever has nothing to do yields the processor for a moment and then sleeps longer
and longer, up to a millisecond, instead of keeping a core busy.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from cgc_fast.engines.remote_worker import Delivery, RemoteWorker
from cgc_fast.engines.worker_process import load_problem
from cgc_fast.worker import Visit

__all__ = [
    "HEADER",
    "PREFIX",
    "TEXT_BYTES",
    "WORD_VALUES",
    "Backoff",
    "Notice",
    "Session",
    "Tag",
    "Task",
    "Word",
    "pack",
    "read_header",
    "serve_session",
]

# Before each payload: iteration, whether it is finite, began and ended in seconds. Cell and row are its tag.
HEADER = 4
write_header = struct.Struct(f"={HEADER}d").pack_into
read_header = struct.Struct(f"={HEADER}d").unpack_from
PREFIX = 2  # before each theta: iteration, with_value; then the cycle times
WORD_VALUES = 3  # kind, iteration, and one more; then the text of a traceback
TEXT_BYTES = 32_000

_LOADING = -1  # in the place of an iteration: the worker has not loaded its samples

_SPIN_S = 2e-4
_SHORTEST_SLEEP_S, _LONGEST_SLEEP_S = 2e-5, 1e-3


class Tag:
    """Of messages in a cluster's communicator; payloads have that of their slot behind `PAYLOAD`."""

    THETA, NOTICE, CONTENT, WORD, PAYLOAD = range(5)


class Notice:
    """Kinds of notices: (kind, iteration, length of the content that follows in 8 bytes)."""

    LOAD, ORDER, FINISH, STOP, END, END_SILENTLY = range(6)


class Word:
    """Kinds of a worker's words: (kind, iteration, process id or exit code)."""

    ALIVE, READY, FAILED, BYE = range(4)


class Session:
    """Kinds of messages before and after a cluster: (kind, number of workers)."""

    TAG = 0
    HIRE, GO, CANCEL, DISMISS, HERE, GONE = range(6)


@dataclass(frozen=True)
class Task:
    """Everything a worker is told at its start; `iteration`: the one under way, whose walk is not its."""

    worker: int
    workers: int
    coordinates: int
    walk: Sequence[Visit]
    slot_widths: NDArray[np.int64]
    payload: np.dtype[Any]
    problem: bytes  # pickled: a shard, or (factory, sample ranges)
    iteration: int


def pack(what: object) -> NDArray[np.int64]:
    """Pickle for a message of at most 16 GiB: MPI counts in 32 bits, so let it count 8 bytes at a time."""
    content = pickle.dumps(what, protocol=pickle.HIGHEST_PROTOCOL)
    return np.frombuffer(content + bytes(-len(content) % 8), dtype=np.int64)


class Backoff:
    """Wait without MPI, which would keep the core busy: yield for a moment, then sleep longer and longer."""

    def __init__(self) -> None:
        self._since_s = time.monotonic()
        self._sleep_s = _SHORTEST_SLEEP_S

    def reset(self) -> None:
        """Something came: what follows may come soon."""
        self._since_s = time.monotonic()
        self._sleep_s = _SHORTEST_SLEEP_S

    def pause(self, at_most_s: float = _LONGEST_SLEEP_S) -> None:
        """Let others run."""
        if time.monotonic() - self._since_s < _SPIN_S:
            os.sched_yield()
            return
        time.sleep(max(0.0, min(self._sleep_s, at_most_s)))
        self._sleep_s = min(2 * self._sleep_s, _LONGEST_SLEEP_S)


def serve_session(comm: MPI.Intracomm) -> None:
    """Work for rank 0 of the session's communicator until it dismisses everybody.

    Ctrl-C is rank 0's to answer: the system sends it to all processes of a terminal.
    """
    mine = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if mine else None
    message = np.zeros(2, dtype=np.int64)
    answer = np.zeros(2, dtype=np.int64)
    try:
        while True:
            _await(comm.Irecv(message, source=0, tag=Session.TAG))
            kind, workers = message.tolist()
            if kind == Session.DISMISS:
                answer[0] = Session.GONE
                _await(comm.Isend(answer, dest=0, tag=Session.TAG))
                return
            if kind == Session.HIRE:
                answer[0] = Session.HERE
                _await(comm.Isend(answer, dest=0, tag=Session.TAG))
            elif kind == Session.GO:
                group = comm.Get_group().Range_incl([(0, workers, 1)])
                _Rank(comm.Create_group(group)).run()
    finally:
        if mine:
            signal.signal(signal.SIGINT, before)


def _await(request: MPI.Request) -> None:
    backoff = Backoff()
    while not request.Test():
        backoff.pause()


class _Outgoing:
    """The buffer of a row's payload, header first, and the request that sends it."""

    def __init__(self, comm: MPI.Intracomm, visit: Visit, width: int, dtype: np.dtype[Any]) -> None:
        buffer = np.empty(HEADER + -(-width * dtype.itemsize // 8))
        self.payload: NDArray[Any] = buffer[HEADER:].view(dtype)[:width]
        self.bytes = buffer.view(np.uint8).data
        self.request = comm.Send_init(buffer, dest=0, tag=Tag.PAYLOAD + visit.slot)


class _Rank:
    """A worker in one cluster; it is its own `Mailbox`."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm
        self._notice = np.zeros(3, dtype=np.int64)
        self._notices = comm.Recv_init(self._notice, source=0, tag=Tag.NOTICE)
        self._notices.Start()
        self._thetas: list[NDArray[np.float64]] = []  # the one in use, and the one that is yet to come
        self._receives: list[MPI.Prequest] = []
        self._parity = 0
        self._loop: RemoteWorker | None = None
        self._task: Task | None = None
        self._loaded: Task | None = None
        self._theta_came = False
        self._finished = 0
        self._orders: list[tuple[int, list[Visit]]] = []
        self._ending: int | None = None  # kind of the notice that ends it
        self._slots: dict[int, _Outgoing] = {}
        self._started: set[int] = set()  # slots whose payload may be on its way
        self._under_way: list[tuple[MPI.Request, object]] = []  # with the buffers that they send from
        self._backoff = Backoff()

    def run(self) -> None:
        """Serve until the cluster is closed."""
        while self._ending is None:
            if self._task is not None:
                self._guarded(self._load)
            elif self._theta_came and self._loop is not None:
                self._guarded(self._take_up)
            elif self._loop is not None and (orders := self.take_orders(self._loop.iteration)):
                self._guarded(partial(self._send_all, orders))
            else:
                self.wait(1.0)
        self._leave()

    def _guarded(self, step: Callable[[], None]) -> None:
        """Do a step of the user's problem. What it raises is reported, and the rank waits to be told more."""
        try:
            step()
        except BaseException as error:
            exit_code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
            text = traceback.format_exc().encode(errors="replace")[-TEXT_BYTES:]
            self._say(Word.FAILED, exit_code, text)
            self._loop = None

    def _load(self) -> None:
        task = self._task
        assert task is not None
        self._task = self._loop = None
        self._loaded = task
        if not self._thetas:
            for _ in range(2):
                buffer = np.empty(PREFIX + task.workers + task.coordinates)
                self._thetas.append(buffer)
                self._receives.append(self._comm.Recv_init(buffer, source=0, tag=Tag.THETA))
            self._receives[0].Start()
        self._loop = RemoteWorker(load_problem(task.problem), task.walk, self._place, self)
        self._say(Word.READY, os.getpid())

    def _take_up(self) -> None:
        task, loop = self._loaded, self._loop
        assert task is not None
        assert loop is not None
        buffer = self._thetas[self._parity]
        iteration, with_value = int(buffer[0]), bool(buffer[1])
        cycle_time = float(buffer[PREFIX + task.worker])
        theta = buffer[PREFIX + task.workers :]
        theta.flags.writeable = False
        self._theta_came = False
        if MPI.Request.Testall([self._slots[slot].request for slot in self._started]):
            self._started.clear()
        try:
            loop.begin(
                iteration,
                theta,
                cycle_time=None if np.isnan(cycle_time) else cycle_time,
                with_value=with_value,
                walk=iteration > task.iteration,
            )
        finally:  # the buffer before is free from now on
            self._parity = 1 - self._parity
            self._receives[self._parity].Start()
        self._send_all(())

    def _send_all(self, orders: Sequence[Visit]) -> None:
        assert self._loop is not None
        for delivery in self._loop.run(orders):
            if delivery is None:
                self._say(Word.ALIVE)
            else:
                self._send(delivery)
        self._backoff.reset()  # the next may come soon

    def _place(self, visit: Visit) -> NDArray[Any]:
        outgoing = self._slots.get(visit.slot)
        if outgoing is None or (visit.slot in self._started and not outgoing.request.Test()):
            if outgoing is not None:  # it is on its way yet
                self._under_way.append((outgoing.request, outgoing))
            assert self._loaded is not None
            width = int(self._loaded.slot_widths[visit.slot])
            outgoing = _Outgoing(self._comm, visit, width, self._loaded.payload)
            self._slots[visit.slot] = outgoing
        return outgoing.payload

    def _send(self, delivery: Delivery) -> None:
        slot = delivery.visit.slot
        outgoing = self._slots[slot]
        assert self._loop is not None
        write_header(
            outgoing.bytes, 0, self._loop.iteration, delivery.finite, delivery.began_s, delivery.ended_s
        )
        outgoing.request.Start()
        self._started.add(slot)

    def _say(self, kind: int, value: int = 0, text: bytes = b"") -> None:
        word = np.empty(WORD_VALUES + -(-len(text) // 8))
        word[:WORD_VALUES] = kind, _LOADING if self._loop is None else self._loop.iteration, value
        word[WORD_VALUES:].view(np.uint8)[: len(text)] = np.frombuffer(text, dtype=np.uint8)
        word[WORD_VALUES:].view(np.uint8)[len(text) :] = ord(" ")
        self._forget_arrived()
        self._under_way.append((self._comm.Isend(word, dest=0, tag=Tag.WORD), word))

    def _forget_arrived(self) -> None:
        """Drop what has been sent, with its buffers."""
        kept = []
        for request, buffer in self._under_way:
            if not request.Test():
                kept.append((request, buffer))
            elif isinstance(request, MPI.Prequest):
                request.Free()
        self._under_way = kept

    # --- the mailbox ----------------------------------------------------------------------------------

    def is_over(self, iteration: int) -> bool:
        """Whether the iteration was finished, another has begun, or the cluster is about to end."""
        self._look()
        return self._finished >= iteration or self._theta_came or self._ending is not None

    def take_orders(self, iteration: int) -> Sequence[Visit]:
        """Orders of this iteration; older ones are dropped, newer ones wait for theta."""
        if not self._orders:
            return ()
        mine = [visit for ordered, visits in self._orders if ordered == iteration for visit in visits]
        self._orders = [order for order in self._orders if order[0] > iteration]
        return mine

    def wait(self, timeout_s: float) -> None:
        """Look, and if nothing came, let others run for a moment."""
        if self._look():
            self._backoff.reset()
        else:
            self._backoff.pause(timeout_s)

    def _look(self) -> bool:
        """Take in what has come."""
        came = False
        while self._notices.Test():
            came = True
            kind, iteration, length = self._notice.tolist()
            words = np.empty(length, dtype=np.int64)
            if length:
                _await(self._comm.Irecv(words, source=0, tag=Tag.CONTENT))
            if kind == Notice.LOAD:
                self._task = pickle.loads(words.tobytes())
            elif kind == Notice.ORDER:
                self._orders.append((iteration, pickle.loads(words.tobytes())))
            elif kind == Notice.FINISH:
                self._finished = max(self._finished, iteration)
            else:
                self._ending = kind
                if kind != Notice.STOP:
                    return True
            self._notices.Start()
        if self._receives and not self._theta_came and self._receives[self._parity].Test():
            self._theta_came = came = True
        return came

    # --- the end --------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Say goodbye when everything sent has arrived, and release the communicator if all did."""
        self._under_way += [(outgoing.request, outgoing) for outgoing in self._slots.values()]
        self._slots.clear()
        said_bye = False
        while self._ending == Notice.STOP:
            self._forget_arrived()
            if not self._under_way and not said_bye:
                said_bye = True
                self._say(Word.BYE)
            self.wait(1.0)
        if self._ending == Notice.END_SILENTLY:
            _kept.append(self)  # what is under way still refers to its buffers
            return
        for request in [*self._receives, self._notices]:
            if not request.Test():
                request.Cancel()
                request.Wait()
            request.Free()
        self._forget_arrived()
        self._comm.Free()


_kept: list[_Rank] = []
