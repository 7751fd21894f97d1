"""The MPI engine: rank 0 is the master, worker w is rank w + 1.

    from cgc_fast.engines import mpi
    mpi.run(main)      # rank 0 runs main(); the other ranks work for the clusters that it makes

A rank that raises reports its traceback, stays, and is asked to load its samples again. A rank that hangs is
suspected as in any engine and then written off; it cannot be killed from here, but if it comes back it is
taken up again. What becomes of the job when a rank is gone is up to MPI: see docs/engines.md. See
`mpi_worker` for the messages.
"""

from __future__ import annotations

import atexit
import logging
import math
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
from cgc_fast.engines.mpi_session import LEAVE_S, Ranks
from cgc_fast.engines.mpi_worker import (
    HEADER,
    PREFIX,
    TEXT_BYTES,
    WORD_VALUES,
    Assignment,
    Backoff,
    Notice,
    Tag,
    Task,
    Word,
    leave_without_mpi,
    pack,
    read_header,
    serve_session,
)
from cgc_fast.engines.signs import Hearing
from cgc_fast.errors import ArgumentValueError, CgcError, ClusterClosed
from cgc_fast.interrupts import interrupts_postponed
from cgc_fast.supervisor import SignOfLife
from cgc_fast.worker import Visit

__all__ = ["Incoming", "MpiEngine", "run"]

logger = logging.getLogger(__name__)

# Iterations sent to a worker that it has not answered. It keeps one theta and receives the next; more would
# pile up at a worker that hangs.
_MOST_UNANSWERED = 2

# What a buffer begins with before anything has arrived: since it was last listened to, or at all.
_NOTHING, _NEVER = -1, -2

_EMPTY: NDArray[np.int64] = np.empty(0, dtype=np.int64)

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


class Incoming:
    """Where a message of one worker arrives, again and again; `slot` is None for its words."""

    def __init__(self, request: MPI.Prequest, buffer: NDArray[Any], worker: int, slot: int | None):
        self.request, self.buffer, self.worker, self.slot = request, buffer, worker, slot
        self.header = buffer[: HEADER if slot is not None else WORD_VALUES]
        self.bytes = self.header.view(np.uint8).data


class _Theta:
    """A message with theta, and the requests that send it."""

    def __init__(self, workers: int, coordinates: int) -> None:
        self.message = np.empty(PREFIX + workers + coordinates)
        self.values = self.message[PREFIX + workers :]
        self._cycle_times = self.message[PREFIX : PREFIX + workers]
        self.requests: list[MPI.Request] = []

    def write_prefix(self, iteration: int, with_value: bool, cycle_times: NDArray[np.float64] | None) -> None:
        """What comes before theta."""
        self.message[:PREFIX] = iteration, with_value
        self._cycle_times[:] = np.nan if cycle_times is None else cycle_times

    def is_free(self) -> bool:
        """Whether it has been sent to everybody."""
        if all(map(_is_done, self.requests)):
            self.requests.clear()
        return not self.requests


class _Rank:
    """What the master knows of a worker.

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
        self.is_buried = False  # MPI says that it is gone


class MpiEngine(WithoutFeedback):
    """Hire ranks; the constructor returns when all of them have loaded their samples."""

    _longest_sleep_s = 1e-3

    def __init__(self, job: Job) -> None:
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
        self._broken = False  # a wait was left by an exception
        self._taken = 0  # messages
        self._outdated: set[int] = set()  # workers that have not taken up the plan yet
        self._iteration = 0
        self._began_s = began_s
        self._ranks = [_Rank() for _ in range(self._workers)]
        self._incoming: list[Incoming] = []
        self._requests: list[MPI.Request] = []
        self._idle: list[int] = []  # of these, whose receive is to be started again
        self._index: dict[tuple[int, int], int] = {}  # (worker, slot) -> incoming
        self._outgoing: list[tuple[MPI.Request, object]] = []  # with what they send from
        self._not_sent = 0  # of these, at the last look
        # Of even and of odd ordinary iterations, and more if a worker hangs.
        self._thetas = [_Theta(self._workers, self._coordinates) for _ in range(2)]
        self._theta = self._thetas[0]  # the one in use
        self._collector: MessageCollector | None = None
        self._is_collecting = False
        self._signs_at_start: Sequence[SignOfLife] = ()
        self._lay_out(job)
        self._hearing = Hearing(self._workers)
        self._comm = _session.hire(self._workers)
        _open.append(self)
        try:
            for worker in range(self._workers):
                word = np.empty(WORD_VALUES + TEXT_BYTES // 8)
                self._expect(word, worker, None, Tag.WORD)
            self._expect_deliveries()
            self._restart()
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

    def _lay_out(self, job: Job) -> None:
        """Set room aside for every row from every worker; pages that nothing arrives in take no memory."""
        widths = HEADER + -(-job.slot_widths * job.payload.itemsize // 8)
        self._offsets = np.concatenate([[0], np.cumsum(widths)]).tolist()
        self._memories = [np.empty(self._offsets[-1]) for _ in range(self._workers)]

    def _expect_deliveries(self) -> None:
        """Listen for what the walks deliver."""
        for worker, walk in enumerate(self._job.walks):
            for visit in walk:
                self._expect_payload(worker, visit.slot)

    def _expect(self, buffer: NDArray[Any], worker: int, slot: int | None, tag: int) -> None:
        request = self._comm.Recv_init(buffer, source=worker + 1, tag=tag)
        self._idle.append(len(self._requests))
        self._requests.append(request)
        buffer[0] = _NEVER
        self._incoming.append(Incoming(request, buffer, worker, slot))

    def _expect_payload(self, worker: int, slot: int) -> None:
        if (worker, slot) not in self._index:
            self._index[worker, slot] = len(self._requests)
            memory = self._memories[worker][self._offsets[slot] : self._offsets[slot + 1]]
            self._expect(memory, worker, slot, self._first_tag + slot)

    def _restart(self) -> None:
        """Listen again where something has come that is not needed any more."""
        idle, self._idle = self._idle, []
        for index in idle:
            self._incoming[index].header[0] = _NOTHING
        MPI.Prequest.Startall([self._incoming[index].request for index in idle])

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
        )
        self._notify(worker, Notice.LOAD, pack(task))

    def _assignment(self, worker: int) -> Assignment:
        job = self._job
        return Assignment(
            job.walks[worker], job.slot_widths, job.payload, job.feedback, job.cells, self._first_tag
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
            self._iteration, self._running = iteration, True
            if self._broken:
                self._early += self._find_out()
                self._broken = False
            self._restart()
            self._theta = self._free_theta()
            self._theta.values[:] = theta
            self._hearing.begin()
            self._send_theta(cycle_times, with_value)

    def _free_theta(self) -> _Theta:
        for theta in self._thetas:
            if theta.is_free():
                return theta
        self._thetas.append(_Theta(self._workers, self._coordinates))
        return self._thetas[-1]

    def _send_theta(self, cycle_times: NDArray[np.float64] | None, with_value: bool) -> None:
        self._theta.write_prefix(self._iteration, with_value, cycle_times)
        for worker, rank in enumerate(self._ranks):
            rank.owed = 0
            if rank.presence == "there":
                self._publish(worker, self._answers_to_walk(worker))

    def _answers_to_walk(self, worker: int) -> int:
        """How many messages say that a worker is done with its walk."""
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
        self._theta.requests += self._send(self._theta.message, worker, Tag.THETA)

    def _send(self, buffer: NDArray[Any], worker: int, tag: int) -> list[MPI.Request]:
        """Begin to send; nothing if the rank is known to be gone, which the next look for messages tells."""
        try:
            return [self._comm.Isend(buffer, dest=worker + 1, tag=tag)]
        except MPI.Exception:
            return []

    def _notify(self, worker: int, kind: int, content: NDArray[np.int64] = _EMPTY) -> None:
        notice = np.array([kind, self._iteration, len(content)], dtype=np.int64)
        self._keep([(sent, notice) for sent in self._send(notice, worker, Tag.NOTICE)])
        if len(content):
            self._keep([(sent, content) for sent in self._send(content, worker, Tag.CONTENT)])

    def _keep(self, sent: list[tuple[MPI.Request, object]]) -> None:
        """Keep what is being sent, with its buffers, until it has been; look for that now and then."""
        self._outgoing += sent
        if len(self._outgoing) > 2 * self._not_sent + 16:
            self._outgoing = [sent for sent in self._outgoing if not _is_done(sent[0])]
            self._not_sent = len(self._outgoing)

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        """Look for messages, less and less often while none comes."""
        if self._early:
            events, self._early = self._early, []
            return events
        until_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        backoff = Backoff(self._longest_sleep_s)
        with self._waiting, self._hearing.listening():
            while True:
                if self._closed:  # by another thread, or by a signal handler
                    raise ClusterClosed("the cluster was closed while an iteration was under way")
                before = self._taken
                self._broken = True
                events = self._take_in()
                self._broken = False
                if self._taken > before:
                    backoff.reset()
                left_s = until_s - time.monotonic()
                if events or self._interrupted or left_s <= 0:
                    self._interrupted = False
                    return events
                backoff.pause(left_s)

    def _take_in(self) -> list[Event]:
        events: list[Event] = []
        while True:
            try:
                arrived = MPI.Request.Testsome(self._requests)
            except MPI.Exception:
                if not (lost := self._bury()):
                    raise
                events += lost + self._find_out()
                continue
            if not arrived:
                return events
            self._taken += len(arrived)
            if self._is_collecting:
                events += self._count(arrived)
            else:
                for index in arrived:
                    events += self._arrived(index)

    def _find_out(self) -> list[Event]:
        """Take in what arrived without our knowing: an exception came between MPI and its caller."""
        events: list[Event] = []
        idle = set(self._idle)
        for index, incoming in enumerate(self._incoming):
            if index in idle or self._ranks[incoming.worker].is_buried or not incoming.request.Test():
                continue
            if incoming.header[0] == _NOTHING:
                incoming.request.Start()
            else:
                events += self._arrived(index)
        return events

    def _arrived(self, index: int) -> list[Event]:
        incoming = self._incoming[index]
        worker, rank = incoming.worker, self._ranks[incoming.worker]
        if incoming.slot is None:
            events = self._take_word(incoming)
            self._listen(incoming)
            return events
        first, good, began_s, ended_s = read_header(incoming.bytes)
        iteration, finite = int(first), bool(good)
        self._hear(worker, iteration)
        if iteration == self._iteration and finite:  # the master may read it until the next iteration
            self._idle.append(index)
        else:
            self._listen(incoming)
        if iteration == rank.iteration:
            rank.owed -= 1
        return [Delivered(iteration, worker, incoming.slot, finite, began_s, ended_s)]

    def _count(self, arrived: Sequence[int]) -> list[Event]:
        """As `_arrived`, but payloads are handed to the collector; events of the words."""
        events: list[Event] = []
        heard: dict[int, int] = {}  # worker -> iteration
        collector = self._running_collector()
        for index in arrived:
            incoming = self._incoming[index]
            worker, slot = incoming.worker, incoming.slot
            if slot is None:
                events += self._arrived(index)
                continue
            first, good, began_s, ended_s = read_header(incoming.bytes)
            iteration = int(first)
            heard[worker] = max(iteration, heard.get(worker, 0))
            if iteration == self._iteration and good:
                self._idle.append(index)
            else:
                self._listen(incoming)
            if iteration == self._ranks[worker].iteration:
                self._ranks[worker].owed -= 1
            collector.arrived(worker, iteration, slot, bool(good), began_s, ended_s)
        for worker, iteration in heard.items():
            self._hear(worker, iteration)
        return events

    def _listen(self, incoming: Incoming) -> None:
        incoming.header[0] = _NOTHING
        incoming.request.Start()

    def _hear(self, worker: int, iteration: int) -> None:
        rank = self._ranks[worker]
        self._hearing.heard(worker, iteration)
        if rank.unanswered and rank.unanswered[0] <= iteration:
            rank.unanswered = [sent for sent in rank.unanswered if sent > iteration]
            if rank.behind and self._running and rank.presence == "there":
                self._publish(worker, self._answers_to_walk(worker))

    def _take_word(self, incoming: Incoming) -> list[Event]:
        worker, rank = incoming.worker, self._ranks[incoming.worker]
        kind, iteration, value = map(int, incoming.header.tolist())
        self._hear(worker, iteration)
        if kind == Word.BYE:
            rank.presence = "gone"
        elif kind == Word.READY:
            rank.loads -= 1
            if rank.loads == 0:
                rank.presence, rank.process_id, rank.unanswered = "there", value, []
                return [Ready(worker)]
        elif kind == Word.REPLANNED:
            self._outdated.discard(worker)
        elif kind == Word.FAILED:
            loading = iteration < 0
            rank.loads -= loading
            # Unless it was written off before, and is to load its samples anew already.
            if rank.presence == ("starting" if loading else "there") and rank.loads == 0:
                text = incoming.buffer[WORD_VALUES:].tobytes().decode(errors="replace").rstrip()
                return [self._lose(worker, value, text)]
        return []

    def finish(self, iteration: int) -> None:
        """Tell the ranks that are late."""
        self._running = self._is_collecting = False
        if self._closed:
            return
        with interrupts_postponed():
            for worker, rank in enumerate(self._ranks):
                if rank.iteration == iteration and rank.owed > 0 and rank.presence == "there":
                    self._notify(worker, Notice.FINISH)

    # --- ordinary iterations in the compiled core -----------------------------------------------------

    def lay_out_collector(self, cells: Sequence[CellOutline], blocks: NDArray[np.int64]) -> None:
        """Make the collector over the memory that messages arrive in."""
        offsets = 8 * (np.array(self._offsets[:-1], dtype=np.int64) + HEADER)
        thetas = [theta.values for theta in self._thetas[:2]]
        self._collector = MessageCollector(cells, blocks, offsets, self._memories, thetas)

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
        with self._waiting, interrupts_postponed():
            collector = self._running_collector()
            if self._early or self._broken or not self._thetas[iteration % 2].is_free():
                return None
            for worker, rank in enumerate(self._ranks):
                if rank.presence != "there" or len(rank.unanswered) >= _MOST_UNANSWERED:
                    return None
                if not self._hearing.is_known(worker, self._iteration, seen_within_s):
                    return None
            if not collector.begin(iteration, theta, gradient, with_value):
                return None
            self._signs_at_start = self._hearing.begin_ordinary()
            self._restart()
            self._theta = self._thetas[iteration % 2]
            self._began_s = 1e-9 * collector.collector.began_ns
            self._iteration, self._running, self._is_collecting = iteration, True, True
            self._send_theta(None, with_value)
        return "begun" if until_s is None else self.collect(until_s, False)

    def collect(self, until_s: float, each_block: bool) -> str:
        """Take in messages and count them until something else is to be done."""
        collector = self._running_collector()
        backoff = Backoff()
        with self._waiting, self._hearing.listening():
            while True:
                why = collector.collect(each_block)
                if why != "late":
                    return why
                if self._closed:  # by another thread, or by a signal handler
                    raise ClusterClosed("the cluster was closed while an iteration was under way")
                if self._interrupted:
                    self._interrupted = False
                    return "interrupted"
                before = self._taken
                self._broken = True
                self._early += self._take_in()
                self._broken = False
                if self._early:
                    return "unusual"
                if self._taken > before:
                    backoff.reset()
                    continue
                left_s = self._began_s + until_s - time.monotonic()
                if left_s <= 0:
                    return "late"
                backoff.pause(left_s)

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
        return self._signs_at_start

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
            rank.owed += self._expect_orders(worker, visits)
            if (
                rank.iteration < self._iteration and not rank.behind
            ):  # its walk it does not do: `Task.iteration`
                self._publish(worker, 0)
            self._notify(worker, Notice.ORDER, pack(list(visits)))

    def _expect_orders(self, worker: int, visits: Sequence[Visit]) -> int:
        """Listen for what is ordered: how many messages that is."""
        for visit in visits:
            self._expect_payload(worker, visit.slot)
            index = self._index[worker, visit.slot]
            if self._incoming[index].header[0] == _NEVER:
                self._idle.remove(index)
                self._listen(self._incoming[index])
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
        """Send the ranks their new walks, and listen for the new payloads when no old one can come."""
        with interrupts_postponed(), self._waiting, self._hearing.listening():
            self._check_tags_after(job)
            self._restart()  # the last payloads of the old plan may be on their way
            old, self._job = self._job, job
            self._first_tag += len(old.slot_widths)
            self._outdated = {w for w, rank in enumerate(self._ranks) if rank.presence == "there"}
            for worker, rank in enumerate(self._ranks):
                if rank.presence != "gone":
                    self._notify(worker, Notice.REPLAN, pack(self._assignment(worker)))
            began_s, backoff = time.monotonic(), Backoff()
            while self._outdated:
                self._early += self._take_in()
                self._outdated -= {event.worker for event in self._early if isinstance(event, Lost)}
                for worker in list(self._outdated):
                    if time.monotonic() > began_s + patience_s[worker]:
                        self.kill(worker)
                backoff.pause()
            self._early = [event for event in self._early if isinstance(event, Lost | Ready)]
            self._forget_deliveries()
            self._lay_out(job)
            self._expect_deliveries()
            self._restart()

    def _check_tags_after(self, job: Job) -> None:
        self._first_tag += len(self._job.slot_widths)
        try:
            self._check_tags(job)
        finally:
            self._first_tag -= len(self._job.slot_widths)

    def _forget_deliveries(self) -> None:
        """Listen for nothing but words."""
        for incoming in self._incoming[self._workers :]:
            if not self._ranks[incoming.worker].is_buried:
                _release(incoming.request)
        del self._incoming[self._workers :], self._requests[self._workers :]
        self._idle = [index for index in self._idle if index < self._workers]
        self._index.clear()

    def kill(self, worker: int) -> None:
        """Write the rank off: MPI cannot end it."""
        self._early.append(self._lose(worker, None, "its rank does not answer, and MPI cannot end it"))

    def _lose(self, worker: int, exit_code: int | None, text: str) -> Lost:
        rank = self._ranks[worker]
        rank.presence, rank.owed, rank.unanswered, rank.behind = "gone", 0, [], False
        rank.iteration = 0  # theta is lost with the rest
        return Lost(worker, exit_code, text)

    def _bury(self) -> list[Event]:
        """Take note of ranks of which MPI says that they are gone (ULFM); the rest of the job goes on."""
        failed = self._comm.Get_failed()
        gone = failed.Translate_ranks(range(failed.size), self._comm.Get_group())
        events: list[Event] = []
        for rank_number in gone:
            worker = int(rank_number) - 1
            if worker < 0 or self._ranks[worker].is_buried:
                continue
            self._ranks[worker].is_buried = True
            for index, incoming in enumerate(self._incoming):
                if incoming.worker == worker:
                    self._requests[index] = MPI.REQUEST_NULL
            self._idle = [index for index in self._idle if self._incoming[index].worker != worker]
            events.append(self._lose(worker, None, "its rank is gone"))
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
        width, first = int(self._job.slot_widths[slot]), self._offsets[slot] + HEADER
        return self._memories[worker][first : self._offsets[slot + 1]].view(self._job.payload)[:width]

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
            self._closed = True
            _open.remove(self)
            self.interrupt()
            with self._waiting:  # whoever waited has left
                pass
            hired = [w for w, rank in enumerate(self._ranks) if not rank.is_buried]
            for worker in hired:
                self._ranks[worker].presence = "starting"
                self._notify(worker, Notice.STOP)
            until_s, backoff = time.monotonic() + LEAVE_S, Backoff()
            while any(self._ranks[w].presence != "gone" for w in hired) and time.monotonic() < until_s:
                self._idle, idle = [], self._idle
                for index in idle:
                    self._listen(self._incoming[index])
                self._find_out()
                backoff.pause()
            all_left = all(self._ranks[w].presence == "gone" for w in hired) and len(hired) == self._workers
            for worker in hired:
                self._notify(worker, Notice.END if all_left else Notice.END_SILENTLY)
            if all_left:
                self._release()
            else:
                _kept.append((self._comm, self._incoming, self._outgoing, self._thetas))
            self._incoming, self._outgoing, self._thetas = [], [], []
            self._collector = None

    def _release(self) -> None:
        for incoming in self._incoming:
            _release(incoming.request)
        for request, _ in self._outgoing:
            request.Wait()
        for theta in self._thetas:
            MPI.Request.Waitall(theta.requests)
        self._comm.Free()


def _release(request: MPI.Prequest) -> None:
    """Give up a receive that is listening, or not."""
    if not request.Test():
        request.Cancel()
        request.Wait()
    request.Free()


def _is_done(request: MPI.Request) -> bool:
    try:
        return request.Test()
    except MPI.Exception:  # its rank is gone
        return True


_open: list[MpiEngine] = []
_kept: list[object] = []  # buffers that messages of ranks which do not answer may still refer to
