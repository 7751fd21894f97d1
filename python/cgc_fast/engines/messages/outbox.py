"""Where a worker puts what it delivers, and how that leaves."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import Signal, push_run
from cgc_fast.engines.messages.protocol import HEADER_VALUES, Layout, RankAssignment, size_of, write_header
from cgc_fast.engines.messages.transport import Pending, Transport
from cgc_fast.engines.remote_worker import Delivery, Run
from cgc_fast.worker import Visit

__all__ = ["Outbox"]


class Outbox:
    """What a worker delivers by one plan: the payloads of its walk in one piece.

    There are two of them: the second is for iterations that begin while the first is still on its way. On the
    host of rank 0 there is one, in `room`, memory of rank 0, which reads it until it begins another
    iteration. Visits that are not in its walk, or are made once more, have a message of their own.
    """

    def __init__(
        self, transport: Transport, assignment: RankAssignment, room: NDArray[np.float64] | None
    ) -> None:
        self._assignment = assignment
        self._layout = layout = Layout(assignment.walk, assignment.slot_widths, assignment.payload)
        self._worker = transport.rank - 1
        self._signal: Signal | None = None
        if room is None:
            self.memories = [np.empty(layout.bounds[-1]) for _ in range(2)]
        else:
            where = assignment.room
            self._signal = Signal(room.data, where.workers, where.capacity)
            self.memories = 2 * [room[where.first : where.first + layout.bounds[-1]]]
        self.memory = 0  # which is in use
        self.pending = [Pending(transport) for _ in range(3)]  # from the memories, and the rest
        self._apart: dict[int, NDArray[np.float64]] = {}  # slot -> message
        self._made = 0  # visits of the walk, from the first on, have been placed by somebody else
        self._placed: set[int] = set()  # slots that have been given their place in this iteration
        self._iteration = 0
        self._began_ns = 0

    def begin(self, iteration: int, walk: bool) -> bool:
        """Whether an iteration may begin: nothing is on its way any more from where its payloads go."""
        first, second, _ = self.pending
        if first.is_empty():
            self.memory = 0
        elif second.is_empty():
            self.memory = 1
        else:
            return False
        self._iteration, self._began_ns = iteration, time.monotonic_ns()
        self._apart.clear()
        self._placed.clear()
        # A walk before this one may have filled its place: at rank 0, before it loaded its samples anew.
        self._made = 0 if walk else len(self._layout.slots)
        return True

    def let_go(self) -> None:
        """Keep nothing that has been sent, so that nothing is left to do for it later."""
        for pending in self.pending:
            pending.is_empty()

    def place(self, visit: Visit) -> NDArray[Any]:
        """Where the payload of a visit goes."""
        slot, kind = visit.slot, self._assignment.payload
        position = self._layout.position.get(slot, -1)
        if position >= self._made and slot not in self._placed:
            self._placed.add(slot)
            return self._layout.payload(self.memories[self.memory], position)
        width = int(self._assignment.slot_widths[slot])
        message = self._apart[slot] = np.empty(size_of(width, kind))
        return message[HEADER_VALUES:].view(kind)[:width]

    def send(self, deliveries: Sequence[Delivery]) -> None:
        """Send payloads; several are a run of the walk, made for the first time."""
        slot = deliveries[0].visit.slot
        message = self._apart.get(slot)
        if message is None:
            first = self._layout.position[slot]
            memory, bounds = self.memories[self.memory].data, self._layout.bounds
            for position, delivery in enumerate(deliveries, first):
                self._write_header(memory, 8 * bounds[position], delivery)
            self._send_run(first, first + len(deliveries))
        else:
            self._write_header(message.data, 0, deliveries[0])
            assignment = self._assignment
            self.pending[2].send(message, 0, assignment.first_tag + len(assignment.slot_widths) + slot)

    def send_compiled(self, run: Run) -> None:
        """Send what the compiled walk has made, and written the headers of."""
        self._made = run.stop
        self._send_run(*run)
        if run.stop == len(self._layout.slots):
            os.sched_yield()  # to rank 0, should there be more ranks than cores

    def _send_run(self, first: int, stop: int) -> None:
        """Send the payloads of visits of the walk, or say that they are there."""
        layout, memory = self._layout, self.memories[self.memory]
        if self._signal is None:
            run = memory[layout.bounds[first] : layout.bounds[stop]]
            tag = self._assignment.first_tag + int(layout.slots[first])
            self.pending[self.memory].send(run, 0, tag)
        else:
            headers, slots = layout.headers[first:stop], layout.slots[first:stop]
            push_run(self._signal, self._worker, memory, headers, slots, self._began_ns)

    def _write_header(self, memory: memoryview, offset: int, delivery: Delivery) -> None:
        _, finite, began_s, ended_s = delivery
        write_header(memory, offset, self._iteration, finite, began_s, ended_s)
