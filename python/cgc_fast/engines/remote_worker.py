"""The loop around the pure `Worker` for engines whose workers and master exchange messages (MPI, Ray).

It is a generator: what it yields is to be sent to the master, and how that is done, and how the master's
word comes in, is the engine's. Between two slices it looks into its mailbox, so that a worker whose iteration
is over drops what it is doing within about a millisecond. Times are seconds since the worker took up the
iteration, since clocks of other hosts mean nothing here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import MessageWalk, all_finite
from cgc_fast.engines.base import Visited
from cgc_fast.engines.worker_process import compiled_kernel, derive
from cgc_fast.payloads import loss_of, place_for_values, round_values
from cgc_fast.problems import Problem, check_problem
from cgc_fast.worker import STRIDE_S, Deliver, Derive, Forward, Idle, SendSum, Stride, Visit, Worker

if TYPE_CHECKING:  # ranks and actors start sooner without
    from cgc_fast.schedule import Feedback

__all__ = ["ALIVE_S", "Assignment", "Delivery", "Mailbox", "Output", "RemoteWorker", "Run", "Sum"]

ALIVE_S = 0.1  # a worker that delivers nothing for so long says that it is alive


@dataclass(frozen=True)
class Assignment:
    """What a worker does by one plan; see `Job`."""

    walk: Sequence[Visit]
    slot_widths: NDArray[np.int64]
    payload: np.dtype[Any]
    feedback: Feedback
    cells: int


class Mailbox(Protocol):
    """What the master has to say to one worker."""

    def is_over(self, iteration: int) -> bool:
        """Whether nobody wants anything more of this iteration."""

    def take_orders(self, iteration: int) -> Sequence[Visit]:
        """Visits that were ordered in this iteration since the last call."""

    def wait(self, timeout_s: float) -> None:
        """Sleep until something comes, or the time is over."""


class Delivery(NamedTuple):
    """A payload is complete, in the place that the engine gave for it."""

    visit: Visit
    finite: bool
    began_s: float
    ended_s: float


class Run(NamedTuple):
    """The payloads of the visits [first, stop) of the walk, made by the compiled one, with their headers."""

    first: int
    stop: int


class Sum(NamedTuple):
    """Under claim: the sum (L + 1,) of these visits, maybe none; it may change when the generator goes on."""

    generation: int
    visits: Sequence[Visited]
    total: NDArray[np.float64]


# What leaves together: visits that follow one another in the walk, or one; a sum; or a mere sign of life.
Output = Run | list[Delivery] | Sum | None


class RemoteWorker:
    """Serve iterations.

    Parameters
    ----------
    problem : Problem
        The shard of this worker.
    walk : sequence of Visit
    place : callable
        Visit -> where to put its payload, with room for the loss if the cell reaches the last coordinate.
    mailbox : Mailbox
    compiled : MessageWalk, optional
        Makes ordinary iterations as long as nothing else is asked for; it has a place for its payloads.
    """

    _patience_s = ALIVE_S  # how long to wait at a time until a payload is due

    def __init__(
        self,
        problem: Problem,
        walk: Sequence[Visit],
        place: Callable[[Visit], NDArray[Any]],
        mailbox: Mailbox,
        compiled: MessageWalk | None = None,
    ) -> None:
        traits = check_problem(problem)  # a factory may return anything
        self.problem = problem
        self._forward = getattr(problem, "forward", None)
        self._value = getattr(problem, "value", None)
        self._kernel = compiled_kernel(problem)
        self._worker = self._machine(walk, sliceable=traits.sliceable, forward=traits.has_forward)
        self._place = place
        self._mailbox = mailbox
        self._compiled = compiled
        self._is_compiled = False  # the iteration so far, and the machine knows nothing of it
        self._payload = self._values = np.empty(0)  # of the visit under way
        self.iteration = 0

    def _machine(self, walk: Sequence[Visit], *, sliceable: bool, forward: bool) -> Worker:
        return Worker(walk, sliceable=sliceable, forward=forward)

    def begin(
        self,
        iteration: int,
        theta: NDArray[np.float64],
        *,
        cycle_time: float | None,
        with_value: bool,
        walk: bool,
        memory: int = 0,
    ) -> None:
        """Take up an iteration; `run` serves it.

        Without `walk` only what is ordered is done. `memory`: where a compiled walk puts its payloads.
        """
        self.iteration = iteration
        self._with_value = with_value
        self._began_s = self._spoke_s = time.monotonic()
        self._visit_began_s = 0.0
        self._answered = False
        self._is_compiled = False
        if self._compiled is not None and walk and cycle_time is None:
            self._is_compiled = True
            self._compiled.begin(iteration, memory, theta, with_value)
            return
        self.problem.begin(theta, iteration)
        self._worker.begin(iteration, cycle_time, walk=walk)

    def _make_compiled(self, walk: MessageWalk, orders: Sequence[Visit]) -> Iterator[Output]:
        """Go on with the compiled walk to its end, or until something else is to be done."""
        while not orders and not walk.is_over:
            first, stop, finite = walk.go_on()
            if stop > first:
                self._answered = True
                self._spoke_s = time.monotonic()
                yield Run(first, stop)
                if not finite:
                    self._take_over(walk, rejected=stop - 1)
                    return
                if walk.is_over:
                    return
            else:
                yield from self._sign_of_life()
            if self._mailbox.is_over(self.iteration):
                return
            orders = self._mailbox.take_orders(self.iteration)
        if orders:
            self._take_over(walk)
            self._worker.order(orders, self._elapsed_s())

    def _take_over(self, walk: MessageWalk, rejected: int | None = None) -> None:
        """Go on where the compiled walk has come to; the payload of the visit `rejected` was not finite."""
        self._is_compiled = False
        self._visit_began_s = walk.visit_began_s
        worker = self._worker
        worker.resume(self.iteration, walk.made, walk.next_coordinate)
        if rejected is not None:
            worker.rejected(worker.visits[rejected])
        if walk.made < len(worker.visits) and walk.next_coordinate > worker.visits[walk.made].start:
            self._enter(worker.visits[walk.made])

    def _enter(self, visit: Visit) -> None:
        """Find the place of a payload that is begun."""
        self._payload = self._place(visit)
        self._values = place_for_values(self._payload, visit.stop - visit.start)

    def run(self, orders: Sequence[Visit] = ()) -> Iterator[Output]:
        """Go on until there is nothing to do, or the iteration is over.

        Yields what to send, signs of life now and then, and one in the end if nothing else was said, so that
        every iteration that was taken up is answered.
        """
        worker = self._worker
        if self._is_compiled:
            assert self._compiled is not None
            yield from self._make_compiled(self._compiled, orders)
        else:
            worker.order(orders, self._elapsed_s())
        while not self._is_compiled:
            self._look()
            stride = worker.stride()
            if stride is not None:
                yield self._make(stride)
                continue
            instruction = worker.next()
            if isinstance(instruction, Idle):
                break
            if isinstance(instruction, Deliver):
                visit = instruction.visit
                yield from self._hand_over(visit, instruction.due_s, self._complete(visit))
                continue
            if isinstance(instruction, SendSum):
                yield from self._sum_of(instruction)
                continue
            began_s = time.monotonic()
            if isinstance(instruction, Forward):
                assert self._forward is not None
                self._forward(instruction.ranges)
            elif isinstance(instruction, Derive):
                visit = instruction.visit
                start, stop = instruction.start, instruction.stop
                if start == visit.start:
                    self._enter(visit)
                derive(self.problem, self._kernel, visit, start, stop, self._values)
            ended_s = time.monotonic()
            worker.completed(ended_s - began_s)
            if ended_s - self._spoke_s > ALIVE_S:
                yield from self._sign_of_life()
        if not self._answered:
            self._answered = True
            yield None

    def _hand_over(self, visit: Visit, due_s: float, finite: bool) -> Iterator[Output]:
        """Deliver a complete payload when it is due, unless nobody wants it any more."""
        while self._elapsed_s() < due_s:
            yield from self._sign_of_life()
            self._mailbox.wait(min(self._patience_s, self._began_s + due_s - time.monotonic()))
            if not self._look():
                return
        yield from self._deliver(visit, finite)

    def _deliver(self, visit: Visit, finite: bool) -> Iterator[Output]:
        yield [self._delivery(visit, finite)]

    def _sum_of(self, instruction: SendSum) -> Iterator[Sum]:
        raise RuntimeError("a worker whose schedule has no claims sends no sums")

    def _make(self, stride: Stride) -> list[Delivery]:
        """Make visits that are over in a moment; fewer of them if they take longer than was expected."""
        clock, derivatives = time.monotonic, self.problem.derivatives
        forward_s = derive_s = 0.0
        made: list[Delivery] = []
        until_s = self._elapsed_s() + STRIDE_S
        for visit, new in zip(stride.visits, stride.forwards, strict=True):
            began_s = clock()
            if new is not None:
                assert self._forward is not None
                self._forward(new)
                forward_s -= began_s
                began_s = clock()
                forward_s += began_s
            self._enter(visit)
            derivatives(visit.start, visit.stop, visit.ranges, visit.coefficients, self._values)
            derive_s += clock() - began_s
            last = self._delivery(visit, self._complete(visit))
            made.append(last)
            if last.ended_s > until_s or not last.finite:  # it may be ordered again from now on
                break
        self._worker.strode(stride.visits[: len(made)], forward_s, derive_s)
        return made

    def _complete(self, visit: Visit) -> bool:
        """Round the values and put the loss behind them, if it is asked for; whether all is finite."""
        width, payload = visit.stop - visit.start, self._payload
        round_values(self._values, payload)
        if len(payload) > width:
            if self._with_value:
                assert self._value is not None
                loss = loss_of(payload, width)
                loss[0] = self._value(visit.ranges, visit.coefficients)
                if not math.isfinite(loss[0]):
                    return False
            payload = payload[:width]
        return bool(all_finite(payload))

    def _look(self) -> bool:
        """Take in what the master says; whether the visit under way is still wanted."""
        if self._mailbox.is_over(self.iteration):
            self._worker.abandon()
            return False
        orders = self._mailbox.take_orders(self.iteration)
        if orders:
            self._worker.order(orders, self._elapsed_s())
        return True

    def _delivery(self, visit: Visit, finite: bool) -> Delivery:
        if not finite:
            self._worker.rejected(visit)
        self._answered = True
        self._spoke_s = time.monotonic()
        began_s, self._visit_began_s = self._visit_began_s, self._spoke_s - self._began_s
        return Delivery(visit, finite, began_s, self._visit_began_s)

    def _sign_of_life(self) -> Iterator[None]:
        now_s = time.monotonic()
        if now_s - self._spoke_s > ALIVE_S:
            self._answered = True
            self._spoke_s = now_s
            yield None

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s
