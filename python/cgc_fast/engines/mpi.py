"""The MPI engine: rank 0 is the master, worker w is rank w + 1.

    from cgc_fast.engines import mpi
    mpi.run(main)      # rank 0 runs main(); the other ranks work for the clusters that it makes

A rank that raises reports its traceback, stays, and is asked to load its samples again. A rank that hangs is
suspected as in any engine and then written off; it cannot be killed from here, but if it comes back it is
taken up again. What becomes of the job when a rank is gone is up to MPI: see docs/engines.md. See
`mpi_messages` for the messages.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from cgc_fast._core import Collector
from cgc_fast.engines.base import (
    CellOutline,
    Delivered,
    Event,
    Job,
    Lost,
    Presence,
    Ready,
    WithoutFeedback,
    wait_until_ready,
)
from cgc_fast.engines.launch import pickled_for_worker
from cgc_fast.engines.message_collector import MessageCollector
from cgc_fast.engines.mpi_memory import Offer, Place
from cgc_fast.engines.mpi_messages import (
    HEADER_VALUES,
    PREFIX,
    RUN_VALUES,
    WORD_VALUES,
    Assignment,
    Backoff,
    Layout,
    Notice,
    Tag,
    Task,
    Word,
    pack,
    probe,
    read_header,
    size_of,
)
from cgc_fast.engines.mpi_session import LEAVE_S, Ranks
from cgc_fast.engines.mpi_worker import leave_without_mpi, serve_session
from cgc_fast.engines.signs import Hearing
from cgc_fast.errors import ArgumentValueError, CgcError, ClusterClosed
from cgc_fast.interrupts import interrupts_postponed
from cgc_fast.supervisor import SignOfLife
from cgc_fast.worker import Visit

__all__ = ["Message", "MpiEngine", "run"]

logger = logging.getLogger(__name__)

# Iterations sent to a worker that it has not answered. It keeps one theta and receives the next; more would
# pile up at a worker that hangs.
_MOST_UNANSWERED = 2

_EMPTY: NDArray[np.int64] = np.empty(0, dtype=np.int64)
_NO_VALUES: NDArray[np.float64] = np.empty(0)

_Result = TypeVar("_Result")


_session: Ranks | None = None


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
    session = Ranks((MPI.COMM_WORLD if comm is None else comm).Dup())
    if session.comm.rank > 0:
        serve_session(session.comm)
        return None
    if _session is not None:
        raise CgcError("cgc_fast.engines.mpi.run: expected one call at a time, got one within another")
    _session = session
    exit_code = 1
    try:
        result = main()
        exit_code = 0
        return result
    finally:
        _session = None
        with interrupts_postponed():
            for engine in list(_open):
                engine.close()
            all_left, lost = session.dismiss()
            if not all_left:
                logger.warning("a rank does not answer: the job will be ended by MPI_Abort")
                atexit.register(session.comm.Abort, exit_code)
            elif lost:
                atexit.register(leave_without_mpi, exit_code)


# --- the engine ---------------------------------------------------------------------------------------------


class Message:
    """A message that was found, where it goes, and the request that receives it; `size`: in 8 bytes."""

    __slots__ = ("buffer", "in_place", "matched", "request", "size", "slots", "tag", "worker")

    def __init__(self, worker: int, tag: int, size: int, matched: MPI.Message) -> None:
        self.worker, self.tag, self.size, self.matched = worker, tag, size, matched
        self.buffer: NDArray[Any] = _EMPTY
        self.slots = _EMPTY  # of its payloads
        self.in_place = False
        self.request: MPI.Request | None = None


class _Theta:
    """A message with theta, and the requests that send it; `index`: of the shared ones, others have none."""

    def __init__(self, message: NDArray[np.float64], workers: int, index: int = -1) -> None:
        self.message, self._index = message, index
        self.prefix, self.values = message[: PREFIX + workers], message[PREFIX + workers :]
        self._cycle_times = message[PREFIX : PREFIX + workers]
        self._cycle_times[:] = np.nan
        self._are_given = False  # the cycle times
        self.requests: list[MPI.Request] = []

    def write_prefix(self, iteration: int, with_value: bool, cycle_times: NDArray[np.float64] | None) -> None:
        """What comes before theta."""
        self.message[0], self.message[1], self.message[2] = iteration, with_value, self._index
        if cycle_times is not None or self._are_given:
            self._cycle_times[:] = np.nan if cycle_times is None else cycle_times
            self._are_given = cycle_times is not None

    def part_for(self, rank: _Rank) -> NDArray[np.float64]:
        """What a rank is to be sent of it."""
        return self.prefix if rank.shares and self._index >= 0 else self.message

    def is_free(self) -> bool:
        """Whether it has been sent to everybody."""
        if self.requests and _are_done(self.requests):
            self.requests.clear()
        return not self.requests


class _Rank:
    """What the master knows of a worker, and what it has delivered.

    `iteration`: the last one that it was sent. `owed`: payloads that it has not delivered in that one.
    """

    def __init__(self) -> None:
        self.presence: Presence = "starting"
        self.process_id: int | None = None
        self.iteration = 0
        self.owed = 0
        self.unanswered: list[int] = []
        self.behind = False
        self.loads = 0  # tasks that were sent and not answered
        self.shares = False  # the memory of this rank, as it said last
        self.is_buried = False  # MPI says that it is gone
        self.has_left = False  # no message of it is to come
        # Of the iteration under way, which the master may be reading: slots, and payloads out of the walk.
        self.held: set[int] = set()
        self.others: dict[int, NDArray[np.float64]] = {}
        self.offer: Offer | None = None
        self.memory = _NO_VALUES

    def lay_out(self, layout: Layout, *, share_memory: bool) -> None:
        """Set room aside for the payloads of a walk; pages that nothing arrives in take no memory."""
        self.layout = layout
        self.close_offer()
        self.offer = Offer(layout.bounds[-1]) if share_memory else None
        self.memory = np.empty(layout.bounds[-1]) if self.offer is None else self.offer.values
        self.forget_payloads()

    def close_offer(self) -> None:
        """No process finds the room any more."""
        if self.offer is not None:
            self.offer.close()

    def forget_payloads(self) -> None:
        """Nobody reads them any more."""
        self.held.clear()
        self.others.clear()


class MpiEngine(WithoutFeedback):
    """Hire ranks; the constructor returns when all of them have loaded their samples.

    Parameters
    ----------
    job : Job
    share_memory : bool
        Whether workers on the host of rank 0 read theta and put payloads where it has them in memory, instead
        of being sent and sending them. The rest is messages, as everything is with ranks elsewhere.
    """

    _longest_sleep_s = 1e-3

    def __init__(self, job: Job, *, share_memory: bool = True) -> None:
        if _session is None:
            raise CgcError(
                "engine 'mpi': expected to be called on rank 0 by cgc_fast.engines.mpi.run(main), which lets "
                "the other ranks work; got a call from elsewhere"
            )
        if MPI.Query_thread() < MPI.THREAD_SERIALIZED:
            raise CgcError(
                "engine 'mpi': expected calls from several threads in turn to be allowed "
                f"(MPI_THREAD_SERIALIZED), got thread level {MPI.Query_thread()}: leave "
                "mpi4py.rc.thread_level at its default"
            )
        self._job = job
        self._workers = len(job.walks)
        self._coordinates = int(job.problem.coordinates)
        self._first_tag = int(Tag.PAYLOAD)
        self._check_tags(job)
        began_s = time.monotonic()
        first = pickled_for_worker(job, 0)  # refused before anybody is hired
        self._closed = False
        self._interrupted = False
        self._running = False
        self._early: list[Event] = []
        self._waiting = threading.RLock()  # held while a thread waits for events
        self._outdated: set[int] = set()  # workers that have not taken up the plan yet
        self._iteration = 0
        self._began_s = began_s
        self._ranks = [_Rank() for _ in range(self._workers)]
        self._status = MPI.Status()
        self._found: list[Message] = []  # and not received yet; a worker's come one after the other
        self._run = np.empty(RUN_VALUES)
        self._acknowledged = 0  # ranks that are gone
        self._outgoing: list[tuple[MPI.Request, object]] = []  # with what they send from
        self._not_sent = 0  # of these, at the last look
        self._share_memory = share_memory
        self._theta_offer: Offer | None = None
        self._thetas: list[_Theta] = []
        self._collector: MessageCollector | None = None
        self._is_collecting = False
        self._hearing = Hearing(self._workers)
        self._comm = _session.hire(self._workers)
        _open.append(self)
        try:
            self._lay_out_thetas()
            self._lay_out(job)
            for worker in range(self._workers):
                self._load(worker, first if worker == 0 else pickled_for_worker(job, worker))
            wait_until_ready(self, self._workers)
        except BaseException:
            self.close()
            raise
        self.start_s = time.monotonic() - began_s

    def _check_tags(self, job: Job) -> None:
        most = int(MPI.COMM_WORLD.Get_attr(MPI.TAG_UB) or 0) - self._first_tag
        if len(job.slot_widths) > most:
            raise ArgumentValueError(
                f"schedule: expected at most {most} rows of all cells together, each of which has a tag of "
                f"MPI of its own, got {len(job.slot_widths)}"
            )

    def _lay_out_thetas(self) -> None:
        """Two: of even and of odd ordinary iterations. There will be more if a worker hangs."""
        size = PREFIX + self._workers + self._coordinates
        self._theta_offer = Offer(2 * size) if self._share_memory else None
        values = np.empty(2 * size) if self._theta_offer is None else self._theta_offer.values
        messages = values.reshape(2, size)
        self._thetas = [_Theta(message, self._workers, index) for index, message in enumerate(messages)]
        self._theta = self._thetas[0]  # the one in use

    def _lay_out(self, job: Job) -> None:
        for rank, walk in zip(self._ranks, job.walks, strict=True):
            layout = Layout(walk, job.slot_widths, job.payload)
            rank.lay_out(layout, share_memory=self._share_memory)

    def _load(self, worker: int, problem: bytes) -> None:
        rank = self._ranks[worker]
        rank.presence = "starting"
        rank.loads += 1
        task = Task(
            worker,
            self._workers,
            self._coordinates,
            self._assignment(worker),
            problem,
            self._iteration,
            self._generation(worker),
            _place_of(self._theta_offer),
        )
        self._notify(worker, Notice.LOAD, pack(task))

    def _assignment(self, worker: int) -> Assignment:
        job = self._job
        return Assignment(
            job.walks[worker],
            job.slot_widths,
            job.payload,
            job.feedback,
            job.cells,
            self._first_tag,
            _place_of(self._ranks[worker].offer),
        )

    def _generation(self, worker: int) -> int:
        return 0

    # --- an iteration ---------------------------------------------------------------------------------

    def start(
        self,
        iteration: int,
        theta: NDArray[np.float64],
        cycle_times: NDArray[np.float64] | None,
        open_cells: NDArray[np.bool_],
        with_value: bool,
    ) -> None:
        """Send theta to all ranks that are there."""
        if self._closed:
            raise ClusterClosed("the cluster is closed: make a new one")
        with interrupts_postponed():
            self._began_s = time.monotonic()
            self._theta = self._free_theta()
            self._theta.values[:] = theta
            self._hearing.begin()
            self._begin(iteration, cycle_times, with_value)

    def _free_theta(self) -> _Theta:
        for theta in self._thetas:
            if theta.is_free():
                return theta
        self._thetas.append(_Theta(np.empty_like(self._thetas[0].message), self._workers))
        return self._thetas[-1]

    def _begin(self, iteration: int, cycle_times: NDArray[np.float64] | None, with_value: bool) -> None:
        """Send theta."""
        self._iteration, self._running = iteration, True
        self._theta.write_prefix(iteration, with_value, cycle_times)
        for worker, rank in enumerate(self._ranks):
            rank.owed = 0
            if rank.presence == "there":
                self._publish(worker, self._answers_to_walk(worker))
        os.sched_yield()  # to a worker, should there be more ranks than cores
        for rank in self._ranks:
            rank.forget_payloads()

    def _answers_to_walk(self, worker: int) -> int:
        """How many payloads, or sums, say that a worker is done with its walk."""
        return len(self._job.walks[worker])

    def _publish(self, worker: int, owed: int) -> None:
        """Send the iteration under way, unless too much is unanswered: then as soon as it is not."""
        rank = self._ranks[worker]
        rank.behind = len(rank.unanswered) >= _MOST_UNANSWERED
        if rank.behind:
            return
        rank.iteration = self._iteration
        rank.owed += owed
        rank.unanswered.append(self._iteration)
        if (request := self._send(self._theta.part_for(rank), worker, Tag.THETA)) is not None:
            self._theta.requests.append(request)

    def _send(self, buffer: NDArray[Any], worker: int, tag: int) -> MPI.Request | None:
        """Begin to send; None if the rank is known to be gone, which the next look for messages tells."""
        try:
            return self._comm.Isend(buffer, worker + 1, tag)
        except MPI.Exception:
            return None

    def _notify(self, worker: int, kind: int, content: NDArray[np.int64] = _EMPTY) -> None:
        notice = np.concatenate([[kind, self._iteration], content])
        self._send_small(notice, worker, Tag.NOTICE)

    def _send_small(self, message: NDArray[np.int64], worker: int, tag: int) -> None:
        """Send, and keep the message until it has been sent; look for that now and then."""
        request = self._send(message, worker, tag)
        if request is None:
            return
        self._outgoing.append((request, message))
        if len(self._outgoing) > 2 * self._not_sent + 16:
            self._outgoing = [sent for sent in self._outgoing if not _is_done(sent[0])]
            self._not_sent = len(self._outgoing)

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        """Look for messages, less and less often while none comes."""
        until_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        backoff = Backoff(self._longest_sleep_s)
        with self._waiting, self._hearing.listening(), interrupts_postponed() as ctrl_c:
            while True:
                if self._early:
                    events, self._early = self._early, []
                    return events
                if self._closed:  # by another thread, or by a signal handler
                    raise ClusterClosed("the cluster was closed while an iteration was under way")
                came = self._take_in()
                left_s = until_s - time.monotonic()
                if not self._early and (self._interrupted or ctrl_c or left_s <= 0):
                    self._interrupted = False
                    return []
                if came:
                    backoff.reset()
                else:
                    backoff.pause(left_s)

    def _take_in(self) -> bool:
        """Take in a few of the messages that have come; whether there were any."""
        lost: list[Event] = []
        came = False
        for _ in self._ranks:
            if self._is_full():
                break
            try:
                message = probe(self._comm, MPI.ANY_SOURCE, self._status)
            except MPI.Exception:
                lost += self._bury()
                continue
            if message is None:
                break
            came = True
            status = self._status
            worker, tag, size = status.source - 1, status.tag, status.Get_count(MPI.DOUBLE)
            if size == RUN_VALUES and tag >= self._first_tag:
                try:
                    message.Recv(self._run)  # so small a message has come as a whole
                except MPI.Exception:  # its rank is gone
                    continue
                self._take_run(worker, tag - self._first_tag, *map(int, self._run.tolist()))
                continue
            found = Message(worker, tag, size, message)
            if self._found:
                self._found.append(found)
                self._receive_found()
            elif not self._receive(found):
                self._found.append(found)
        if self._found:
            came |= self._receive_found()
        self._early += lost  # after what they had sent
        return came or bool(lost)

    def _is_full(self) -> bool:
        """Whether what has come is to be read before more is received."""
        return False

    def _receive_found(self) -> bool:
        """Go on with what was found; whether anything of it is here now."""
        found, self._found = self._found, []
        busy: set[int] = set()
        for index, message in enumerate(found):
            if self._is_full():
                self._found += found[index:]
                break
            if message.worker in busy or not self._receive(message):
                busy.add(message.worker)
                self._found.append(message)
        return len(self._found) < len(found)

    def _receive(self, found: Message) -> bool:
        """Begin to receive, or go on; whether it is here, and taken in, or never will be."""
        try:
            if found.request is None:
                self._place(found)
                found.request = found.matched.Irecv(found.buffer)
            if not found.request.Test():
                return False
        except MPI.Exception:  # its rank is gone
            return True
        self._arrived(found)
        return True

    def _place(self, found: Message) -> None:
        """Say where a message goes: into the walk's memory, unless the master may be reading there."""
        slot = found.tag - self._first_tag
        if slot >= 0:
            rank = self._ranks[found.worker]
            layout, size = rank.layout, found.size
            position = layout.position.get(slot)
            # Where memory is shared the worker fills it, and sends what does not belong there.
            if position is None or rank.shares:
                found.slots = np.array([slot])
            else:
                found.slots = layout.slots[position : layout.end_of_run(position, size)]
                if not rank.held or rank.held.isdisjoint(found.slots.tolist()):
                    first = layout.bounds[position]
                    found.buffer, found.in_place = rank.memory[first : first + size], True
                    return
        found.buffer = np.empty(found.size)

    def _arrived(self, found: Message) -> None:
        """Take a message in."""
        if found.tag >= self._first_tag:
            self._take_payloads(found)
        elif found.tag == Tag.WORD:
            self._take_word(found.worker, found.buffer)
        elif found.tag < Tag.PAYLOAD:
            self._take_other(found)
        else:  # a payload of an earlier plan
            self._hear(found.worker, int(found.buffer[0]))

    def _take_other(self, found: Message) -> None:
        """Take in what only schedules with feedback have."""
        raise RuntimeError(f"worker {found.worker}: a message with tag {found.tag}, which nobody sends")

    def _take_run(self, worker: int, slot: int, iteration: int, count: int) -> None:
        """Take in payloads that a worker of this host has put where they belong, this and the next."""
        rank = self._ranks[worker]
        layout, position = rank.layout, rank.layout.position[slot]
        slots = layout.slots[position : position + count]
        self._answered(worker, iteration, count)
        if iteration == self._iteration and self._is_collecting:
            self._running_collector().take_in(worker, slots)
            return
        for at, slot in enumerate(slots.tolist(), position):
            good, began_s, ended_s = 1.0, 0.0, 0.0
            if iteration == self._iteration:  # else there may be one of a later one by now, and half written
                _, good, began_s, ended_s = read_header(rank.memory.data, 8 * layout.bounds[at])
            self._report(Delivered(iteration, worker, slot, bool(good), began_s, ended_s))

    def _take_payloads(self, found: Message) -> None:
        worker, rank, slots = found.worker, self._ranks[found.worker], found.slots
        self._answered(worker, int(found.buffer[0]), len(slots))
        if found.in_place and self._is_collecting and self._running_collector().take_in(worker, slots):
            rank.held.update(slots.tolist())
            return
        begin = 0
        for slot in slots.tolist():
            end = begin + size_of(int(self._job.slot_widths[slot]), self._job.payload)
            payload = found.buffer[begin:end]
            begin = end
            first, good, began_s, ended_s = read_header(payload.data)
            iteration, finite = int(first), bool(good)
            if iteration == self._iteration and finite and slot not in rank.held:
                if rank.shares and self._is_collecting:
                    raise RuntimeError(f"worker {worker}: sent a payload that nobody ordered")
                self._hold(rank, slot, payload, in_place=found.in_place)
            if not (self._is_collecting and found.in_place):  # else the collector has seen it
                self._report(Delivered(iteration, worker, slot, finite, began_s, ended_s))

    def _answered(self, worker: int, iteration: int, payloads: int) -> None:
        """So many payloads, or their sum, have come."""
        self._hear(worker, iteration)
        rank = self._ranks[worker]
        if iteration == rank.iteration:
            rank.owed -= payloads

    def _report(self, payload: Delivered) -> None:
        if self._is_collecting:
            self._running_collector().arrived(payload)
        else:
            self._early.append(payload)

    @staticmethod
    def _hold(rank: _Rank, slot: int, payload: NDArray[np.float64], *, in_place: bool) -> None:
        """Keep a payload where the master finds it: it may read it until the next iteration."""
        rank.held.add(slot)
        if in_place:
            return
        position = rank.layout.position.get(slot)
        if position is None or rank.shares:
            rank.others[slot] = payload
        else:
            rank.memory[rank.layout.bounds[position] : rank.layout.bounds[position + 1]] = payload

    def _hear(self, worker: int, iteration: int) -> None:
        rank = self._ranks[worker]
        self._hearing.heard(worker, iteration)
        if rank.unanswered and rank.unanswered[0] <= iteration:
            rank.unanswered = [sent for sent in rank.unanswered if sent > iteration]
            if rank.behind and self._running and rank.presence == "there":
                self._publish(worker, self._answers_to_walk(worker))

    def _take_word(self, worker: int, word: NDArray[np.float64]) -> None:
        rank = self._ranks[worker]
        kind, iteration, value = map(int, word[:WORD_VALUES].tolist())
        self._hear(worker, iteration)
        if kind == Word.BYE:
            rank.has_left = True
        elif kind == Word.SHARES:
            rank.shares = bool(value)
        elif kind == Word.READY:
            rank.loads -= 1
            if rank.loads == 0:
                rank.presence, rank.process_id, rank.unanswered = "there", value, []
                self._early.append(Ready(worker))
        elif kind == Word.REPLANNED:
            self._outdated.discard(worker)
        elif kind == Word.FAILED:
            loading = iteration < 0
            rank.loads -= loading
            # Unless it was written off before, and is to load its samples anew already.
            if rank.presence == ("starting" if loading else "there") and rank.loads == 0:
                text = word[WORD_VALUES:].tobytes().decode(errors="replace").rstrip()
                self._early.append(self._lose(worker, value, text))

    def finish(self, iteration: int) -> None:
        """Tell the ranks that are late."""
        self._running = self._is_collecting = False
        if self._closed:
            return
        late = [
            worker
            for worker, rank in enumerate(self._ranks)
            if rank.owed > 0 and rank.iteration == iteration and rank.presence == "there"
        ]
        if late:
            with interrupts_postponed():
                for worker in late:
                    self._notify(worker, Notice.FINISH)

    # --- ordinary iterations in the compiled core -----------------------------------------------------

    def lay_out_collector(self, cells: Sequence[CellOutline], blocks: NDArray[np.int64]) -> None:
        """Make the collector over the memory that messages arrive in."""
        offsets = [np.full(len(self._job.slot_widths), -1, dtype=np.int64) for _ in self._ranks]
        for rank, places in zip(self._ranks, offsets, strict=True):
            places[rank.layout.slots] = 8 * (
                np.array(rank.layout.bounds[:-1], dtype=np.int64) + HEADER_VALUES
            )
        memories = [rank.memory for rank in self._ranks]
        thetas = [theta.values for theta in self._thetas[:2]]
        self._collector = MessageCollector(cells, blocks, offsets, memories, thetas)

    def running_collector(self) -> Collector:
        """What `collect` runs."""
        return self._running_collector().collector

    def _running_collector(self) -> MessageCollector:
        if self._collector is None:
            raise ClusterClosed("the cluster was closed while an iteration was under way")
        return self._collector

    def start_collecting(
        self,
        iteration: int,
        theta: NDArray[np.float64],
        gradient: NDArray[np.float64],
        with_value: bool,
        seen_within_s: float,
        until_s: float | None,
    ) -> str | None:
        """Begin an iteration if every rank is there, was heard a moment ago, and has taken what was sent."""
        with self._waiting, interrupts_postponed() as ctrl_c:
            collector, theta_message = self._running_collector(), self._thetas[iteration % 2]
            if self._early or not theta_message.is_free():
                return None
            for worker, rank in enumerate(self._ranks):
                if rank.presence != "there" or len(rank.unanswered) >= _MOST_UNANSWERED:
                    return None
                if not self._hearing.is_known(worker, self._iteration, seen_within_s):
                    return None
            if not collector.begin(iteration, theta, gradient, with_value):
                return None
            self._theta = theta_message
            self._began_s = 1e-9 * collector.collector.began_ns
            self._begin(iteration, None, with_value)
            self._hearing.begin_ordinary()
            self._is_collecting = True
            return "begun" if until_s is None else self._collect(until_s, False, ctrl_c)

    def collect(self, until_s: float, each_block: bool) -> str:
        """Take in messages and count them until something else is to be done."""
        with self._waiting, interrupts_postponed() as ctrl_c:
            return self._collect(until_s, each_block, ctrl_c)

    def _collect(self, until_s: float, each_block: bool, ctrl_c: Sequence[object]) -> str:
        collector = self._running_collector()
        with self._hearing.listening():
            while (why := collector.collect(each_block)) == "late":
                backoff = Backoff()
                while not self._take_in():
                    if self._closed:  # by another thread, or by a signal handler
                        raise ClusterClosed("the cluster was closed while an iteration was under way")
                    if self._interrupted or ctrl_c:
                        self._interrupted = False
                        return "interrupted"
                    left_s = self._began_s + until_s - time.monotonic()
                    if left_s <= 0:
                        return "late"
                    backoff.pause(left_s)
                if self._early:
                    return "unusual"
        return why

    def end_collecting(self, iteration: int) -> bool:
        """End the iteration, and have it counted."""
        self.finish(iteration)
        if self._closed or self._collector is None or self._collector.collector.iteration != iteration:
            return False
        self._collector.collector.end()
        return True

    def take_ended(self) -> NDArray[np.int64] | None:
        """Rows of the iterations that were ended."""
        return None if self._collector is None else self._collector.collector.take_ended()

    def collected_events(self) -> list[Event]:
        """Arrivals of the iteration so far; from here on they are told by `wait`."""
        self._is_collecting = False
        return self._running_collector().events()

    def signs_at_start(self) -> Sequence[SignOfLife]:
        """As they were when `start_collecting` looked."""
        self._hearing.drop_longest()
        return self._hearing.signs_at_start()

    def record(
        self, *, at_once: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int] | None:
        """What happened so far."""
        if not self._waiting.acquire(blocking=not at_once):
            return None
        try:
            return None if self._collector is None else self._collector.record()
        finally:
            self._waiting.release()

    # --- workers that do not deliver ------------------------------------------------------------------

    def order(self, worker: int, visits: Sequence[Visit]) -> None:
        """Send the visits, and theta before if the worker has not been sent it."""
        rank = self._ranks[worker]
        if rank.presence != "there":  # its loss is noticed at the next wait
            return
        with interrupts_postponed():
            rank.owed += self._answers_to_orders(visits)
            if rank.iteration < self._iteration and not rank.behind:
                self._publish(worker, 0)  # its walk it does not do: `Task.iteration`
            self._notify(worker, Notice.ORDER, pack(list(visits)))

    def _answers_to_orders(self, visits: Sequence[Visit]) -> int:
        """How many payloads, or sums, these orders are answered with."""
        return len(visits)

    def replace(self, worker: int) -> None:
        """Let the rank load its samples again, which it does when it comes to it."""
        rank = self._ranks[worker]
        if rank.is_buried:
            self._early.append(Lost(worker, None, "its rank is gone, and MPI starts no other"))
            return
        rank.presence = "starting"
        if rank.loads == 0:  # else it has not even answered the last time
            self._load(worker, pickled_for_worker(self._job, worker))

    def replan(self, job: Job, patience_s: Sequence[float]) -> None:
        """Send the ranks their new walks; what still comes of the old ones is known by its tag."""
        with interrupts_postponed(), self._waiting, self._hearing.listening():
            before, self._first_tag = self._first_tag, self._first_tag + len(self._job.slot_widths)
            try:
                self._check_tags(job)
            except ArgumentValueError:
                self._first_tag = before
                raise
            self._job = job
            self._lay_out(job)
            self._outdated = {w for w, rank in enumerate(self._ranks) if rank.presence == "there"}
            for worker, rank in enumerate(self._ranks):
                if rank.presence != "gone":
                    self._notify(worker, Notice.REPLAN, pack(self._assignment(worker)))
            began_s, backoff = time.monotonic(), Backoff()
            while self._outdated:
                self._take_in()
                self._outdated -= {event.worker for event in self._early if isinstance(event, Lost)}
                for worker in list(self._outdated):
                    if time.monotonic() > began_s + patience_s[worker]:
                        self.kill(worker)
                backoff.pause()
            self._early = [event for event in self._early if isinstance(event, Lost | Ready)]

    def kill(self, worker: int) -> None:
        """Write the rank off: MPI cannot end it."""
        self._early.append(self._lose(worker, None, "its rank does not answer, and MPI cannot end it"))

    def _lose(self, worker: int, exit_code: int | None, text: str) -> Lost:
        rank = self._ranks[worker]
        rank.presence, rank.owed, rank.unanswered, rank.behind = "gone", 0, [], False
        rank.iteration = 0  # theta is lost with the rest
        return Lost(worker, exit_code, text)

    def _bury(self) -> list[Event]:
        """Take note of ranks of which MPI says that they are gone (ULFM); the rest of the job goes on.

        Called where an exception is handled, which is another one if MPI says nothing of the kind.
        """
        acknowledged = self._comm.Ack_failed()
        failed = self._comm.Get_failed()
        events: list[Event] = []
        for rank_number in failed.Translate_ranks(range(failed.size), self._comm.Get_group()):
            worker = int(rank_number) - 1
            if worker >= 0 and not self._ranks[worker].is_buried:
                self._ranks[worker].is_buried = True
                events.append(self._lose(worker, None, "its rank is gone"))
        if not events and acknowledged == self._acknowledged:
            raise
        self._acknowledged = acknowledged
        return events

    def is_idle(self) -> bool:
        """Whether every rank is gone for good."""
        return not self._early and all(rank.is_buried for rank in self._ranks)

    def signs_of_life(self, *, reset: bool = False) -> Sequence[SignOfLife] | None:
        """By when they were heard."""
        return self._hearing.signs(reset=reset)

    def presence(self) -> Sequence[Presence]:
        """Whether each rank is there."""
        return [rank.presence for rank in self._ranks]

    def process_ids(self) -> Sequence[int | None]:
        """Operating system ids, each on the host of its rank."""
        return [rank.process_id if rank.presence == "there" else None for rank in self._ranks]

    def payload(self, worker: int, slot: int) -> NDArray[Any]:
        """View of the memory that it arrived in."""
        rank = self._ranks[worker]
        if slot in rank.others:
            width = int(self._job.slot_widths[slot])
            return rank.others[slot][HEADER_VALUES:].view(self._job.payload)[:width]
        return rank.layout.payload(rank.memory, rank.layout.position[slot])

    def clock_s(self) -> float:
        """Of this host."""
        return time.monotonic()

    def elapsed_s(self) -> float:
        """Seconds since `start` was called."""
        return time.monotonic() - self._began_s

    def interrupt(self) -> None:
        """Make a `wait` in another thread return within a millisecond."""
        self._interrupted = True

    # --- the end --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ask the ranks to leave; those that do not in time keep what refers to them alive."""
        with interrupts_postponed():
            if self._closed:
                return
            self._closed, self._running, self._is_collecting = True, False, False
            _open.remove(self)
            self.interrupt()
            with self._waiting:  # whoever waited has left
                pass
            hired = [w for w, rank in enumerate(self._ranks) if not rank.is_buried]
            for worker in hired:
                self._ranks[worker].presence = "starting"
                self._notify(worker, Notice.STOP)
            try:
                until_s, backoff = time.monotonic() + LEAVE_S, Backoff()
                while not all(self._ranks[w].has_left for w in hired) and time.monotonic() < until_s:
                    self._take_in()
                    backoff.pause()
            finally:  # or the ranks would wait for the end, and the next cluster for them
                self._end(hired)

    def _end(self, hired: Sequence[int]) -> None:
        """Let the ranks go, and release what they do not refer to any more."""
        all_left = all(self._ranks[w].has_left for w in hired) and len(hired) == self._workers
        for worker in hired:
            self._notify(worker, Notice.END if all_left else Notice.END_SILENTLY)
        if self._theta_offer is not None:
            self._theta_offer.close()
        for rank in self._ranks:
            rank.close_offer()
        if all_left:
            self._release()
        else:
            _kept.append((self._comm, self._found, self._ranks, self._outgoing, self._thetas))
        self._found, self._outgoing, self._thetas = [], [], []
        self._collector = None

    def _release(self) -> None:
        for request, _ in self._outgoing:
            request.Wait()
        for theta in self._thetas:
            MPI.Request.Waitall(theta.requests)
        self._comm.Free()
        for rank in self._ranks:
            rank.memory = _NO_VALUES


def _place_of(offer: Offer | None) -> Place | None:
    return None if offer is None else offer.place


def _are_done(requests: list[MPI.Request]) -> bool:
    try:
        return bool(MPI.Request.Testall(requests))
    except MPI.Exception:  # a rank is gone
        return all(map(_is_done, requests))


def _is_done(request: MPI.Request) -> bool:
    try:
        return bool(request.Test())
    except MPI.Exception:  # its rank is gone
        return True


_open: list[MpiEngine] = []
_kept: list[object] = []  # buffers that messages of ranks which do not answer may still refer to
