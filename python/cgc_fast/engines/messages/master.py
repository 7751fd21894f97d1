"""The master's side: hire ranks, send theta and plans, take in what comes, and do without who is late.

A rank that raises reports its traceback, stays, and is asked to load its samples again. A rank that hangs is
suspected as in any engine and then written off; it cannot be killed from here, but if it comes back it is
taken up again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgc_fast._core import Collector, Signal, push_run
from cgc_fast.engines.base import CellOutline, Delivered, Event, Job, Lost, Ready
from cgc_fast.engines.collecting import WithCollector
from cgc_fast.engines.launch import pickled_for_worker
from cgc_fast.engines.messages.protocol import (
    CACHE_LINE,
    HEADER_VALUES,
    PREFIX,
    WORD_VALUES,
    Layout,
    Notice,
    RankAssignment,
    Room,
    Tag,
    Task,
    Word,
    pack,
    read_header,
    write_prefix,
)
from cgc_fast.engines.messages.session import Session
from cgc_fast.engines.messages.shared_memory import Offer
from cgc_fast.engines.messages.transport import Backoff, Message, Pending, RanksGone, Transport
from cgc_fast.engines.remote_master import RemoteMaster, RemoteRecord
from cgc_fast.errors import ArgumentValueError
from cgc_fast.interrupts import interrupts_postponed
from cgc_fast.supervisor import SignOfLife
from cgc_fast.worker import Visit

__all__ = ["MessageEngine"]

# Iterations sent to a worker that it has not answered. It keeps one theta and receives the next; more would
# pile up at a worker that hangs.
_MOST_UNANSWERED = 2

# In the place of a descriptor: nobody sleeps on the signal, which is looked at in turn with messages.
_NOBODY = np.int32(-1)


class _Theta:
    """A message with theta, and what sends it; `index`: of the shared ones, others have -1."""

    def __init__(self, message: NDArray[np.float64], transport: Transport, index: int = -1) -> None:
        self._message, self._prefix, self.values = message, message[:PREFIX], message[PREFIX:]
        self._index = index
        self.pending = Pending(transport)

    def begin(self, iteration: int, with_value: bool) -> None:
        """Say what comes before theta."""
        write_prefix(self._message.data, 0, iteration, with_value, self._index)

    def send(self, rank: _Rank, worker: int) -> None:
        """Begin to send what a worker needs of it."""
        finds = rank.shares and self._index >= 0
        self.pending.send(self._prefix if finds else self._message, worker + 1, Tag.THETA)


class _Rank(RemoteRecord):
    """What the master knows of a worker, and what it has delivered.

    `iteration`: the last one that it was sent. `owed`: payloads that it has not delivered in that one; while
    the compiled core collects, it is the collector that counts them.
    """

    layout: Layout
    memory: NDArray[np.float64]  # where its payloads are received, or where it puts them
    room: Room

    def __init__(self) -> None:
        super().__init__()
        self.iteration = 0
        self.unanswered: list[int] = []
        self.loads = 0  # tasks that were sent and not answered
        self.shares = False  # the memory of this rank, as it said last


class MessageEngine(WithCollector, RemoteMaster):
    """Hire ranks; the constructor returns when all of them have loaded their samples.

    Parameters
    ----------
    job : Job
    session : Session
    share_memory : bool
        Whether workers on the host of rank 0 read theta, put payloads and say that they are there in memory
        of rank 0. The rest is messages, as everything is with ranks elsewhere.
    """

    _longest_sleep_s = 1e-3

    def __init__(self, job: Job, session: Session, *, share_memory: bool = True) -> None:
        session.hire(len(job.walks))
        super().__init__(job)
        self._session, self._transport = session, session.transport
        self._workers = len(job.walks)
        self._coordinates = int(job.problem.coordinates)
        self._first_tag = int(Tag.PAYLOAD)
        self._check_tags(job, self._first_tag)
        first = pickled_for_worker(job, 0)  # refused before anybody is told anything
        # How many payloads, or sums, say that a worker is done with its walk.
        self._answers: Sequence[int] = ()
        # Worker, slot -> payload out of the walk, of the iteration under way, with its header.
        self._apart: dict[tuple[int, int], NDArray[np.float64]] = {}
        self._unplanned: set[int] = set()  # workers that have not taken up the plan yet
        self._receiving: list[Message] = []  # a worker's come one after the other
        self._backoff = Backoff(session.transport, self._longest_sleep_s)
        self._ctrl_c: Sequence[object] = ()
        self._with_value = False
        self._is_collecting = False
        self._ranks = [_Rank() for _ in job.walks]
        self._share_memory = share_memory
        self._offer = Offer(0, to_be_found=False)
        self._signal: Signal | None = None
        # Two thetas: of even and of odd ordinary iterations. There will be more if a worker hangs.
        self._theta_offer = Offer(2 * (PREFIX + self._coordinates), to_be_found=share_memory)
        self._thetas = [
            _Theta(theta, session.transport, index)
            for index, theta in enumerate(self._theta_offer.values.reshape(2, -1))
        ]
        self._theta = self._thetas[0]  # the one in use
        session.engine = self
        try:
            self._lay_out(job)
            for worker in range(self._workers):
                self._load(worker, first if worker == 0 else pickled_for_worker(job, worker))
            self._wait_until_ready()
            session.pending.is_empty()  # the samples are not kept
        except BaseException:
            self.close()
            raise

    @property
    def _records(self) -> Sequence[_Rank]:
        return self._ranks

    def _check_tags(self, job: Job, first_tag: int) -> None:
        most = (self._transport.most_tag - first_tag) // 2
        if len(job.slot_widths) > most:
            raise ArgumentValueError(
                f"schedule: expected at most {most} rows of all cells together, each with tags of its own, "
                f"got {len(job.slot_widths)}"
            )

    def _lay_out(self, job: Job) -> None:
        self._answers = [len(walk) for walk in job.walks]
        self._set_room_aside(job, job.walks)

    def _set_room_aside(self, job: Job, walks: Sequence[Sequence[Visit]]) -> None:
        """Make room for what is delivered of walks; pages that nothing arrives in take no memory."""
        layouts = [Layout(walk, job.slot_widths, job.payload) for walk in walks]
        # More than the rest of a walk and two whole ones, which may be delivered while nobody looks.
        capacity = 4 * max(map(len, walks)) + 16
        sizes = [Signal.bytes(self._workers, capacity) // 8, *(layout.bounds[-1] for layout in layouts)]
        bounds = list(accumulate(-(-size // CACHE_LINE) * CACHE_LINE for size in sizes))
        self._offer.close()
        self._offer = offer = Offer(bounds[-1], to_be_found=self._share_memory)
        self._signal = Signal(offer.values.data, self._workers, capacity)
        for rank, layout, first in zip(self._ranks, layouts, bounds[:-1], strict=True):
            rank.layout, rank.memory = layout, offer.values[first : first + layout.bounds[-1]]
            rank.room = Room(self._workers, capacity, first, offer.place)
        self._apart.clear()

    def _load(self, worker: int, problem: bytes) -> None:
        rank = self._ranks[worker]
        rank.presence = "starting"
        rank.loads += 1
        task = Task(
            self._coordinates,
            self._assignment(worker),
            problem,
            self._iteration,
            self._generation(worker),
            self._theta_offer.place,
        )
        with interrupts_postponed():
            self._notify(worker, Notice.LOAD, pack(task))

    def _assignment(self, worker: int) -> RankAssignment:
        job = self._job
        return RankAssignment(
            job.walks[worker],
            job.slot_widths,
            job.payload,
            job.feedback,
            job.cells,
            self._first_tag,
            self._ranks[worker].room,
        )

    def _generation(self, worker: int) -> int:
        return 0

    # --- an iteration ---------------------------------------------------------------------------------

    def _put(self, theta: NDArray[np.float64], with_value: bool) -> None:
        free = next((each for each in self._thetas if each.pending.is_empty()), None)
        if free is None:
            free = _Theta(np.empty(PREFIX + self._coordinates), self._transport)
            self._thetas.append(free)
        self._theta, self._with_value = free, with_value
        free.values[:] = theta

    def _begin(self, iteration: int) -> None:
        self._theta.begin(iteration, self._with_value)
        super()._begin(iteration)
        self._apart.clear()

    def _publish(self, worker: int) -> None:
        self._send_theta(worker, self._answers[worker])

    def _send_theta(self, worker: int, owed: int) -> None:
        """Do so, unless too much is unanswered: then as soon as it is not."""
        rank = self._ranks[worker]
        rank.behind = len(rank.unanswered) >= _MOST_UNANSWERED
        if rank.behind or self._closed:
            return
        rank.iteration = self._iteration
        rank.owed += owed
        rank.unanswered.append(self._iteration)
        if self._cycle_times is not None:
            pace = np.array(self._cycle_times[worker : worker + 1], dtype=np.float64)
            self._notify(worker, Notice.PACE, pace.view(np.int64))
        self._theta.send(rank, worker)

    def _notify(self, worker: int, kind: int, *content: NDArray[np.int64]) -> None:
        if not self._closed:  # by a signal handler: it would be taken for a notice of the next cluster
            self._session.tell(worker + 1, kind, self._iteration, *content)

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        """Look for messages, less and less often while none comes; not within a step is there a Ctrl-C."""
        with interrupts_postponed() as self._ctrl_c:
            self._backoff.reset()
            return super().wait(timeout_s)

    def _was_interrupted(self) -> bool:
        return super()._was_interrupted() or bool(self._ctrl_c)

    def _take_in(self, timeout_s: float) -> None:
        came = self._look()
        if not came and timeout_s <= 0.0:  # there is no other look
            self._transport.work()
            came = self._look()
        if self._take_arrivals() or came:
            self._backoff.reset()
        else:
            self._backoff.pause(timeout_s)

    def _take_arrivals(self) -> bool:
        """Take in what the signal says was delivered; whether there was anything."""
        if self._signal is None:  # a signal handler has closed the cluster
            return False
        arrivals = [Delivered._make(each) for each in self._signal.pop_all(int(1e9 * self._began_s))]
        for arrival in arrivals:
            self._answered(arrival.worker, arrival.iteration)
        # Before the end of a worker that was heard of since.
        first = (at for at, event in enumerate(self._early) if isinstance(event, Lost | Ready))
        at = next(first, len(self._early))
        self._early[at:at] = arrivals
        return bool(arrivals)

    def _look(self) -> bool:
        """Take in a few of the messages that have come; whether there were any."""
        lost: list[Event] = []
        came = is_here = False
        for _ in self._ranks:
            # What was collected is counted first, before another process is let run.
            if self._is_full() or (is_here and self._is_collecting):
                break
            try:
                message = self._session.find()
            except RanksGone as gone:
                lost += [
                    self._lose(rank - 1, None, "its rank is gone")
                    for rank in sorted(gone.ranks)
                    if rank <= self._workers
                ]
                continue
            if message is None:
                break
            came = True
            is_here = not self._receiving and self._has_arrived(message)
            if not is_here:
                self._receiving.append(message)
        if self._receiving and not is_here:  # last: a look lets the transport work on these, too
            came |= self._go_on_receiving()
        self._early += lost  # after what they had sent
        return came or bool(lost)

    def _is_full(self) -> bool:
        """Whether what has come is to be read before more is received."""
        return False

    def _place(self, worker: int, slot: int, size: int) -> NDArray[np.float64]:
        """Where a message goes: payloads of the walk to where they are decoded from.

        Nobody reads there: a worker sends a run of its walk once an iteration, and none of an earlier one
        when it has begun the next. One message of a worker is received after the other.
        """
        rank = self._ranks[worker]
        if 0 <= slot < len(self._job.slot_widths) and not self._closed:  # by a signal handler
            first = rank.layout.bounds[rank.layout.position[slot]]
            return rank.memory[first : first + size]
        return np.empty(size)

    def _go_on_receiving(self) -> bool:
        """Go on with what was found; whether anything of it is here now."""
        found, self._receiving = self._receiving, []
        busy: set[int] = set()
        for index, message in enumerate(found):
            if self._is_full():
                self._receiving += found[index:]
                break
            if message.source in busy or not self._has_arrived(message):
                busy.add(message.source)
                self._receiving.append(message)
        return len(self._receiving) < len(found)

    def _has_arrived(self, message: Message) -> bool:
        """Whether a message is here, and taken in, or never will be."""
        try:
            if message.request is None:
                slot = message.tag - self._first_tag
                message.buffer = self._place(message.source - 1, slot, message.size)
                message.request = self._transport.receive(message, message.buffer)
            if not self._transport.is_done(message.request):
                return False
        except RanksGone:
            return True
        self._arrived(message)
        return True

    def _arrived(self, message: Message) -> None:
        """Take a message in."""
        worker, buffer = message.source - 1, message.buffer
        slot, slots = message.tag - self._first_tag, len(self._job.slot_widths)
        if slot >= slots:
            self._take_apart(worker, slot - slots, buffer)
        elif slot >= 0:
            if self._signal is None:  # a signal handler has closed the cluster
                return
            layout, memory = self._ranks[worker].layout, self._ranks[worker].memory
            run, began_ns = layout.run(slot, len(buffer)), int(1e9 * self._began_s)
            push_run(self._signal, worker, memory, layout.headers[run], layout.slots[run], began_ns)
        elif message.tag == Tag.WORD:
            self._take_word(worker, buffer)
        elif message.tag < Tag.PAYLOAD:
            self._take_other(message)
        else:  # a payload of an earlier plan
            self._hear(worker, int(buffer[0]))

    def _take_other(self, message: Message) -> None:
        """Take in what only schedules with feedback have."""
        raise RuntimeError(
            f"worker {message.source - 1}: a message with tag {message.tag}, which nobody sends"
        )

    def _take_apart(self, worker: int, slot: int, payload: NDArray[np.float64]) -> None:
        """Take in a payload that is not of the walk, or once more."""
        first, good, began_s, ended_s = read_header(payload.data)
        iteration, finite = int(first), bool(good)
        self._answered(worker, iteration)
        if self._is_collecting and iteration != self._iteration:
            return
        if iteration == self._iteration and finite:
            if self._is_collecting:
                raise RuntimeError(f"worker {worker}: sent a payload that nobody ordered")
            self._apart.setdefault((worker, slot), payload)  # the master may be reading the first
        self._early.append(Delivered(iteration, worker, slot, finite, began_s, ended_s))

    def _answered(self, worker: int, iteration: int) -> None:
        """A payload, or a sum, has come."""
        self._hear(worker, iteration)
        rank = self._ranks[worker]
        if iteration == rank.iteration:
            rank.owed -= 1

    def _hear(self, worker: int, iteration: int) -> None:
        rank = self._ranks[worker]
        self._hearing.heard(worker, iteration)
        if rank.unanswered and rank.unanswered[0] <= iteration:
            rank.unanswered = [sent for sent in rank.unanswered if sent > iteration]
            if rank.behind and self._running and rank.presence == "there":
                self._publish(worker)

    def _take_word(self, worker: int, word: NDArray[np.float64]) -> None:
        rank = self._ranks[worker]
        kind, iteration, value = map(int, word[:WORD_VALUES].tolist())
        self._hear(worker, iteration)
        if kind == Word.SHARES:
            rank.shares = bool(value)
        elif kind == Word.READY:
            rank.loads -= 1
            if rank.loads == 0:
                rank.presence, rank.process_id, rank.unanswered = "there", value, []
                self._early.append(Ready(worker))
        elif kind == Word.REPLANNED:
            self._unplanned.discard(worker)
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
        """Make the collector over the memory that payloads arrive in."""
        assert self._signal is not None
        offsets: list[ArrayLike] = []
        for rank in self._ranks:
            places = np.full(len(self._job.slot_widths), -1, dtype=np.int64)
            places[rank.layout.slots] = 8 * (rank.layout.headers + HEADER_VALUES)
            offsets.append(places)
        memories: list[ArrayLike] = [rank.memory for rank in self._ranks]
        even_theta, odd_theta = (theta.values for theta in self._thetas[:2])
        wake_fds, fds = np.full(self._workers, _NOBODY), np.array([_NOBODY])
        self._collector = Collector(
            self._signal, list(cells), blocks, offsets, memories, even_theta, odd_theta, wake_fds, fds, 1.0
        )

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
        with self._waiting, interrupts_postponed() as self._ctrl_c:
            collector, place = self.running_collector(), self._thetas[iteration % 2]
            if self._early or not place.pending.is_empty():
                return None
            for worker, rank in enumerate(self._ranks):
                if rank.presence != "there" or len(rank.unanswered) >= _MOST_UNANSWERED:
                    return None
                if not self._hearing.is_known(worker, self._iteration, seen_within_s):
                    return None
            # Whether all workers are well is known here: for the collector none is too late.
            if collector.run(0, 0, iteration, theta, gradient, with_value, None) is None:
                return None
            self._theta, self._with_value, self._cycle_times = place, with_value, None
            self._began_s = 1e-9 * collector.began_ns
            self._begin(iteration)
            self._hearing.begin_ordinary()
            self._is_collecting = True
            os.sched_yield()  # to a worker, should there be more ranks than cores
            why = "begun" if until_s is None else self._collect(until_s, False)
            self._check_open()  # a signal handler may have closed it, and not gone away
        return why

    def collect(self, until_s: float, each_block: bool) -> str:
        """Take in what is delivered until something else is to be done."""
        with self._waiting, interrupts_postponed() as self._ctrl_c:
            why = self._collect(until_s, each_block)
            self._check_open()
        return why

    def _collect(self, until_s: float, each_block: bool) -> str:
        collector = self.running_collector()
        self._backoff.reset()
        with self._hearing.listening():
            while True:
                why = collector.collect(0, each_block)
                heard = collector.take_heard()
                for worker, iteration in heard:
                    self._hear(worker, iteration)
                if why != "late":
                    return why
                if self._early:
                    return "unusual"
                if heard or self._look():
                    self._backoff.reset()
                    continue
                self._check_open()
                if (self._interrupted or self._ctrl_c) and self._was_interrupted():
                    return "interrupted"
                left_s = self._began_s + until_s - time.monotonic()
                if left_s <= 0:
                    return "late"
                self._theta.pending.is_empty()  # so that nothing is left to do for it later
                self._backoff.pause(left_s)

    def end_collecting(self, iteration: int) -> bool:
        """End the iteration, and have it counted."""
        was_collecting, self._running, self._is_collecting = self._is_collecting, False, False
        collector = self._collector
        if self._closed or collector is None or collector.iteration != iteration:
            return False
        delivered = collector.delivered
        if delivered != self._answers:  # somebody is late
            if was_collecting:
                self._count(delivered)
            self.finish(iteration)
        collector.end()
        return True

    def _count(self, delivered: Sequence[int]) -> None:
        """Take down how many payloads each worker has delivered in the iteration."""
        for rank, payloads in zip(self._ranks, delivered, strict=True):
            if rank.iteration == self._iteration:
                rank.owed -= payloads

    def collected_events(self) -> list[Event]:
        """Arrivals of the iteration so far; from here on they are told by `wait`."""
        with self._waiting, interrupts_postponed(), self._hearing.listening():
            collector = self.running_collector()
            if self._is_collecting:
                self._count(collector.delivered)
            self._is_collecting = False
            self._take_arrivals()
            return [*self._collected_arrivals()]

    def signs_at_start(self) -> Sequence[SignOfLife]:
        """As they were when `start_collecting` looked."""
        self._hearing.drop_longest()
        return self._hearing.signs_at_start()

    # --- workers that do not deliver ------------------------------------------------------------------

    def order(self, worker: int, visits: Sequence[Visit]) -> None:
        """Send the visits, and theta before if the worker has not been sent it."""
        rank = self._ranks[worker]
        if rank.presence != "there":  # its loss is noticed at the next wait
            return
        with interrupts_postponed():
            rank.owed += self._answers_to_orders(visits)
            if rank.iteration < self._iteration and not rank.behind:
                self._send_theta(worker, 0)  # its walk it does not do: `Task.iteration`
            self._notify(worker, Notice.ORDER, pack(list(visits)))

    def _answers_to_orders(self, visits: Sequence[Visit]) -> int:
        """How many payloads, or sums, these orders are answered with."""
        return len(visits)

    def replace(self, worker: int) -> None:
        """Let the rank load its samples again, which it does when it comes to it."""
        rank = self._ranks[worker]
        if self._is_gone(worker):
            self._early.append(Lost(worker, None, "its rank is gone, and nobody starts another"))
            return
        rank.presence = "starting"
        if rank.loads == 0:  # else it has not even answered the last time
            self._load(worker, pickled_for_worker(self._job, worker))

    def _send_plan(self, job: Job) -> None:
        """Send the ranks their new walks; what still comes of the old ones is known by its tag."""
        first_tag = self._first_tag + 2 * len(self._job.slot_widths)
        self._check_tags(job, first_tag)
        self._job, self._first_tag = job, first_tag
        self._lay_out(job)
        self._unplanned = {w for w, rank in enumerate(self._ranks) if rank.presence == "there"}
        for worker, rank in enumerate(self._ranks):
            rank.unanswered = []  # nobody looks any more where the answers are
            if rank.presence != "gone":
                self._notify(worker, Notice.REPLAN, pack(self._assignment(worker)))

    def _outdated(self) -> set[int]:
        return {worker for worker in self._unplanned if self._ranks[worker].presence == "there"}

    def _lose(self, worker: int, exit_code: int | None, text: str) -> Lost:
        """Write a rank off: it cannot be ended from here."""
        rank = self._ranks[worker]
        rank.presence, rank.owed, rank.unanswered, rank.behind = "gone", 0, [], False
        rank.iteration = 0  # theta is lost with the rest
        return Lost(worker, exit_code, text)

    def _is_gone(self, worker: int) -> bool:
        return worker + 1 in self._transport.gone

    def is_idle(self) -> bool:
        """Whether every rank is gone for good; from others something may still come."""
        return not self._early and all(map(self._is_gone, range(self._workers)))

    def payload(self, worker: int, slot: int) -> NDArray[Any]:
        """View of the memory that it arrived in."""
        rank, apart = self._ranks[worker], self._apart.get((worker, slot))
        if apart is not None:
            width = int(self._job.slot_widths[slot])
            return apart[HEADER_VALUES:].view(self._job.payload)[:width]
        return rank.layout.payload(rank.memory, rank.layout.position[slot])

    # --- the end --------------------------------------------------------------------------------------

    def _release(self) -> None:
        """Let the ranks go; what refers to those that do not answer is kept alive."""
        self._is_collecting = False
        self._session.engine = None
        pending = self._session.pending
        try:
            for message in self._receiving:
                with suppress(RanksGone):
                    if message.request is None:
                        message.buffer = np.empty(message.size)
                        message.request = self._transport.receive(message, message.buffer)
                    pending.keep(message.request, message.buffer)
            for theta in self._thetas:
                pending.take_over(theta.pending)
            self._session.let_go(set(range(1, self._workers + 1)))
        finally:
            for offer in (self._theta_offer, self._offer):
                offer.close()
            for rank in self._ranks:
                rank.presence, rank.memory = "starting", np.empty(0)
            self._receiving, self._thetas = [], []
            self._collector = None
            self._signal = None
            self._apart.clear()
