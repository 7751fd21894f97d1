"""What a worker rank does: serve the iterations of one cluster after the other, until it is dismissed.

See `protocol` for what it is told and says.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import MessageWalk
from cgc_fast.claims import ClaimTable
from cgc_fast.engines.messages.outbox import Outbox
from cgc_fast.engines.messages.protocol import (
    HEADER_VALUES,
    PREFIX,
    TEXT_BYTES,
    WORD_VALUES,
    Notice,
    RankAssignment,
    Tag,
    Task,
    Word,
    read_prefix,
    unpack,
    write_header,
)
from cgc_fast.engines.messages.shared_memory import find
from cgc_fast.engines.messages.transport import Backoff, Message, Pending, RanksGone, Transport
from cgc_fast.engines.remote_feedback import make_remote_worker
from cgc_fast.engines.remote_worker import RemoteWorker, Run, Sum
from cgc_fast.engines.worker_process import compiled_kernel, for_kernel, load_problem
from cgc_fast.problems import Problem
from cgc_fast.worker import SLICE_S, SOON_S, Visit

__all__ = ["serve"]

_LOADING = -1  # in the place of an iteration: the worker has not loaded its samples

# A look lets the transport work, which may hand the core to another rank: there may be more than cores.
_LOOK_S = 5e-4


def serve(transport: Transport) -> None:
    """Work for the clusters of rank 0, one after the other, until it dismisses everybody.

    Ctrl-C is rank 0's to answer: the system sends it to all processes of a terminal.
    """
    mine = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if mine else None
    try:
        while _Rank(transport).run():
            pass
    finally:
        if mine:
            signal.signal(signal.SIGINT, before)


def _read_only(arrays: Iterable[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    views = [array[:] for array in arrays]
    for view in views:
        view.flags.writeable = False
    return views


class _Rank:
    """A worker in one cluster; it is its own `Mailbox`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._pending = Pending(transport)
        self._outbox: Outbox | None = None
        self._earlier: list[Pending] = []  # of earlier plans, as long as anything of them is on its way
        # Messages with theta, of which one is in use; read-only views of theta in them, and in memory of rank
        # 0, if that is found.
        self._messages: list[NDArray[np.float64]] = []
        self._next = 0
        self._thetas: list[NDArray[np.float64]] = []
        self._shared_thetas: list[NDArray[np.float64]] = []
        self._next_size = 0  # of the message that has come and has not been taken up
        self._pace = 0, math.nan  # iteration, and the cycle time to emulate in it
        self._task: Task | None = None
        self._loaded: Task | None = None
        self._next_assignment: RankAssignment | None = None
        self._loop: RemoteWorker | None = None
        self._iteration = 0
        self._finished = 0
        self._looked_s = 0.0
        self._orders: list[tuple[int, list[Visit]]] = []
        self._has_ended = self._is_dismissed = False  # nothing that comes after is read here
        # Under announce: what is announced; under claim: number of the last question, and reply.
        self._table: ClaimTable | None = None
        self._asked = 0
        self._reply: list[int] = [0]
        self._backoff = Backoff(transport)

    def run(self) -> bool:
        """Serve until the cluster is closed; whether there may be another."""
        while not self._has_ended:
            if self._task is not None:
                self._guarded(self._load)
            elif self._next_assignment is not None and self._loop is not None:
                self._guarded(self._replan)
            elif self._next_size > 0 and self._loop is not None:
                self._guarded(self._take_up)
            elif self._loop is not None and (orders := self.take_orders(self._iteration)):
                self._guarded(partial(self._go_on, orders))
            else:
                self.wait(1.0)
        if not self._is_dismissed:
            self._say_goodbye()
        return not self._is_dismissed

    def _guarded(self, step: Callable[[], None]) -> None:
        """Do a step of the user's problem. What it raises is reported, and the rank waits to be told more."""
        try:
            step()
        except RanksGone:  # rank 0: there is nobody left to tell
            raise
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
        if not self._messages:
            self._messages = [np.empty(PREFIX + task.coordinates) for _ in range(2)]
            self._thetas = _read_only(message[PREFIX:] for message in self._messages)
            if task.thetas is not None and (shared := find(task.thetas)) is not None:
                self._shared_thetas = _read_only(shared.reshape(2, -1)[:, PREFIX:])
        self._take_assignment(task.assignment, load_problem(task.problem), task.generation)
        self._say(Word.READY, os.getpid())

    def _replan(self) -> None:
        """Do as another plan says."""
        assert self._loop is not None
        assert self._next_assignment is not None
        assignment, self._next_assignment = self._next_assignment, None
        self._take_assignment(assignment, self._loop.problem, 0)
        self._say(Word.REPLANNED)

    def _take_assignment(self, assignment: RankAssignment, problem: Problem, generation: int) -> None:
        if self._outbox is not None:
            self._earlier = [each for each in self._earlier + self._outbox.pending if not each.is_empty()]
        place = assignment.room.place
        room = find(place) if self._shared_thetas and place is not None else None
        self._has_claims = assignment.feedback == "claim"
        self._outbox = outbox = Outbox(self._transport, assignment, room)
        self._iteration = 0
        compiled, kernel = None, compiled_kernel(problem)
        if kernel is not None and assignment.feedback == "none" and assignment.payload == np.float64:
            first, second = outbox.memories
            compiled = MessageWalk(kernel, for_kernel(assignment.walk), first, second, SLICE_S, SOON_S)
        self._loop, self._table = make_remote_worker(
            problem, assignment, outbox.place, self, self._ask, generation, compiled
        )
        self._say(Word.SHARES, int(room is not None))

    def _take_up(self) -> None:
        """Take up the iteration whose theta has come."""
        assert self._loop is not None
        assert self._loaded is not None
        assert self._outbox is not None
        iteration, with_value, index = map(int, read_prefix(self._messages[self._next].data))
        walk = iteration > self._loaded.iteration
        if not self._outbox.begin(iteration, walk):  # the master has not taken everything of the last but one
            self.wait(1.0)
            return
        if self._next_size > PREFIX:
            theta = self._thetas[self._next]
            self._next = 1 - self._next  # the one before is free from now on
        else:
            theta = self._shared_thetas[index]
        self._next_size = 0
        self._iteration = iteration
        cycle_time = self._pace[1] if self._pace[0] == iteration else math.nan
        self._loop.begin(
            iteration,
            theta,
            cycle_time=None if math.isnan(cycle_time) else cycle_time,
            with_value=bool(with_value),
            walk=walk,
            memory=self._outbox.memory,
        )
        self._go_on()

    def _go_on(self, orders: Sequence[Visit] = ()) -> None:
        """Do what is left of the iteration, and what was ordered."""
        assert self._loop is not None
        assert self._outbox is not None
        for what in self._loop.run(orders):
            if isinstance(what, Run):
                self._outbox.send_compiled(what)
            elif what is None:
                self._say(Word.ALIVE)
            elif isinstance(what, Sum):
                self._send_sum(what)
            elif self._has_claims:
                self._say(Word.NOT_FINITE, what[0].visit.slot)
            else:
                self._outbox.send(what)
        self._backoff.reset()  # the next may come soon

    # --- what it says ---------------------------------------------------------------------------------

    def _send_sum(self, what: Sum) -> None:
        count = len(what.visits)
        message = np.empty(HEADER_VALUES + (3 * count + len(what.total) if count else 0))
        write_header(message.data, 0, self._iteration, what.generation, count, 0.0)
        if count:
            message[HEADER_VALUES : HEADER_VALUES + 3 * count] = np.ravel(what.visits)
            message[HEADER_VALUES + 3 * count :] = what.total
        self._pending.send(message, 0, Tag.SUM)

    def _ask(self, question: NDArray[np.int64]) -> list[int] | None:
        """Ask the board; None if the iteration ends before there is a reply."""
        self._asked += 1
        self._pending.send(np.concatenate([[self._asked], question]), 0, Tag.BOARD)
        backoff = Backoff(self._transport)
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
        self._pending.send(word, 0, Tag.WORD)

    # --- the mailbox ----------------------------------------------------------------------------------

    def is_over(self, iteration: int) -> bool:
        """Whether the iteration was finished, another or another plan has come, or the cluster is to end."""
        if time.monotonic() - self._looked_s > _LOOK_S:
            self._transport.work()
            self._look()
        return self._is_over(iteration)

    def _is_over(self, iteration: int) -> bool:
        next_came = self._next_size > 0 or self._next_assignment is not None or self._has_ended
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
            if self._outbox is not None:
                self._outbox.let_go()
            self._backoff.pause(timeout_s)

    def _look(self) -> bool:
        """Take in what has come."""
        self._looked_s = time.monotonic()
        came = False
        transport = self._transport
        while not self._has_ended and (message := transport.find()) is not None:
            came = True
            if message.tag == Tag.THETA:  # whatever came before and was not taken up is over
                self._next_size = message.size
                self._receive(message, self._messages[self._next][: message.size])
                break  # it is what everything else waits for
            words = np.empty(message.size, dtype=np.int64)
            self._receive(message, words)
            if message.tag == Tag.BOARD:
                self._reply = words.tolist()
            else:
                self._heed(int(words[0]), int(words[1]), words[2:])
        return came

    def _receive(self, message: Message, buffer: NDArray[Any]) -> None:
        """Receive a message whole."""
        request = self._transport.receive(message, buffer)
        self._backoff.reset()  # the rest may come soon
        while not self._transport.is_done(request):
            self._backoff.pause()

    def _heed(self, kind: int, iteration: int, content: NDArray[np.int64]) -> None:
        """Take note of a notice."""
        if kind == Notice.LOAD:
            self._task, self._next_assignment = unpack(content), None
        elif kind == Notice.PACE:
            self._pace = iteration, float(content.view(np.float64)[0])
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
            self._has_ended = True
            if kind == Notice.END:
                self._is_dismissed = True
                all_left, any_gone = map(bool, content.tolist())
                self._transport.leave(all_left=all_left, any_gone=any_gone)

    # --- the end --------------------------------------------------------------------------------------

    def _say_goodbye(self) -> None:
        """Say it when everything that was sent has arrived."""
        pending = [self._pending, *self._earlier, *([] if self._outbox is None else self._outbox.pending)]
        while not all(each.is_empty() for each in pending):
            self._backoff.pause()
        self._say(Word.BYE)
        while not self._pending.is_empty():
            self._backoff.pause()
