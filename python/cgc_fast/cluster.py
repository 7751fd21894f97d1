"""A cluster: a schedule, a problem and an engine; gradients come out, exact, block by block."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgc_fast._core import all_finite, weighted_sum
from cgc_fast.decoder import DecodeCell, Decoder, Failure
from cgc_fast.engines import ENGINES, Delivered, Job, Lost, make_engine
from cgc_fast.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    CgcError,
    ClusterBusy,
    ClusterClosed,
    DecodeError,
    NonFiniteGradient,
    WorkerDied,
    unknown_name,
)
from cgc_fast.problems import Problem, ProblemTraits, check_problem
from cgc_fast.schedule import Schedule
from cgc_fast.worker import visits_of

__all__ = ["Block", "Cluster", "Delivery", "IterationReport"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Block:
    """A block of the gradient, complete.

    Attributes
    ----------
    coordinates : slice
        Which coordinates; `theta[block.coordinates]` are the parameters that they belong to.
    values : ndarray, float64
        The partial derivatives, summed over all samples. A read-only view of the gradient of this iteration.
    elapsed_s : float
        Seconds since the iteration began (virtual ones under the serial engine).
    workers : tuple of int
        Whose payloads were used.
    """

    coordinates: slice
    values: NDArray[np.float64]
    elapsed_s: float
    workers: tuple[int, ...]


@dataclass(frozen=True)
class Delivery:
    """A payload that arrived: which worker, which row of which cell, when it was begun and completed."""

    worker: int
    cell: int
    row: int
    began_s: float
    ended_s: float
    finite: bool


@dataclass
class IterationReport:
    """What happened in one iteration; times in seconds since it began."""

    iteration: int
    elapsed_s: float = 0.0
    deliveries: list[Delivery] = field(default_factory=list)
    decoded_s: dict[int, float] = field(default_factory=dict)  # cell -> when
    blocks_s: dict[int, float] = field(default_factory=dict)  # block -> when
    lost: list[int] = field(default_factory=list)


class Cluster:
    """Workers that compute exact gradients of a problem by a schedule.

    Parameters
    ----------
    schedule : Schedule
        Who computes what in which order; `plan.schedule()` makes one.
    problem : Problem
        The loss, a plain sum over samples. Each worker process holds a shard with only the samples it needs.
    engine : {"processes", "serial"}
        "processes": one process a worker on this machine. "serial": in this process, on a virtual clock.
    cycle_times : array_like (I, N), optional
        Drawn cycle times, in seconds per cycle, a row an iteration: the clock of "serial" (all 1 by default),
        emulated by "processes", whose workers then sleep so that their progress follows. Infinity: the worker
        never answers in that iteration. After I iterations the cluster refuses to go on.
    cycles_per_derivative : float
        b of the cost model, in cycles. Used with `cycle_times` only.
    forward_cycles : float, optional
        c of the cost model, in cycles; the problem's own by default, 0 if it names none.
    factory : callable, optional
        Called in each worker with its sample ranges (R, 2) to make its shard there, instead of sending it.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        Bad input; no process was started.
    WorkerDied
        A worker failed at its start; carries its traceback.

    Notes
    -----
    Use it in a ``with`` statement, or call `close`. One iteration runs at a time.
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
    ) -> None:
        if not isinstance(schedule, Schedule):
            raise ArgumentTypeError(
                f"schedule: expected a Schedule, as plan.schedule() makes, got {type(schedule).__name__}"
            )
        if engine not in ENGINES:
            raise unknown_name("engine", engine, ENGINES)
        traits = check_problem(problem)
        _check_fit(schedule, traits)
        if forward_cycles is None:
            forward_cycles = traits.forward_cycles
        self.schedule = schedule
        self.problem = problem
        self._cycle_times = _checked_cycle_times(cycle_times, schedule.workers)
        self._decoder = Decoder(schedule)
        samples = traits.samples
        arrival_cycles = schedule.arrival_cycles(samples, cycles_per_derivative, forward_cycles)
        job = Job(
            problem=problem,
            factory=factory,
            visits=[
                visits_of(schedule, worker, samples, arrival_cycles=arrival_cycles[worker])
                for worker in range(schedule.workers)
            ],
            sample_ranges=[schedule.sample_ranges(worker, samples) for worker in range(schedule.workers)],
        )
        self._busy = False
        self._closed = False
        self._iteration = 0
        self._tracebacks: dict[int, Lost] = {}
        self.last_report: IterationReport | None = None
        self._engine = make_engine(engine, job)
        self._finalizer = weakref.finalize(self, self._engine.close)

    def gradient(self, theta: ArrayLike) -> NDArray[np.float64]:
        """Compute the gradient of the whole loss at theta.

        Parameters
        ----------
        theta : array_like (L,)
            Finite; copied.

        Returns
        -------
        ndarray, float64 (L,)
            Σ over all samples, exact within the error norm of the codes in use. The caller owns it.

        Raises
        ------
        WorkerDied, NonFiniteGradient, NumericalError, DecodeError
            What is missing cannot come any more.
        """
        gradient = np.zeros(self.schedule.coordinates)
        for _ in self._iterate(self._checked_theta(theta), gradient):
            pass
        return gradient

    def stream(self, theta: ArrayLike) -> Iterator[Block]:
        """Compute the gradient and yield its blocks in the order in which they decode.

        Each coordinate comes exactly once. `theta` may be overwritten while streaming. Leaving the loop early
        ends the iteration.
        """
        self._require_free()  # now, not when the first block is asked for
        return self._iterate(self._checked_theta(theta), np.zeros(self.schedule.coordinates))

    def close(self) -> None:
        """Stop the workers and release everything; may be called twice."""
        self._closed = True
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

    def _iterate(self, theta: NDArray[np.float64], gradient: NDArray[np.float64]) -> Iterator[Block]:
        self._require_free()
        cycle_times = self._next_cycle_times()
        self._busy = True
        self._iteration += 1
        iteration = self._iteration
        decoder, engine = self._decoder, self._engine
        report = self.last_report = IterationReport(iteration)
        try:
            decoder.start(iteration, () if cycle_times is None else np.flatnonzero(np.isinf(cycle_times)))
            if decoder.failure is not None:
                raise self._error(decoder.failure)
            engine.start(iteration, theta, cycle_times, self._is_open)
            while not decoder.done:
                events = engine.wait()
                for event in events:
                    if isinstance(event, Lost):
                        self._take_loss(event, report)
                    else:
                        yield from self._take_delivery(event, gradient, report)
                if not decoder.done:
                    if decoder.failure is not None:
                        raise self._error(decoder.failure)
                    if not events:
                        raise DecodeError("no worker can deliver anything any more, but cells are still open")
            report.elapsed_s = engine.elapsed_s()
        finally:
            engine.finish(iteration)
            self._busy = False

    def _require_free(self) -> None:
        if self._closed:
            raise ClusterClosed("the cluster is closed: make a new one")
        if self._busy:
            raise ClusterBusy("an iteration is under way: finish it, or leave its loop, before the next")

    def _is_open(self, worker: int, visit: int) -> bool:
        return bool(self._decoder.open_cells[self.schedule.walks[worker].cells[visit]])

    def _take_loss(self, event: Lost, report: IterationReport) -> None:
        logger.warning("worker %d is gone, exit code %s", event.worker, event.exit_code)
        self._tracebacks[event.worker] = event
        report.lost.append(event.worker)
        self._decoder.lose(event.worker)

    def _take_delivery(
        self, event: Delivered, gradient: NDArray[np.float64], report: IterationReport
    ) -> Iterator[Block]:
        if event.iteration == report.iteration:
            walk = self.schedule.walks[event.worker]
            cell, row = int(walk.cells[event.visit]), int(walk.rows[event.visit])
            report.deliveries.append(
                Delivery(event.worker, cell, row, event.began_s, event.ended_s, event.finite)
            )
            if not event.finite:
                logger.warning("worker %d sent non-finite values for cell %d", event.worker, cell)
        for instruction in self._decoder.deliver(
            event.iteration, event.worker, event.visit, finite=event.finite
        ):
            now_s = self._engine.elapsed_s()
            if isinstance(instruction, DecodeCell):
                cell_ = self.schedule.cells[instruction.cell]
                weighted_sum(
                    [self._engine.payload(worker, visit) for worker, visit in instruction.sources],
                    instruction.vector,
                    gradient[cell_.start : cell_.stop],
                    True,
                )
                report.decoded_s[instruction.cell] = now_s
            else:
                start, stop = self.schedule.blocks[instruction.block]
                values = gradient[start:stop]
                if not all_finite(values):
                    raise NonFiniteGradient(
                        f"coordinates {start} to {stop}: the payloads are finite, their sum is not (overflow)"
                    )
                values = values.view()
                values.flags.writeable = False
                report.blocks_s[instruction.block] = now_s
                yield Block(slice(start, stop), values, now_s, instruction.workers)

    def _error(self, failure: Failure) -> CgcError:
        cell = self.schedule.cells[failure.cell]
        what = (
            f"coordinates {cell.start} to {cell.stop} cannot be decoded: {failure.required_rows} rows are "
            f"needed, {failure.available_rows} can come"
        )
        if failure.lost:
            lost = self._tracebacks[failure.lost[-1]]
            return WorkerDied(
                f"worker {lost.worker} is gone (exit code {lost.exit_code}) and {what}; "
                f"gone so far: {', '.join(map(str, sorted(self._decoder.lost)))}. "
                "A plan with min_redundancy survives more."
                + (f"\nIts traceback:\n{lost.traceback}" if lost.traceback else ""),
                lost.worker,
                lost.exit_code,
                lost.traceback,
            )
        if failure.rejected:
            return NonFiniteGradient(
                f"worker(s) {', '.join(map(str, failure.rejected))} sent NaN or infinity, and {what}"
            )
        if failure.refused is not None:
            return failure.refused
        return DecodeError(
            f"{what}; worker(s) {', '.join(map(str, failure.silent))} never answer in this iteration "
            "(infinite cycle time). A plan with min_redundancy survives more."
        )

    def _checked_theta(self, theta: ArrayLike) -> NDArray[np.float64]:
        array = np.asarray(theta)
        if array.dtype.kind not in "fiu":
            raise ArgumentTypeError(f"theta: expected real numbers, got dtype {array.dtype}")
        if array.shape != (self.schedule.coordinates,):
            raise ArgumentValueError(
                f"theta: expected shape ({self.schedule.coordinates},), got {array.shape}"
            )
        values = np.ascontiguousarray(array, dtype=np.float64)
        if not all_finite(values):
            bad = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ArgumentValueError(f"theta: expected finite values, got {values[bad]} at coordinate {bad}")
        return values

    def _next_cycle_times(self) -> NDArray[np.float64] | None:
        if self._cycle_times is None:
            return None
        if self._iteration >= len(self._cycle_times):
            raise ArgumentValueError(
                f"cycle_times: has {len(self._cycle_times)} rows, all used; iteration "
                f"{self._iteration + 1} has none. Pass a row an iteration."
            )
        row: NDArray[np.float64] = self._cycle_times[self._iteration]
        return row


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
    if schedule.feedback != "none":
        raise ArgumentValueError(
            f"schedule: expected feedback 'none', got {schedule.feedback!r}, which is simulated only so far"
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
            if (np.diff(starts) < 0).any():
                raise ArgumentValueError(
                    f"schedule: worker {worker} walks back to lower coordinates, but the problem is "
                    "sequential; pass sequential=True to plan"
                )
