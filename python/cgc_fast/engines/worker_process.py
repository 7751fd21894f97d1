"""What runs inside a worker process: the loop around the pure `Worker`.

Imports NumPy, the compiled core and the problem, nothing else. The process leaves when the master says so or
when its socket, whose other end only the master holds, is closed: a thread outside the interpreter sees to
that even while the problem computes. A failure is reported as a traceback through the socket, and the
process exits with status 1.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import pickle
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import LinearModel, Signal, Walker, all_finite, build_info, leave_with, monotonic_ns
from cgc_fast.errors import CgcError
from cgc_fast.memory import Segment
from cgc_fast.payloads import loss_of, place_for_values, round_values
from cgc_fast.problems import Problem, check_problem
from cgc_fast.worker import SLICE_S, SOON_S, Deliver, Derive, Forward, Idle, SendSum, Visit, Worker

__all__ = [
    "LENGTH_BYTES",
    "READY",
    "REPLANNED",
    "Announcement",
    "FeedbackConfiguration",
    "Loop",
    "NewPlan",
    "WorkerConfiguration",
    "main",
    "payload_offsets",
]

FOREVER_NS = np.iinfo(np.int64).max
LENGTH_BYTES = 8  # before each message in a worker's socket
_RING_FULL_PAUSE_S = 1e-3
# What a worker says outside of iterations (iteration 0) in the place of a slot.
READY, REPLANNED = 0, 1
_MOST_DESCRIPTORS = 3  # in one message


@dataclass(frozen=True)
class FeedbackConfiguration:
    """What a worker is told besides where workers learn of each other; `slots`: rows of all cells."""

    claims: bool
    cells: int
    slots: int
    board_descriptor: int
    board_size: int


@dataclass(frozen=True)
class NewPlan:
    """What changes when workers are given other walks; pickled into memory of its own.

    With it come the descriptors of the new payload segment and, with feedback, of the new board; what
    `feedback` says of descriptors is the master's.
    """

    walk: list[Visit]
    slot_widths: NDArray[np.int64]
    payload: np.dtype[Any]
    payload_size: int
    feedback: FeedbackConfiguration | None


@dataclass(frozen=True)
class Announcement:
    """Message to a worker: a `NewPlan` of so many bytes lies behind the first descriptor with it."""

    size: int
    descriptors: int


@dataclass(frozen=True)
class WorkerConfiguration:
    """Everything a worker is told at its start; descriptors are inherited ones."""

    worker: int
    workers: int
    capacity: int
    walk: list[Visit]
    coordinates: int
    slot_widths: NDArray[np.int64]
    payload: np.dtype[Any]
    problem: bytes  # for `load_problem`
    signal_descriptor: int
    signal_size: int
    theta_descriptor: int
    payload_descriptor: int
    payload_size: int
    wake_descriptor: int
    socket_descriptor: int
    master_descriptor: int
    feedback: FeedbackConfiguration | None = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All of them."""
        return (
            *(() if self.feedback is None else (self.feedback.board_descriptor,)),
            self.signal_descriptor,
            self.theta_descriptor,
            self.payload_descriptor,
            self.wake_descriptor,
            self.socket_descriptor,
            self.master_descriptor,
        )


def payload_offsets(slot_widths: NDArray[np.int64], payload: np.dtype[Any]) -> NDArray[np.int64]:
    """Byte offset of the payload of each slot, each on its own cache line, and the total size (S + 1,)."""
    return np.concatenate([[0], np.cumsum(-(-payload.itemsize * slot_widths // 64) * 64)])


def load_problem(pickled: bytes) -> Problem:
    """Unpickle a shard, or call the factory with the sample ranges.

    Refuses what would be computed with other bits than elsewhere: errors of rounding that are the same in all
    workers cancel in decoding, others are amplified.
    """
    content: Any
    fused, content = pickle.loads(pickled)
    problem: Problem
    if isinstance(content, tuple):
        factory: Callable[[NDArray[np.int64]], Problem] = content[0]
        problem = factory(content[1])
    else:
        problem = content
    if compiled_kernel(problem) is not None and fused != build_info()["fuses_multiply_add"]:
        here, there = ("does not", "does") if fused else ("does", "does not")
        raise CgcError(
            f"instruction set {build_info()['instruction_set']}: expected one like the master's, which "
            f"{there} fuse multiply and add, got one that {here}: set CGC_FAST_FORCE_ISA=baseline for the "
            "master and all workers, or leave it unset for all"
        )
    return problem


def compiled_kernel(problem: Problem) -> LinearModel | None:
    """What the compiled core can differentiate without the interpreter, if the problem has it."""
    kernel: Callable[[], LinearModel | None] | None = getattr(problem, "compiled_kernel", None)
    return None if kernel is None else kernel()


def for_kernel(walk: Sequence[Visit]) -> list[Any]:
    """Visits as the walks of the compiled core take them."""
    return [(visit.slot, visit.start, visit.stop, visit.ranges, visit.coefficients) for visit in walk]


def derive(
    problem: Problem,
    kernel: LinearModel | None,
    visit: Visit,
    start: int,
    stop: int,
    values: NDArray[np.float64],
) -> None:
    """Compute a slice of a visit into its `values`; in the order of its features, if there is a kernel.

    Slices in the order of the coordinates would read all features once for each class.
    """
    begin, end = start - visit.start, stop - visit.start
    if kernel is None:
        problem.derivatives(start, stop, visit.ranges, visit.coefficients, values[begin:end])
    else:
        kernel.derivatives_part(visit.start, visit.stop, begin, end, visit.ranges, visit.coefficients, values)


def main(configuration_file: BinaryIO) -> None:
    """Run a worker until the master is done with it."""
    # Ctrl-C reaches the whole foreground process group; the master decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):  # held back until now
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    faulthandler.enable()
    with configuration_file:
        configuration: WorkerConfiguration = pickle.load(configuration_file)
    for descriptor in configuration.descriptors:
        os.set_inheritable(descriptor, False)  # not for what the user's problem may start
    leave_with(configuration.socket_descriptor)
    try:
        _loop_of(configuration).run()
    except EOFError:  # the master is gone
        return
    except BaseException:
        text = traceback.format_exc()
        with contextlib.suppress(OSError):  # the master may be gone already
            os.write(configuration.socket_descriptor, text.encode(errors="replace")[-60_000:])
        sys.exit(1)


def _loop_of(configuration: WorkerConfiguration) -> Loop:
    if configuration.feedback is None:
        return Loop(configuration)
    from cgc_fast.engines.feedback_loop import FeedbackLoop

    return FeedbackLoop(configuration, configuration.feedback)


class Loop:
    """Serve iterations until told to stop."""

    def __init__(self, configuration: WorkerConfiguration) -> None:
        self._index = configuration.worker
        self._problem = load_problem(configuration.problem)
        traits = check_problem(self._problem)  # a factory may return anything
        self._forward = getattr(self._problem, "forward", None)
        self._value = getattr(self._problem, "value", None)
        self._kernel = compiled_kernel(self._problem)
        self._traits = traits
        self._worker = self._make_worker(configuration.walk)
        control = Segment(configuration.signal_size, descriptor=configuration.signal_descriptor)
        self._channel = Signal(control.memory, configuration.workers, configuration.capacity)
        theta = Segment(
            16 * configuration.coordinates, descriptor=configuration.theta_descriptor, writable=False
        )
        self._thetas = [
            theta.array(configuration.coordinates, 8 * configuration.coordinates * parity)
            for parity in (0, 1)
        ]
        self._memory = Segment(configuration.payload_size, descriptor=configuration.payload_descriptor)
        self._widths = configuration.slot_widths
        self._offsets = payload_offsets(configuration.slot_widths, configuration.payload)
        self._payload_type = configuration.payload
        self._payloads: dict[int, NDArray[Any]] = {}
        self._values = np.empty(0)  # of the visit under way
        self._wake = configuration.wake_descriptor
        self._master = configuration.master_descriptor
        self._inbox = _Inbox(configuration.socket_descriptor)
        self._orders_seen = self._channel.orders(self._index)
        # The successor of a worker that was lost in an iteration waits for the next, or for orders.
        self._last = self._channel.published()  # iteration that was looked at
        self._begun = 0  # iteration that `problem.begin` was called for
        self._waiting: list[tuple[int, list[Visit]]] = []  # orders for an iteration not looked at yet
        self._has_feedback = configuration.feedback is not None
        self._walker = self._make_walker(configuration.walk)

    def _make_walker(self, walk: list[Visit]) -> Walker | None:
        """What serves ordinary iterations without the interpreter, if the problem has a compiled kernel."""
        if self._has_feedback or self._payload_type != np.float64:
            return None
        kernel = self._kernel
        if kernel is None:
            return None
        return Walker(
            self._channel,
            kernel,
            self._index,
            self._thetas[0],
            self._thetas[1],
            for_kernel(walk),
            [self._payload(visit.slot) for visit in walk],
            SLICE_S,
            SOON_S,
            self._wake,
            self._inbox.descriptor,
            self._master,
        )

    def _make_worker(self, walk: list[Visit]) -> Worker:
        return Worker(walk, sliceable=self._traits.sliceable, forward=self._traits.has_forward)

    def run(self) -> None:
        """Run the machine: do what it says, and look up between two slices."""
        self._push(0, READY, True, monotonic_ns(), wake=True)
        while True:
            instruction = self._worker.next()
            if isinstance(instruction, Idle):
                why = self._wait_for_work()
                if why == "stopped":
                    return
                if why == "iteration":
                    self._begin(self._last, walk=True)
                elif why == "orders":
                    self._take_orders()
                continue
            if isinstance(instruction, Deliver):
                if not self._deliver(instruction):
                    return
            elif isinstance(instruction, SendSum):
                self._send_sum(instruction)
            else:
                began_ns = monotonic_ns()
                if isinstance(instruction, Forward):
                    assert self._forward is not None
                    self._forward(instruction.ranges)
                elif isinstance(instruction, Derive):
                    visit = instruction.visit
                    start, stop = instruction.start, instruction.stop
                    if start == visit.start:
                        self._values = place_for_values(self._payload(visit.slot), visit.stop - start)
                    derive(self._problem, self._kernel, visit, start, stop, self._values)
                self._worker.completed((monotonic_ns() - began_ns) * 1e-9)
            self._look()

    def _look(self) -> None:
        look = self._channel.look(self._index, self._begun, self._orders_seen)
        if look == "over":
            self._worker.abandon()
        elif look == "orders":
            self._take_orders()

    def _send_sum(self, instruction: SendSum) -> None:
        raise RuntimeError("a worker whose schedule has no claims sends no sums")

    def _wait_for_work(self) -> str:
        """Serve ordinary iterations, or merely wait, until something else is to be done here: what."""
        if self._walker is None or self._waiting:
            why, published = self._channel.wait_for_iteration(
                self._index, self._last, self._wake, self._inbox.descriptor
            )
            if why == "iteration":
                self._last = published
            return why
        why, self._last, begun, delivered, next_coordinate, over, visit_began_ns = self._walker.serve(
            self._last, self._orders_seen
        )
        if begun > 0:  # what was walked there is gone on with here
            self._began_ns = self._channel.published_ns(begun)
            self._with_value = self._channel.with_value(begun)
            self._begun = begun
            self._worker.resume(begun, delivered, next_coordinate)
            if delivered < len(self._worker.visits):
                visit = self._worker.visits[delivered]
                self._values = place_for_values(self._payload(visit.slot), visit.stop - visit.start)
            self._visit_began_ns = visit_began_ns
            if over:
                self._worker.abandon()
        return why

    def _begin(self, iteration: int, *, walk: bool) -> None:
        channel = self._channel
        cycle_time = channel.cycle_time(self._index, iteration)
        self._began_ns = channel.published_ns(iteration)
        self._with_value = channel.with_value(iteration)
        self._begun = iteration
        self._problem.begin(self._thetas[iteration % 2], iteration)
        self._worker.begin(iteration, None if np.isnan(cycle_time) else cycle_time, walk=walk)
        self._visit_began_ns = monotonic_ns()
        for ordered, visits in self._waiting:
            if ordered == iteration:
                self._worker.order(visits)
        self._waiting.clear()

    def _take_orders(self) -> None:
        self._orders_seen = self._channel.orders(self._index)
        for message in self._inbox.read():
            if isinstance(message, Announcement):
                self._replan(message)
                continue
            iteration, visits = message
            if iteration == self._last and iteration > self._begun:
                self._begin(iteration, walk=False)
            if iteration == self._begun:
                self._worker.order(visits, (monotonic_ns() - self._began_ns) * 1e-9)
            elif iteration > self._last:
                self._waiting.append((iteration, visits))

    def _replan(self, announcement: Announcement) -> None:
        """Walk by another plan from the next iteration on; the last one is over."""
        with contextlib.ExitStack() as unused:
            descriptors = self._inbox.take(announcement.descriptors)
            memory = Segment(announcement.size, descriptor=descriptors[0], writable=False)
            unused.callback(memory.close)
            plan: NewPlan = pickle.loads(memory.memory[: announcement.size])
            self._take_up(plan, descriptors[1:])
        self._waiting.clear()
        self._worker = self._make_worker(plan.walk)
        self._walker = self._make_walker(plan.walk)
        self._push(0, REPLANNED, True, monotonic_ns(), wake=True)

    def _take_up(self, plan: NewPlan, descriptors: list[int]) -> None:
        self._memory.close()
        self._memory = Segment(plan.payload_size, descriptor=descriptors[0])
        self._widths = plan.slot_widths
        self._offsets = payload_offsets(plan.slot_widths, plan.payload)
        self._payload_type = plan.payload
        self._payloads.clear()

    def _deliver(self, instruction: Deliver) -> bool:
        """Hand a payload over when it is due; False if the worker is to leave."""
        visit = instruction.visit
        payload = self._payload(visit.slot)
        width = visit.stop - visit.start
        round_values(self._values, payload)
        finite = True
        if self._with_value and len(payload) > width:
            assert self._value is not None
            loss = loss_of(payload, width)
            loss[0] = self._value(visit.ranges, visit.coefficients)
            finite = math.isfinite(loss[0])
        if instruction.due_s > 0:
            until_ns = FOREVER_NS
            if not np.isinf(instruction.due_s):
                until_ns = self._began_ns + int(instruction.due_s * 1e9)
            while True:
                why = self._channel.sleep_until(
                    self._index, self._begun, until_ns, self._wake, self._inbox.descriptor
                )
                if why == "timeout":
                    break
                if why == "stopped":
                    return False
                if why == "finished":
                    self._worker.abandon()
                    return True
                if why == "orders":
                    self._take_orders()
        finite = finite and all_finite(payload[:width])
        if not finite:
            self._worker.rejected(visit)
        self._push(self._begun, visit.slot, finite, self._visit_began_ns, wake=not instruction.soon)
        return True

    def _push(self, iteration: int, slot: int, finite: bool, began_ns: int, *, wake: bool) -> None:
        ended_ns = monotonic_ns()
        while not self._channel.push(
            self._index, iteration, slot, finite, began_ns, ended_ns, wake, self._master
        ):
            if self._channel.is_over(iteration):  # nobody wants it any more
                break
            time.sleep(_RING_FULL_PAUSE_S)
        self._visit_began_ns = ended_ns

    def _payload(self, slot: int) -> NDArray[Any]:
        payload = self._payloads.get(slot)
        if payload is None:
            width, offset = int(self._widths[slot]), int(self._offsets[slot])
            payload = self._memory.array(width, offset, self._payload_type)
            self._payloads[slot] = payload
        return payload


class _Inbox:
    """Messages from the master: pickles, each after its length; descriptors may come with them."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._bytes = bytearray()
        self._descriptors: list[int] = []

    def take(self, count: int) -> list[int]:
        """The descriptors that came with the message at hand; they are the caller's."""
        taken, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return taken

    def read(self) -> Iterator[tuple[int, list[Visit]] | Announcement]:
        """Every complete message that is there."""
        with contextlib.suppress(BlockingIOError):
            while True:
                piece, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 16, _MOST_DESCRIPTORS)
                if not piece:
                    raise EOFError("the master is gone")
                self._bytes += piece
                for descriptor in descriptors:
                    os.set_inheritable(descriptor, False)
                self._descriptors += descriptors
        while len(self._bytes) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(self._bytes[:LENGTH_BYTES], "little")
            if len(self._bytes) < end:
                return
            message = pickle.loads(self._bytes[LENGTH_BYTES:end])
            del self._bytes[:end]
            yield message
