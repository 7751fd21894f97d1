"""A cluster: a schedule, a problem and an engine; gradients come out, exact, block by block."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgc_fast._core import are_vectors
from cgc_fast.arguments import Cost, quantity
from cgc_fast.engines import Engine, Job, Replanning, engine_names, make_engine
from cgc_fast.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    CgcError,
    ClusterBusy,
    ClusterClosed,
    NonFiniteGradient,
    unknown_name,
)
from cgc_fast.interrupts import interrupts_postponed
from cgc_fast.master import Block, Master, slot_widths
from cgc_fast.problems import Problem, ProblemTraits, check_problem
from cgc_fast.reports import Delivery, EventLog, Health, IterationReport
from cgc_fast.schedule import Schedule
from cgc_fast.straggler_models import Trace
from cgc_fast.worker import Visit, visits_of

if TYPE_CHECKING:
    from cgc_fast.plans import Plan

__all__ = ["Block", "BlockStream", "Cluster", "Delivery", "IterationReport", "PartialGradient"]

_FORKED = "the workers of this cluster belong to the process that was forked"


@dataclass(frozen=True, eq=False)
class PartialGradient:
    """What was decoded of a gradient by a deadline.

    Attributes
    ----------
    values : ndarray of float64 (L,)
        Exact where `decoded`, NaN elsewhere.
    decoded : ndarray of bool (L,)
        Which coordinates are there.
    elapsed_s : float
        Seconds since the iteration began.
    failure : CgcError or None
        Why the rest could never have come, if that was so; None if it was merely late.
    """

    values: NDArray[np.float64]
    decoded: NDArray[np.bool_]
    elapsed_s: float
    failure: CgcError | None = None

    @property
    def complete(self) -> bool:
        """Whether every coordinate is there."""
        return bool(self.decoded.all())

    def __repr__(self) -> str:
        return (
            f"PartialGradient({int(self.decoded.sum())} of {len(self.decoded)} coordinates, "
            f"{self.elapsed_s:.4g} s)"
        )


class _Iteration:
    """One iteration under way, and who may end it."""

    def __init__(self, cluster: Cluster, master: Master, turn: _Turn) -> None:
        self._cluster = cluster
        self._master = master
        self._turn = turn
        self._blocks: list[Block] = []
        self.lock = threading.RLock()
        self.is_complete = False  # and ended
        self._cancelled = False

    def close(self) -> None:
        """End the iteration, from any thread; the workers abandon it. May be called twice."""
        self._cancelled = True
        if self._cluster.forked:  # the iteration is another process's, and so may the lock be
            return
        if self._turn.is_held(self):
            self._master.engine.interrupt()
        with self.lock:
            self._end()

    def next_block(self, until_s: float | None = None, *, each: bool = True) -> Block | None:
        """Next block; None when there is none, be it for a moment of the iteration that has come.

        Without `each` some blocks may be left out, before the iteration is over.
        """
        if self._cluster.forked:
            raise ClusterClosed(_FORKED)
        with self.lock:
            try:
                while not self._blocks:
                    if self._cancelled and self._cluster.closed:
                        raise ClusterClosed("the cluster was closed while an iteration was under way")
                    if self._cancelled or not self._turn.is_held(self):
                        self._end()
                        return None
                    if self._master.done:
                        self._end()
                        return None
                    if until_s is not None and self._master.engine.elapsed_s() >= until_s:
                        return None
                    # The next in line comes first.
                    self._blocks = self._master.step(until_s, each_block=each)[::-1]
                return self._blocks.pop()
            except BaseException:
                self._end()
                raise

    def end_if_complete(self) -> None:
        """End it at once if there is nothing left to do; whoever calls this holds the lock."""
        if self._turn.is_held(self) and self._master.done:
            self._end()
            self.is_complete = True

    def _end(self) -> None:
        if self._turn.is_held(self):
            self._blocks = []
            try:
                self._master.finish()
            finally:
                self._turn.release(self)


class BlockStream(_Iteration):
    """The blocks of one gradient in the order in which they decode: an iterator, also an asynchronous one.

    Made by `Cluster.stream`; the workers are at it from the moment it is made. Leaving the loop, `close`, or
    dropping the last reference ends the iteration.
    """

    def __iter__(self) -> Iterator[Block]:
        return self

    def __next__(self) -> Block:
        block = self.next_block()
        if block is None:
            raise StopIteration
        return block

    def __aiter__(self) -> AsyncIterator[Block]:
        return self

    async def __anext__(self) -> Block:
        try:
            block = await asyncio.get_running_loop().run_in_executor(None, self.next_block)
        except asyncio.CancelledError:
            self.close()
            raise
        if block is None:
            raise StopAsyncIteration
        return block

    def __enter__(self) -> BlockStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Python swallows Ctrl-C in here, so nothing but streams, which users may drop, has it.
    def __del__(self) -> None:
        if hasattr(self, "_cancelled"):
            self.close()


class _Turn:
    """Whose iteration is under way; free again when its holder is gone, wherever Ctrl-C struck."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: weakref.ref[_Iteration] | None = None

    def take(self, iteration: _Iteration) -> bool:
        with self._lock:
            if self._holder is None or self._holder() is None:
                self._holder = weakref.ref(iteration)
            return self._holder() is iteration

    def is_held(self, iteration: _Iteration) -> bool:
        holder = self._holder
        return holder is not None and holder() is iteration

    def release(self, iteration: _Iteration) -> None:
        if self.is_held(iteration):
            self._holder = None

    def holder(self) -> _Iteration | None:
        holder = self._holder
        return None if holder is None else holder()


_AnyIteration = TypeVar("_AnyIteration", bound=_Iteration)


class Cluster:
    """Workers that compute exact gradients of a problem by a schedule.

    Parameters
    ----------
    schedule : Schedule
        Who computes what in which order; `plan.schedule()` makes one.
    problem : Problem
        The loss, a plain sum over samples. Each worker process holds a shard with only the samples it needs.
    engine : {"processes", "serial", "mpi", "ray"}, or one that you have registered
        "processes": one process a worker on this machine. "serial": in this process, on a virtual clock.
        "mpi": one rank a worker, see `cgc_fast.engines.mpi.run`. "ray": one actor a worker.
    cycle_times : array_like (I, N), optional
        Drawn cycle times, in seconds per cycle, a row an iteration: the clock of "serial" (all 1 by default),
        emulated by the others, whose workers then sleep so that their progress follows. Infinity: the worker
        never answers in that iteration. After I iterations the cluster refuses to go on.
    cycles_per_derivative : float
        b of the cost model, in cycles. Scales `cycle_times` and `trace`.
    forward_cycles : float, optional
        c of the cost model, in cycles; the problem's own by default, 0 if it names none.
    factory : callable, optional
        Called in each worker with its sample ranges (R, 2) to make its shard there, instead of sending it.
    events : path or text file, optional
        Where to write who delivered what when, as JSON lines; ``cgc-fast timeline`` draws them.
    engine_options : mapping, optional
        Of the engine: see `cgc_fast.engines.ray.RayEngine`; under MPI ``{"share_memory": False}`` has
        everything sent, also where ranks on one host could share memory. The others have none.

    Attributes
    ----------
    last_report : IterationReport or None
        What happened in the iteration under way or, if none is, in the last one.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        Bad input; no process was started.
    WorkerDied
        A worker failed at its start; carries its traceback.

    Notes
    -----
    Use it in a ``with`` statement, or call `close`. One iteration runs at a time; all methods may be called
    from any thread.
    """

    def __init__(
        self,
        schedule: Schedule,
        problem: Problem,
        engine: str = "processes",
        cycle_times: ArrayLike | None = None,
        *,
        cycles_per_derivative: float = 1.0,
        forward_cycles: float | None = None,
        factory: Callable[[NDArray[np.int64]], Problem] | None = None,
        events: str | os.PathLike[str] | IO[str] | None = None,
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(schedule, Schedule):
            raise ArgumentTypeError(
                f"schedule: expected a Schedule, as plan.schedule() makes, got {type(schedule).__name__}"
            )
        if engine not in engine_names():
            raise unknown_name("engine", engine, engine_names())
        traits = check_problem(problem)
        _check_fit(schedule, traits)
        if forward_cycles is None:
            forward_cycles = traits.forward_cycles
        self.schedule = schedule
        self.problem = problem
        self._has_value = traits.has_value
        self._cycle_times = _checked_cycle_times(cycle_times, schedule.workers)
        samples = traits.samples
        self._traits, self._factory = traits, factory
        self._cost = cost = Cost(samples, cycles_per_derivative, forward_cycles)
        walks = _walks(schedule, cost)
        ranges = [schedule.sample_ranges(worker, samples) for worker in range(schedule.workers)]
        self._ranges = ranges  # what the workers hold
        job = self._job(schedule, walks)
        self._closed = False
        self._owner = _process
        self._turn = _Turn()  # held while an iteration is under way
        self._threads: list[threading.Thread] = []
        self._log = None if events is None else EventLog(events, schedule)
        try:
            running = make_engine(engine, job, engine_options)
        except BaseException:
            if self._log is not None:
                self._log.close()
            raise
        self._master = Master(schedule, running, walks, ranges, cost, self._log)
        self._finalizer = weakref.finalize(self, _release, running, self._log)

    # --- gradients ------------------------------------------------------------------------------------

    @overload
    def gradient(
        self, theta: ArrayLike, *, out: NDArray[np.float64] | None = None, deadline_s: None = None
    ) -> NDArray[np.float64]: ...

    @overload
    def gradient(
        self, theta: ArrayLike, *, out: NDArray[np.float64] | None = None, deadline_s: float
    ) -> PartialGradient: ...

    def gradient(
        self,
        theta: ArrayLike,
        *,
        out: NDArray[np.float64] | None = None,
        deadline_s: float | None = None,
    ) -> NDArray[np.float64] | PartialGradient:
        """Compute the gradient of the whole loss at theta.

        Parameters
        ----------
        theta : array_like (L,)
            Finite; copied.
        out : ndarray of float64 (L,), optional
            Where to put the gradient: contiguous and writable. After an error its content is undefined.
        deadline_s : float, optional
            Seconds after which what is decoded has to do.

        Returns
        -------
        ndarray of float64 (L,), or PartialGradient
            Σ over all samples, exact within the error norm of the codes in use; `out`, if given, or the
            caller's own. With a deadline always a `PartialGradient`, complete or not.

        Raises
        ------
        WorkerDied, NonFiniteGradient, NumericalError, DecodeError
            What is missing cannot come any more. With a deadline this is the `failure` of the result.
        ClusterBusy, ClusterClosed
            An iteration is under way; there are no workers any more.
        """
        until_s = None if deadline_s is None else quantity("deadline_s", deadline_s)
        values, gradient = self._checked(theta, out)
        if until_s is None:
            self._run(self._begin(_Iteration, values, gradient, to_the_end=True))
            return gradient
        iteration = self._begin(_Iteration, values, gradient)
        decoded = np.zeros(self.schedule.coordinates, dtype=np.bool_)
        failure: CgcError | None
        try:
            while (block := iteration.next_block(until_s)) is not None:
                decoded[block.coordinates] = True
            failure = self._master.failure
        except ClusterClosed:
            raise
        except CgcError as error:
            failure = error
        finally:
            iteration.close()
        gradient[~decoded] = np.nan
        assert self.last_report is not None
        return PartialGradient(gradient, decoded, self.last_report.elapsed_s, failure)

    def value_and_gradient(
        self, theta: ArrayLike, *, out: NDArray[np.float64] | None = None
    ) -> tuple[float, NDArray[np.float64]]:
        """Compute the loss and its gradient, both sums over all samples, in one iteration.

        The loss travels as one more value behind the last coordinate; stragglers delay it as little as that.
        Parameters and errors as in `gradient`; the problem must have a `value`.
        """
        if not self._has_value:
            raise ArgumentTypeError(
                f"problem: expected a method value(ranges, coefficients) to compute the loss with; "
                f"{type(self.problem).__name__} has none"
            )
        values, gradient = self._checked(theta, out)
        self._run(self._begin(_Iteration, values, gradient, with_value=True, to_the_end=True))
        if not math.isfinite(self._master.loss):
            raise NonFiniteGradient("the loss: the payloads are finite, their sum is not (overflow)")
        return self._master.loss, gradient

    def stream(self, theta: ArrayLike) -> BlockStream:
        """Compute the gradient and yield its blocks in the order in which they decode.

        Each coordinate comes exactly once. `theta` may be overwritten while streaming. The iteration is under
        way when this returns; leaving the loop early ends it. ``async for`` works as well.
        """
        return self._begin(BlockStream, *self._checked(theta, None))

    def submit(self, theta: ArrayLike) -> Future[NDArray[np.float64]]:
        """Begin a gradient and return at once; the future's result is that of `gradient`.

        `theta` may be overwritten at once. `asyncio.wrap_future` makes it awaitable.
        """
        values, gradient = self._checked(theta, None)
        iteration = self._begin(_Iteration, values, gradient)
        future: Future[NDArray[np.float64]] = Future()
        future.set_running_or_notify_cancel()

        def run() -> None:
            try:
                self._run(iteration)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(gradient)

        thread = threading.Thread(target=run, name="cgc_fast gradient", daemon=True)
        self._threads = [*(t for t in self._threads if t.is_alive()), thread]
        thread.start()
        return future

    # --- another plan ---------------------------------------------------------------------------------

    def replan(self, plan: Plan | Schedule) -> None:
        """Go on by another plan from the next iteration on, without starting workers anew.

        The workers are told their new walks, and get new memory for what they deliver; this returns when all
        of them know. They keep their samples, so the plan may only ask for what they hold already. Measured
        times, health and the numbers of the iterations go on.

        Parameters
        ----------
        plan : Plan or Schedule
            For as many workers, the same coordinates and the same feedback.

        Raises
        ------
        ArgumentValueError
            It does not fit; the message says which worker lacks which samples. Or the engine is one whose
            workers keep their walks. The cluster goes on as before.
        ClusterBusy, ClusterClosed
            An iteration is under way; there are no workers any more.

        Notes
        -----
        A worker that does not take the plan up for as long as a silent one is suffered in an iteration (ten
        seconds at least) is killed and replaced.
        """
        self._check_open()
        schedule = _schedule_of(plan)
        if not isinstance(self._master.engine, Replanning):
            raise ArgumentValueError(
                "engine: expected one whose workers can be given other walks: make a new cluster for another "
                "plan"
            )
        if schedule.workers != self.schedule.workers or schedule.feedback != self.schedule.feedback:
            raise ArgumentValueError(
                f"plan: expected {self.schedule.workers} workers and feedback {self.schedule.feedback!r}, as "
                f"this cluster has, got {schedule.workers} and {schedule.feedback!r}: make a new cluster"
            )
        _check_fit(schedule, self._traits)
        _check_held(schedule, self._ranges, self._traits.samples)
        walks = _walks(schedule, self._cost)
        turn = _Iteration(self, self._master, self._turn)
        if not self._turn.take(turn):
            raise ClusterBusy("an iteration is under way: finish it, or leave its loop, before a new plan")
        try:
            with interrupts_postponed():  # all of them go on by the new plan, or none
                self._check_open()
                self._master.replan(schedule, walks, self._job(schedule, walks))
                self.schedule = schedule
        finally:
            self._turn.release(turn)

    def _job(self, schedule: Schedule, walks: list[list[Visit]]) -> Job:
        return Job(
            self.problem,
            self._factory,
            walks,
            self._ranges,
            slot_widths(schedule),
            schedule.feedback,
            len(schedule.cells),
            np.dtype(schedule.payload),
        )

    # --- what is known of the workers -----------------------------------------------------------------

    @property
    def last_report(self) -> IterationReport | None:
        """What happened in the iteration under way or, if none is, in the last one."""
        return self._master.report

    def health(self) -> Health:
        """State, speed, deliveries and deaths of every worker; names the slow ones, prints as a table."""
        return self._master.health()

    def trace(self) -> Trace:
        """Measured cycle times, ready for `cgc_fast.plan`.

        An iteration a row, the last 10,000 at most: seconds until a worker's last delivery over the cycles
        that it had done by then. Whoever delivered nothing is censored: it took longer than the iteration for
        the first visit of its walk.

        Raises
        ------
        ArgumentValueError
            No iteration has been measured yet.
        """
        times, censored = self._master.measured()
        return Trace(times, censored=censored if censored.any() else None)

    # --- the end --------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the cluster can run nothing any more."""
        return self._closed or self.forked

    @property
    def forked(self) -> bool:
        """Whether this is a copy in a forked process: the workers belong to the one that was forked."""
        return self._owner != _process

    def close(self) -> None:
        """Stop the workers and release everything; may be called twice, and from any thread.

        An iteration under way in another thread ends there with `ClusterClosed`.
        """
        with interrupts_postponed():
            self._closed = True
            if self.forked:
                return
            iteration = self._turn.holder()
            if iteration is not None:
                iteration.close()
            for thread in self._threads:
                if thread is not threading.current_thread():
                    thread.join()
            if self._finalizer.alive:
                self._master.secure()
            self._finalizer()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- beginning an iteration -----------------------------------------------------------------------

    def _begin(
        self,
        kind: type[_AnyIteration],
        theta: NDArray[np.float64],
        gradient: NDArray[np.float64],
        *,
        with_value: bool = False,
        to_the_end: bool = False,
    ) -> _AnyIteration:
        """Begin an iteration; with `to_the_end` it may be complete on return."""
        iteration = kind(self, self._master, self._turn)
        try:
            if not self._turn.take(iteration):
                raise ClusterBusy("an iteration is under way: finish it, or leave its loop, before the next")
            self._check_open()  # whoever closes from now on finds the iteration
            cycle_times = self._next_cycle_times()
            with iteration.lock:  # whoever closes it waits for the master to come back
                self._master.begin(theta, gradient, cycle_times, with_value=with_value, to_the_end=to_the_end)
                if to_the_end:
                    iteration.end_if_complete()
        except BaseException:
            iteration.close()
            raise
        return iteration

    @staticmethod
    def _run(iteration: _Iteration) -> None:
        if iteration.is_complete:
            return
        try:
            while iteration.next_block(each=False) is not None:
                pass
        finally:
            iteration.close()

    def _check_open(self) -> None:
        if self.forked:
            raise ClusterClosed(_FORKED)
        if self._closed:
            raise ClusterClosed("the cluster is closed: make a new one")

    def _checked(self, theta: Any, out: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Theta as an array, and where the gradient goes, which lies apart from it."""
        self._check_open()
        if are_vectors(theta, out, self.schedule.coordinates):  # one look, as this is in every iteration
            return theta, out
        gradient = self._checked_out(out)
        values = self._checked_theta(theta)
        return (values.copy() if np.may_share_memory(values, gradient) else values), gradient

    def _checked_theta(self, theta: ArrayLike) -> NDArray[np.float64]:
        array = np.asarray(theta)
        if array.dtype.kind not in "fiu":
            raise ArgumentTypeError(f"theta: expected real numbers, got dtype {array.dtype}")
        if array.shape != (self.schedule.coordinates,):
            raise ArgumentValueError(
                f"theta: expected shape ({self.schedule.coordinates},), got {array.shape}"
            )
        return np.ascontiguousarray(array, dtype=np.float64)

    def _checked_out(self, out: object) -> NDArray[np.float64]:
        if out is None:
            return np.zeros(self.schedule.coordinates)
        length = self.schedule.coordinates
        expected = f"out: expected a contiguous writable float64 array of shape ({length},)"
        if not isinstance(out, np.ndarray) or out.dtype != np.float64:
            raise ArgumentTypeError(f"{expected}, got {getattr(out, 'dtype', type(out).__name__)}")
        if out.shape != (length,):
            raise ArgumentValueError(f"{expected}, got shape {out.shape}")
        flags = out.flags
        if not (flags.c_contiguous and flags.writeable):
            raise ArgumentValueError(f"{expected}, got one that is not contiguous or read-only")
        return out

    def _next_cycle_times(self) -> NDArray[np.float64] | None:
        if self._cycle_times is None:
            return None
        iteration = self._master.iteration
        if iteration >= len(self._cycle_times):
            raise ArgumentValueError(
                f"cycle_times: has {len(self._cycle_times)} rows, all used; iteration "
                f"{iteration + 1} has none. Pass a row an iteration."
            )
        row: NDArray[np.float64] = self._cycle_times[iteration]
        return row


_process = os.getpid()  # asked so often that the system is not asked each time


def _after_fork() -> None:
    global _process
    _process = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _release(engine: Engine, log: EventLog | None) -> None:
    engine.close()
    if log is not None:
        log.close()


def _schedule_of(plan: object) -> Schedule:
    from cgc_fast.plans import Plan  # with SciPy, which a cluster does without

    if isinstance(plan, Schedule):
        return plan
    if isinstance(plan, Plan):
        return plan.schedule()
    raise ArgumentTypeError(f"plan: expected a Plan or a Schedule, got {type(plan).__name__}")


def _walks(schedule: Schedule, cost: Cost) -> list[list[Visit]]:
    samples = int(cost.samples)
    arrival_cycles = schedule.arrival_cycles(samples, cost.cycles_per_derivative, cost.forward_cycles)
    return [
        visits_of(
            schedule,
            worker,
            samples,
            cost.cycles_per_derivative,
            cost.forward_cycles,
            arrival_cycles=arrival_cycles[worker],
        )
        for worker in range(schedule.workers)
    ]


def _check_held(schedule: Schedule, held: list[NDArray[np.int64]], samples: int) -> None:
    """Refuse a schedule by which a worker would need samples that it does not hold."""
    lacking = []
    for worker, ranges in enumerate(held):
        for low, high in schedule.sample_ranges(worker, samples).tolist():
            missing = np.ones(high - low, dtype=np.bool_)
            for first, last in ranges.tolist():
                missing[max(first - low, 0) : max(last - low, 0)] = False
            if missing.any():
                edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(np.int8)))
                gaps = ", ".join(f"[{low + a}, {low + b})" for a, b in edges.reshape(-1, 2).tolist())
                lacking.append(f"worker {worker} lacks samples {gaps}")
    if lacking:
        raise ArgumentValueError(
            "plan: expected one for the samples that the workers hold; "
            + "; ".join(lacking[:8])
            + ("; ..." if len(lacking) > 8 else "")
            + ". Make a new cluster."
        )


def _checked_cycle_times(cycle_times: ArrayLike | None, workers: int) -> NDArray[np.float64] | None:
    if cycle_times is None:
        return None
    draws = np.asarray(cycle_times)
    if draws.dtype.kind not in "fiu":
        raise ArgumentTypeError(f"cycle_times: expected real numbers, got dtype {draws.dtype}")
    if draws.ndim != 2 or draws.shape[1] != workers:
        raise ArgumentValueError(
            f"cycle_times: expected shape (iterations, {workers}), a row an iteration, got {draws.shape}"
        )
    draws = np.array(draws, dtype=np.float64)
    if not (draws > 0).all():  # NaN included
        raise ArgumentValueError(
            "cycle_times: expected positive seconds per cycle (infinity: never answers), got "
            f"{draws[~(draws > 0)][0]}"
        )
    return draws


def _check_fit(schedule: Schedule, problem: ProblemTraits) -> None:
    if problem.coordinates != schedule.coordinates:
        raise ArgumentValueError(
            f"problem: expected {schedule.coordinates} coordinates, as the schedule has, "
            f"got {problem.coordinates}"
        )
    if problem.samples < schedule.workers:
        raise ArgumentValueError(
            f"problem: expected at least as many samples as workers ({schedule.workers}), "
            f"got {problem.samples}: use fewer workers"
        )
    if problem.boundaries is not None:
        allowed = set(problem.boundaries.tolist())
        cuts = {cut for cell in schedule.cells for cut in (cell.start, cell.stop)}
        if outside := sorted(cuts - allowed):
            raise ArgumentValueError(
                f"schedule: cuts at coordinate {outside[0]}, which is not one of the problem's boundaries; "
                "pass boundaries=problem.boundaries to plan"
            )
    if problem.sequential:
        for worker, walk in enumerate(schedule.walks):
            starts = np.array([schedule.cells[c].start for c in walk.cells])
            # Under claim a worker may come back to what others have claimed.
            if (np.diff(starts) < 0).any() or (schedule.feedback == "claim" and len(set(starts)) > 1):
                raise ArgumentValueError(
                    f"schedule: worker {worker} walks back to lower coordinates, but the problem is "
                    "sequential; pass sequential=True to plan"
                )
