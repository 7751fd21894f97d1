"""What a worker rank does: wait to be hired for a cluster, serve its iterations, and so on until dismissed.

See `mpi_messages` for what it is told and says.
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from cgc_fast._core import MessageWalk
from cgc_fast.claims import ClaimTable, WorkerBoard
from cgc_fast.engines.board_messages import AskingBoard
from cgc_fast.engines.mpi_memory import find
from cgc_fast.engines.mpi_messages import (
    HEADER_VALUES,
    PREFIX,
    TEXT_BYTES,
    WORD_VALUES,
    Assignment,
    Backoff,
    Layout,
    Notice,
    Session,
    Tag,
    Task,
    Word,
    probe,
    size_of,
    unpack,
    write_header,
)
from cgc_fast.engines.remote_feedback import AnnounceRemoteWorker, ClaimRemoteWorker
from cgc_fast.engines.remote_worker import ALIVE_S, Delivery, RemoteWorker, Sum
from cgc_fast.engines.worker_process import compiled_kernel, for_kernel, load_problem
from cgc_fast.problems import Problem
from cgc_fast.worker import SLICE_S, SOON_S, Visit

__all__ = ["leave_without_mpi", "serve_session"]

_LOADING = -1  # in the place of an iteration: the worker has not loaded its samples

# A look lets MPI work, which hands the core to another rank where there are more ranks than cores.
_LOOK_S = 5e-4


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
    if request.Test():
        return
    backoff = Backoff()
    while not request.Test():
        backoff.pause()


class _Theta:
    """Where a message with theta arrives; where it lies is said if it is in memory of rank 0's."""

    def __init__(self, task: Task, shared: NDArray[np.float64] | None) -> None:
        prefix = PREFIX + task.workers
        self.message = np.empty(prefix + task.coordinates)
        messages = [self.message]
        if shared is not None:
            messages += list(shared.reshape(-1, prefix + task.coordinates))
        self._values = [message[prefix:] for message in messages]
        for values in self._values:
            values.flags.writeable = False
        self.prefix = self.message[:prefix]

    def look(self, size: int) -> None:
        """So many values have arrived."""
        self.values = self._values[0 if size == len(self.message) else 1 + int(self.message[2])]


class _Outbox:
    """What a worker delivers by one plan: the payloads of its walk in one piece.

    There are two of them: the second is for iterations that begin while the first is still on its way. On the
    host of rank 0 there is one, in memory of rank 0, which is told what lies there and reads it until it
    begins another iteration. Visits that are not in its walk, or are made once more, have a message of their
    own.
    """

    def __init__(
        self, comm: MPI.Intracomm, assignment: Assignment, shared: NDArray[np.float64] | None
    ) -> None:
        self._comm = comm
        self._assignment = assignment
        self._layout = layout = Layout(assignment.walk, assignment.slot_widths, assignment.payload)
        self._is_shared = shared is not None
        self.memories = [np.empty(layout.bounds[-1]) for _ in range(2)] if shared is None else 2 * [shared]
        self.memory = 0  # which is in use
        self._requests: list[list[MPI.Request]] = [[], []]  # that send from them
        self._others: dict[int, NDArray[np.float64]] = {}  # slot -> message
        self._placed: set[int] = set()  # slots that have been given their place in this iteration
        self._iteration = 0

    def begin(self, iteration: int, walk: bool) -> bool:
        """Whether an iteration may begin: nothing is on its way any more from where its payloads go."""
        are_sent = [not requests or MPI.Request.Testall(requests) for requests in self._requests]
        if not any(are_sent):
            return False
        self.memory = are_sent.index(True)
        self._requests[self.memory].clear()
        self._iteration = iteration
        self._others.clear()
        self._placed.clear()
        if self._is_shared and not walk:  # a walk before this one may have filled its place
            self._placed.update(self._layout.position)
        return True

    def resume(self, made: int) -> None:
        """So many visits of the walk have been placed by somebody else."""
        self._placed.update(self._layout.slots[:made].tolist())

    def place(self, visit: Visit) -> NDArray[Any]:
        """Where the payload of a visit goes."""
        slot, kind = visit.slot, self._assignment.payload
        position = self._layout.position.get(slot)
        if position is not None and slot not in self._placed:
            self._placed.add(slot)
            return self._layout.payload(self.memories[self.memory], position)
        width = int(self._assignment.slot_widths[slot])
        message = self._others[slot] = np.empty(size_of(width, kind))
        return message[HEADER_VALUES:].view(kind)[:width]

    def send_run(self, first: int, stop: int) -> None:
        """Send the payloads of visits of the walk; their headers are written."""
        bounds = self._layout.bounds
        if self._is_shared:
            run = np.array([self._iteration, stop - first], dtype=np.float64)
        else:
            run = self.memories[self.memory][bounds[first] : bounds[stop]]
        tag = self._assignment.first_tag + int(self._layout.slots[first])
        self._requests[self.memory].append(self._comm.Isend(run, dest=0, tag=tag))

    def send(self, deliveries: Sequence[Delivery]) -> list[tuple[MPI.Request, NDArray[Any]]]:
        """Send payloads: the requests, if the place of them is to be kept until they are done.

        Several are a run of the walk, made for the first time.
        """
        slot = deliveries[0].visit.slot
        message = self._others.get(slot)
        if message is None:
            first = self._layout.position[slot]
            memory, bounds = self.memories[self.memory].data, self._layout.bounds
            for position, delivery in enumerate(deliveries, first):
                self._write_header(memory, 8 * bounds[position], delivery)
            self.send_run(first, first + len(deliveries))
            return []
        self._write_header(message.data, 0, deliveries[0])
        tag = self._assignment.first_tag + slot
        return [(self._comm.Isend(message, dest=0, tag=tag), message)]

    def _write_header(self, memory: memoryview, offset: int, delivery: Delivery) -> None:
        _, finite, began_s, ended_s = delivery
        write_header(memory, offset, self._iteration, finite, began_s, ended_s)

    def under_way(self) -> list[tuple[MPI.Request, NDArray[Any]]]:
        """Everything that sends from the payloads of the walk."""
        pairs = zip(self._requests, self.memories, strict=True)
        return [(request, memory) for requests, memory in pairs for request in requests]


class _Rank:
    """A worker in one cluster; it is its own `Mailbox`."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm
        self._status = MPI.Status()
        self._thetas: list[_Theta] = []  # the one in use, and the one that is yet to come
        self._theta_came = False
        self._finds = False  # memory of rank 0
        self._task: Task | None = None
        self._loaded: Task | None = None
        self._assignment: Assignment | None = None
        self._next_assignment: Assignment | None = None
        self._outbox: _Outbox | None = None
        self._loop: RemoteWorker | None = None
        # What makes ordinary iterations, if the problem has a kernel; and whether it has made what there is
        # of the iteration, and the loop knows nothing of it.
        self._compiled: MessageWalk | None = None
        self._is_ordinary = False
        self._iteration = 0
        self._finished = 0
        self._looked_s = 0.0
        self._orders: list[tuple[int, list[Visit]]] = []
        self._ending: int | None = None  # kind of the notice that ends it
        # Under announce: what is announced; under claim: number of the last question, and reply.
        self._table: ClaimTable | None = None
        self._asked = 0
        self._reply: list[int] = [0]
        self._under_way: list[tuple[MPI.Request, NDArray[Any]]] = []  # with what they send from
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
            elif self._loop is not None and (orders := self.take_orders(self._iteration)):
                self._guarded(partial(self._go_on, orders))
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

    # --- what it is to do -----------------------------------------------------------------------------

    def _load(self) -> None:
        task = self._task
        assert task is not None
        self._task = self._loop = None
        self._loaded = task
        if not self._thetas:
            shared = None if task.thetas is None else find(task.thetas)
            self._finds = shared is not None
            self._thetas = [_Theta(task, shared), _Theta(task, shared)]
        self._take_assignment(task.assignment, load_problem(task.problem), task.generation)
        self._say(Word.READY, os.getpid())

    def _replan(self) -> None:
        """Do as another plan says."""
        assert self._loop is not None
        assert self._next_assignment is not None
        assignment, self._next_assignment = self._next_assignment, None
        self._take_assignment(assignment, self._loop.problem, 0)
        self._say(Word.REPLANNED)

    def _take_assignment(self, assignment: Assignment, problem: Problem, generation: int) -> None:
        if self._outbox is not None:
            self._under_way += self._outbox.under_way()
        walk, place = assignment.walk, self._place
        self._assignment = assignment
        memory = find(assignment.memory) if self._finds and assignment.memory is not None else None
        self._outbox = _Outbox(self._comm, assignment, memory)
        self._table = self._compiled = None
        self._is_ordinary = False
        self._iteration = 0
        if assignment.feedback == "claim":
            self._loop = ClaimRemoteWorker(problem, walk, self, AskingBoard(self._ask, generation))
        elif assignment.feedback == "announce":
            self._table = ClaimTable(1, assignment.cells)
            self._loop = AnnounceRemoteWorker(problem, walk, place, self, WorkerBoard(self._table, 0))
        else:
            self._loop = RemoteWorker(problem, walk, place, self)
            kernel = compiled_kernel(problem)
            if kernel is not None and assignment.payload == np.float64:
                first, second = self._outbox.memories
                self._compiled = MessageWalk(kernel, for_kernel(walk), first, second, SLICE_S, SOON_S)
        self._say(Word.SHARES, int(memory is not None))

    def _take_up(self) -> None:
        """Take up the iteration whose theta has come."""
        task, loop, outbox = self._loaded, self._loop, self._outbox
        assert task is not None
        assert loop is not None
        assert outbox is not None
        theta = self._thetas[1]
        iteration = int(theta.message[0])
        walk = iteration > task.iteration
        if not outbox.begin(iteration, walk):  # the master has not taken everything of the last but one
            self.wait(1.0)
            return
        with_value, cycle_time = bool(theta.message[1]), float(theta.message[PREFIX + task.worker])
        self._thetas.reverse()  # the one before is free from now on
        self._theta_came = False
        self._iteration = iteration
        self._is_ordinary = self._compiled is not None and walk and math.isnan(cycle_time)
        if self._is_ordinary:
            self._with_value = with_value
            self._walk(theta.values)
            return
        loop.begin(
            iteration,
            theta.values,
            cycle_time=None if math.isnan(cycle_time) else cycle_time,
            with_value=with_value,
            walk=walk,
        )
        self._go_on()

    def _walk(self, theta: NDArray[np.float64]) -> None:
        """Make an ordinary iteration, up to its end or to anything that is not."""
        walk, outbox = self._compiled, self._outbox
        assert walk is not None
        assert outbox is not None
        self._began_s = spoke_s = time.monotonic()
        walk.begin(self._iteration, outbox.memory, theta, self._with_value)
        answered = False
        while not walk.is_over:
            first, stop, finite = walk.go_on()
            if stop > first:
                outbox.send_run(first, stop)
                if walk.is_over:
                    os.sched_yield()  # to rank 0, should there be more ranks than cores
                answered = True
                spoke_s = time.monotonic()
                if not finite:
                    self._go_on(rejected=stop - 1)
                    return
            elif time.monotonic() - spoke_s > ALIVE_S:
                self._say(Word.ALIVE)
                answered = True
                spoke_s = time.monotonic()
            if walk.is_over or self.is_over(self._iteration):
                break
            if self._orders and (orders := self.take_orders(self._iteration)):
                self._go_on(orders)
                return
        if not answered:
            self._say(Word.ALIVE)
        self._backoff.reset()  # the next may come soon

    def _go_on(self, orders: Sequence[Visit] = (), rejected: int | None = None) -> None:
        """Do what is left of the iteration, and what was ordered."""
        loop, walk = self._loop, self._compiled
        assert loop is not None
        if self._is_ordinary:
            self._is_ordinary = False
            assert walk is not None
            assert self._outbox is not None
            self._outbox.resume(walk.made)
            loop.resume(
                self._iteration,
                self._began_s,
                with_value=self._with_value,
                made=walk.made,
                next_coordinate=walk.next_coordinate,
                visit_began_s=walk.visit_began_s,
                rejected=rejected,
            )
        for what in loop.run(orders):
            if what is None:
                self._say(Word.ALIVE)
            elif isinstance(what, Sum):
                self._send_sum(what)
            else:
                self._send(what)
        self._backoff.reset()

    # --- what it says ---------------------------------------------------------------------------------

    def _place(self, visit: Visit) -> NDArray[Any]:
        assert self._outbox is not None
        return self._outbox.place(visit)

    def _send(self, deliveries: Sequence[Delivery]) -> None:
        assert self._outbox is not None
        assert self._assignment is not None
        if self._assignment.feedback == "claim":
            self._say(Word.NOT_FINITE, deliveries[0].visit.slot)
            return
        self._forget_arrived()
        self._under_way += self._outbox.send(deliveries)

    def _send_sum(self, what: Sum) -> None:
        count = len(what.visits)
        message = np.empty(HEADER_VALUES + (3 * count + len(what.total) if count else 0))
        write_header(message.data, 0, self._iteration, what.generation, count, 0.0)
        if count:
            message[HEADER_VALUES : HEADER_VALUES + 3 * count] = np.ravel(what.visits)
            message[HEADER_VALUES + 3 * count :] = what.total
        self._isend(message, Tag.SUM)

    def _ask(self, question: NDArray[np.int64]) -> list[int] | None:
        """Ask the board; None if the iteration ends before there is a reply."""
        self._asked += 1
        self._isend(np.concatenate([[self._asked], question]), Tag.BOARD)
        backoff = Backoff()
        while True:
            self._look()
            if self._reply[0] == self._asked:  # else it came too late
                return self._reply[1:]
            if self._is_over(self._iteration):
                return None
            backoff.pause()

    def _say(self, kind: int, value: int = 0, text: bytes = b"") -> None:
        word = np.empty(WORD_VALUES + -(-len(text) // 8))
        word[:WORD_VALUES] = kind, _LOADING if self._loop is None else self._iteration, value
        word[WORD_VALUES:].view(np.uint8)[: len(text)] = np.frombuffer(text, dtype=np.uint8)
        word[WORD_VALUES:].view(np.uint8)[len(text) :] = ord(" ")
        self._isend(word, Tag.WORD)

    def _isend(self, message: NDArray[Any], tag: int) -> None:
        self._forget_arrived()
        self._under_way.append((self._comm.Isend(message, dest=0, tag=tag), message))

    def _forget_arrived(self) -> None:
        """Drop what has been sent, with its buffers."""
        if self._under_way:
            self._under_way = [sent for sent in self._under_way if not sent[0].Test()]

    # --- the mailbox ----------------------------------------------------------------------------------

    def is_over(self, iteration: int) -> bool:
        """Whether the iteration was finished, another or another plan has come, or the cluster is to end."""
        if time.monotonic() - self._looked_s > _LOOK_S:
            self._look()
        return self._is_over(iteration)

    def _is_over(self, iteration: int) -> bool:
        next_came = self._theta_came or self._next_assignment is not None or self._ending is not None
        return self._finished >= iteration or next_came

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
        while self._ending is None or self._ending == Notice.STOP:
            message = probe(self._comm, 0, self._status)
            if message is None:
                break
            came = True
            if self._status.tag == Tag.THETA:  # whatever came before and was not taken up is over
                theta, size = self._thetas[1], self._status.Get_count(MPI.DOUBLE)
                if size < len(theta.message):
                    message.Recv(theta.prefix)  # so small a message has come as a whole
                else:
                    _await(message.Irecv(theta.message))
                theta.look(size)
                self._theta_came = True
                break  # it is what everything else waits for
            words = np.empty(self._status.Get_count(MPI.INT64_T), dtype=np.int64)
            _await(message.Irecv(words))
            if self._status.tag == Tag.BOARD:
                self._reply = words.tolist()
            else:
                self._heed(int(words[0]), int(words[1]), words[2:])
        return came

    def _heed(self, kind: int, iteration: int, content: NDArray[np.int64]) -> None:
        """Take note of a notice."""
        if kind == Notice.LOAD:
            self._task = unpack(content)
        elif kind == Notice.ORDER:
            self._orders.append((iteration, unpack(content)))
        elif kind == Notice.ANNOUNCE:
            if self._table is not None:
                for cell in content.tolist():
                    self._table.announce(iteration, cell)
        elif kind == Notice.REPLAN:
            self._next_assignment = unpack(content)
        elif kind == Notice.FINISH:
            self._finished = max(self._finished, iteration)
        else:
            self._ending = kind

    # --- the end --------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Say goodbye when everything sent has arrived, and release the communicator if all did."""
        if self._outbox is not None:
            self._under_way += self._outbox.under_way()
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
        while self._under_way:
            self._forget_arrived()
        self._comm.Free()


_kept: list[_Rank] = []
