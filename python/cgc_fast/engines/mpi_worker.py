"""What a worker rank does: wait to be hired for a cluster, serve its iterations, and so on until dismissed.

    rank 0                                   worker w, rank w + 1
    ------                                   --------------------
    session: HIRE, then GO or CANCEL ---->   <---- HERE
    a communicator of the cluster's own, so that no message of another cluster can ever be taken for one of it
    NOTICE load, CONTENT its samples ---->   <---- WORD ready, or failed with a traceback
    THETA of an iteration            ---->   <---- PAYLOAD of a row; WORD alive, if there is nothing else
    NOTICE finish, orders + CONTENT  ---->
    NOTICE announce, CONTENT cells   ---->   under announce
    BOARD, a reply                   ---->   <---- BOARD, a question, under claim; SUM instead of payloads
    NOTICE replan, CONTENT a plan    ---->   <---- WORD replanned
    NOTICE stop                      ---->   <---- WORD bye
    NOTICE end                       ---->   the communicator is released, if everybody said bye

All calls return at once; whoever has nothing to do yields the processor for a moment and then sleeps longer
and longer, up to a millisecond, instead of keeping a core busy.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import struct
import sys
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

from cgc_fast.claims import ClaimTable, WorkerBoard
from cgc_fast.engines.board_messages import REPLY, AskingBoard
from cgc_fast.engines.remote_feedback import AnnounceRemoteWorker, ClaimRemoteWorker
from cgc_fast.engines.remote_worker import Delivery, RemoteWorker, Sum
from cgc_fast.engines.worker_process import load_problem
from cgc_fast.problems import Problem
from cgc_fast.schedule import Feedback
from cgc_fast.worker import Visit

__all__ = [
    "HEADER",
    "PREFIX",
    "TEXT_BYTES",
    "WORD_VALUES",
    "Assignment",
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

# A look lets MPI work, which hands the core to another rank where there are more ranks than cores.
_LOOK_S = 5e-4
_SPIN_S = 1e-3
_SHORTEST_SLEEP_S, _LONGEST_SLEEP_S = 2e-5, 1e-3


class Tag:
    """Of messages in a cluster's communicator; see `Assignment.first_tag` for those of payloads."""

    THETA, NOTICE, CONTENT, WORD, BOARD, SUM, PAYLOAD = range(7)


class Notice:
    """Kinds of notices: (kind, iteration, length of the content that follows in 8 bytes)."""

    LOAD, ORDER, FINISH, ANNOUNCE, REPLAN, STOP, END, END_SILENTLY = range(8)


class Word:
    """Kinds of a worker's words: (kind, iteration, process id, exit code or slot)."""

    ALIVE, READY, FAILED, NOT_FINITE, REPLANNED, BYE = range(6)


class Session:
    """Kinds of messages before and after a cluster: (kind, number of workers; PART: of lost ranks)."""

    TAG = 0
    HIRE, GO, CANCEL, DISMISS, HERE, GONE, PART = range(7)


@dataclass(frozen=True)
class Assignment:
    """What a worker does by one plan; the payload of a slot has the tag `first_tag` + slot.

    Every plan of a cluster has tags of its own, so that no late payload is taken for one of another plan.
    """

    walk: Sequence[Visit]
    slot_widths: NDArray[np.int64]
    payload: np.dtype[Any]
    feedback: Feedback
    cells: int
    first_tag: int


@dataclass(frozen=True)
class Task:
    """Everything a worker is told at its start.

    `iteration`: the one under way, whose walk is not its. `generation`: under claim, see `claims`.
    """

    worker: int
    workers: int
    coordinates: int
    assignment: Assignment
    problem: bytes  # pickled: a shard, or (factory, sample ranges)
    iteration: int
    generation: int


def pack(what: object) -> NDArray[np.int64]:
    """Pickle for a message of at most 16 GiB: MPI counts in 32 bits, so let it count 8 bytes at a time."""
    content = pickle.dumps(what, protocol=pickle.HIGHEST_PROTOCOL)
    return np.frombuffer(content + bytes(-len(content) % 8), dtype=np.int64)


class Backoff:
    """Wait without MPI, which would keep the core busy: yield for a moment, then sleep longer and longer."""

    def __init__(self, longest_s: float = _LONGEST_SLEEP_S) -> None:
        self._longest_s = longest_s
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
        self._sleep_s = min(2 * self._sleep_s, self._longest_s)


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
            elif kind == Session.PART:
                if workers > 0:
                    atexit.register(leave_without_mpi, 0)
                return
            elif kind == Session.HIRE:
                answer[0] = Session.HERE
                _await(comm.Isend(answer, dest=0, tag=Session.TAG))
            elif kind == Session.GO:
                group = comm.Get_group().Range_incl([(0, workers, 1)])
                _Rank(comm.Create_group(group)).run()
    finally:
        if mine:
            signal.signal(signal.SIGINT, before)


def leave_without_mpi(exit_code: int) -> None:
    """End this process without MPI_Finalize, in which Open MPI may wait for ever for ranks that are lost."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def _await(request: MPI.Request) -> None:
    backoff = Backoff()
    while not request.Test():
        backoff.pause()


class _Outgoing:
    """The buffer of a payload or a sum, header first, and the request that sends it."""

    def __init__(self, comm: MPI.Intracomm, tag: int, width: int, dtype: np.dtype[Any]) -> None:
        buffer = np.empty(HEADER + -(-width * dtype.itemsize // 8))
        self.payload: NDArray[Any] = buffer[HEADER:].view(dtype)[:width]
        self.bytes = buffer.view(np.uint8).data
        self.request = comm.Send_init(buffer, dest=0, tag=tag)


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
        self._looked_s = 0.0
        self._orders: list[tuple[int, list[Visit]]] = []
        self._ending: int | None = None  # kind of the notice that ends it
        self._slots: dict[int, _Outgoing] = {}  # by tag
        self._started: set[int] = set()  # tags of what may be on its way
        self._assignment: Assignment | None = None
        self._next_assignment: Assignment | None = None
        # Under announce: what is announced; under claim: number of the last question, and replies.
        self._table: ClaimTable | None = None
        self._asked = 0
        self._reply = np.zeros(1 + REPLY, dtype=np.int64)
        self._replies = comm.Recv_init(self._reply, source=0, tag=Tag.BOARD)
        self._replies.Start()
        self._under_way: list[tuple[MPI.Request, object]] = []  # with the buffers that they send from
        self._backoff = Backoff()

    def run(self) -> None:
        """Serve until the cluster is closed."""
        while self._ending is None:
            if self._task is not None:
                self._guarded(self._load)
            elif self._next_assignment is not None and self._loop is not None:
                self._guarded(self._replan)
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
        self._assignment = task.assignment
        problem = load_problem(task.problem)
        self._loop = self._make_loop(problem, task.generation)
        self._say(Word.READY, os.getpid())

    def _make_loop(self, problem: Problem, generation: int) -> RemoteWorker:
        assignment = self._assignment
        assert assignment is not None
        walk = assignment.walk
        self._table = None
        if assignment.feedback == "none":
            return RemoteWorker(problem, walk, self._place, self)
        if assignment.feedback == "claim":
            return ClaimRemoteWorker(problem, walk, self, AskingBoard(self._ask, generation))
        self._table = ClaimTable(1, assignment.cells)
        return AnnounceRemoteWorker(problem, walk, self._place, self, WorkerBoard(self._table, 0))

    def _replan(self) -> None:
        """Do as another plan says, when everything sent by the one before has arrived."""
        assert self._loop is not None
        self._retire()
        while self._under_way and self._ending is None:
            self._forget_arrived()
            self.wait(1.0)
        self._assignment, self._next_assignment = self._next_assignment, None
        self._loop = self._make_loop(self._loop.problem, 0)
        self._say(Word.REPLANNED)

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
        if MPI.Request.Testall([self._slots[tag].request for tag in self._started]):
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
        for what in self._loop.run(orders):
            if what is None:
                self._say(Word.ALIVE)
            elif isinstance(what, Sum):
                self._send_sum(what)
            elif self._assignment is not None and self._assignment.feedback == "claim":
                self._say(Word.NOT_FINITE, what.visit.slot)
            else:
                self._send(what)
        self._backoff.reset()  # the next may come soon

    def _place(self, visit: Visit) -> NDArray[Any]:
        assignment = self._assignment
        assert assignment is not None
        tag = assignment.first_tag + visit.slot
        return self._outgoing(tag, int(assignment.slot_widths[visit.slot]), assignment.payload).payload

    def _outgoing(self, tag: int, width: int, dtype: np.dtype[Any]) -> _Outgoing:
        """Find the buffer of a message, or make another one if it is on its way yet."""
        outgoing = self._slots.get(tag)
        if outgoing is None or (tag in self._started and not outgoing.request.Test()):
            if outgoing is not None:
                self._under_way.append((outgoing.request, outgoing))
            outgoing = self._slots[tag] = _Outgoing(self._comm, tag, width, dtype)
        return outgoing

    def _send(self, delivery: Delivery) -> None:
        assert self._loop is not None
        assert self._assignment is not None
        tag = self._assignment.first_tag + delivery.visit.slot
        outgoing = self._slots[tag]
        write_header(
            outgoing.bytes, 0, self._loop.iteration, delivery.finite, delivery.began_s, delivery.ended_s
        )
        outgoing.request.Start()
        self._started.add(tag)

    def _send_sum(self, what: Sum) -> None:
        assert self._loop is not None
        assert self._assignment is not None
        records = 3 * self._assignment.cells
        outgoing = self._outgoing(Tag.SUM, records + len(what.total), np.dtype(np.float64))
        write_header(outgoing.bytes, 0, self._loop.iteration, what.generation, len(what.visits), 0.0)
        if what.visits:
            outgoing.payload[: 3 * len(what.visits)] = np.ravel(what.visits)
            outgoing.payload[records:] = what.total
        outgoing.request.Start()
        self._started.add(Tag.SUM)

    def _ask(self, question: NDArray[np.int64]) -> list[int] | None:
        """Ask the board; None if the iteration ends before there is a reply."""
        assert self._loop is not None
        self._asked += 1
        message = np.concatenate([[self._asked, len(question)], question])
        self._forget_arrived()
        self._under_way.append((self._comm.Isend(message, dest=0, tag=Tag.BOARD), message))
        backoff = Backoff()
        while True:
            while self._replies.Test():
                reply: list[int] = self._reply.tolist()
                self._replies.Start()
                if reply[0] == self._asked:  # else it came too late
                    return reply[1:]
            if self.is_over(self._loop.iteration):
                return None
            backoff.pause()

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

    def _retire(self) -> None:
        """Use no buffer again."""
        self._under_way += [(outgoing.request, outgoing) for outgoing in self._slots.values()]
        self._slots.clear()
        self._started.clear()

    # --- the mailbox ----------------------------------------------------------------------------------

    def is_over(self, iteration: int) -> bool:
        """Whether the iteration was finished, another has begun, or the cluster is about to end."""
        if time.monotonic() - self._looked_s > _LOOK_S:
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
        self._looked_s = time.monotonic()
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
            elif kind == Notice.ANNOUNCE:
                if self._table is not None:
                    for cell in words.tolist():
                        self._table.announce(iteration, cell)
            elif kind == Notice.REPLAN:
                self._next_assignment = pickle.loads(words.tobytes())
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
        self._retire()
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
        for request in [*self._receives, self._notices, self._replies]:
            if not request.Test():
                request.Cancel()
                request.Wait()
            request.Free()
        self._forget_arrived()
        self._comm.Free()


_kept: list[_Rank] = []
