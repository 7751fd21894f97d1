"""What happened: in one iteration, and to each worker over all of them; the event log."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cgc_fast.errors import ArgumentTypeError, ArgumentValueError
from cgc_fast.feedback_worker import Touched
from cgc_fast.schedule import Feedback, Schedule
from cgc_fast.supervisor import State
from cgc_fast.worker import Visit

__all__ = [
    "Delivery",
    "EventLog",
    "Health",
    "IterationReport",
    "LoggedCell",
    "LoggedSchedule",
    "MeasuredTimes",
    "MeasuredVisits",
    "Record",
    "WorkerEvent",
    "WorkerHealth",
    "read_events",
]

# Iterations whose cycle times are kept for `Cluster.trace`, and those that say how fast a worker is now.
_MOST_ITERATIONS = 10_000
_RECENT = 20
# A worker is named slow if it takes so many times the median worker's time per cycle.
SLOW = 1.5


class Delivery(NamedTuple):
    """A payload that arrived: which worker, which row of which cell, when it was begun and completed."""

    worker: int
    cell: int
    row: int
    began_s: float
    ended_s: float
    finite: bool


@dataclass(frozen=True)
class WorkerEvent:
    """Something out of the ordinary, `at_s` seconds after the iteration began.

    `what` is one of "lost", "ready" (a successor is there), "suspected", "killed", "rescue" (it visits rows
    in the place of others), "non-finite". `rows`: how many it was told to visit.
    """

    at_s: float
    worker: int
    what: str
    detail: str = ""
    rows: int = 0


class Record(NamedTuple):
    """What the compiled core took down of an iteration; moments in nanoseconds of CLOCK_MONOTONIC.

    Attributes
    ----------
    arrivals : ndarray of int64 (A, 6)
        In their order: iteration, worker, slot, whether finite, when it was begun and completed.
    decoded_ns : ndarray of int64 (C,)
        When each cell was decoded; 0: not.
    blocks_ns : ndarray of int64 (B,)
        When each block was complete; 0: not.
    began_ns : int
    row_offsets : ndarray of int64 (C + 1,)
        First slot of each cell.
    """

    arrivals: NDArray[np.int64]
    decoded_ns: NDArray[np.int64]
    blocks_ns: NDArray[np.int64]
    began_ns: int
    row_offsets: NDArray[np.int64]

    def deliveries(self, iteration: int) -> list[Delivery]:
        """Payloads of this iteration."""
        cells = np.searchsorted(self.row_offsets, self.arrivals[:, 2], side="right") - 1
        rows = self.arrivals[:, 2] - self.row_offsets[cells]
        return [
            Delivery(worker, cell, row, self.seconds(began_ns), self.seconds(ended_ns), bool(finite))
            for (of, worker, _, finite, began_ns, ended_ns), cell, row in zip(
                self.arrivals.tolist(), cells.tolist(), rows.tolist(), strict=True
            )
            if of == iteration
        ]

    def decoded_s(self) -> dict[int, float]:
        """Cell -> when it was decoded, in that order."""
        return self._moments(self.decoded_ns)

    def blocks_s(self) -> dict[int, float]:
        """Block -> when it was complete, in that order."""
        return self._moments(self.blocks_ns)

    def seconds(self, moment_ns: int) -> float:
        """Since the iteration began."""
        return 1e-9 * (moment_ns - self.began_ns)

    def _moments(self, moments_ns: NDArray[np.int64]) -> dict[int, float]:
        known = np.flatnonzero(moments_ns)
        known = known[np.argsort(moments_ns[known], kind="stable")]
        return {i: self.seconds(ns) for i, ns in zip(known.tolist(), moments_ns[known].tolist(), strict=True)}


@dataclass
class IterationReport:
    """What happened in one iteration; times in seconds since it began.

    `compiled`: whether the compiled core alone carried it out, because nothing unusual happened.
    """

    iteration: int
    elapsed_s: float = 0.0
    complete: bool = False
    deliveries: list[Delivery] = field(default_factory=list)
    decoded_s: dict[int, float] = field(default_factory=dict)  # cell -> when
    blocks_s: dict[int, float] = field(default_factory=dict)  # block -> when
    events: list[WorkerEvent] = field(default_factory=list)
    # Of a report that was read from a log: by which schedule.
    schedule: LoggedSchedule | None = field(default=None, compare=False, repr=False)
    compiled: bool = field(default=False, compare=False)
    _record: Record | Callable[[], Record | None] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    @property
    def lost(self) -> list[int]:
        """Workers that were lost, in order."""
        return [event.worker for event in self.events if event.what == "lost"]

    @classmethod
    def of_record(cls, iteration: int, record: Callable[[], Record | None]) -> IterationReport:
        """Report what the compiled core takes down, read from its record as late as somebody looks.

        `record` may answer None: not now. `close_record` has the last word.
        """
        report = object.__new__(cls)
        report.iteration, report.elapsed_s, report.complete, report.compiled = iteration, 0.0, False, True
        report.events = []
        report._record = record
        return report

    def leave_record(self) -> None:
        """Begin anew without a record, which somebody else goes through."""
        self._record, self.compiled = None, False
        self.deliveries, self.decoded_s, self.blocks_s = [], {}, {}

    def close_record(self, record: Record) -> None:
        """Take the record as it is now for the last one."""
        self._record = record

    def __getattr__(self, name: str) -> Any:
        # Only what `of_record` left out comes here.
        record = self.__dict__.get("_record")
        if record is None or name not in ("deliveries", "decoded_s", "blocks_s"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if isinstance(record, Record):
            self.deliveries = record.deliveries(self.iteration)
            self.decoded_s, self.blocks_s = record.decoded_s(), record.blocks_s()
            self._record = None
            return self.__dict__[name]
        so_far = record()  # the iteration is under way: nothing of it is kept
        if so_far is None:
            return [] if name == "deliveries" else {}
        return so_far.deliveries(self.iteration) if name == "deliveries" else getattr(so_far, name)()

    def __getstate__(self) -> dict[str, Any]:
        made = {name: getattr(self, name) for name in ("deliveries", "decoded_s", "blocks_s")}
        return {**self.__dict__, **made, "_record": None}


@dataclass(frozen=True)
class WorkerHealth:
    """One worker.

    Attributes
    ----------
    worker : int
    state : {"ready", "suspected", "starting", "given up"}
    process_id : int or None
        Of the operating system, where a worker is a process on this machine.
    cycle_time_s : float
        Seconds per cycle, the median of the last iterations; NaN if nothing was measured.
    relative_time : float
        The same relative to the median worker.
    delivered, abandoned, non_finite : int
        Payloads: handed over; of its walk, not needed any more when the iteration ended; with NaN.
    deaths, suspicions : int
        How often it died, or was silent for too long.
    """

    worker: int
    state: State
    process_id: int | None
    cycle_time_s: float
    relative_time: float
    delivered: int
    abandoned: int
    non_finite: int
    deaths: int
    suspicions: int


@dataclass(frozen=True)
class Health:
    """All workers; prints as a table."""

    workers: tuple[WorkerHealth, ...]

    @property
    def slow(self) -> tuple[int, ...]:
        """Workers that take more than 1.5 times the median worker's time per cycle."""
        return tuple(w.worker for w in self.workers if w.relative_time > SLOW)

    def __str__(self) -> str:
        lines = [
            f"{'worker':>6}  {'state':<9}  {'s/cycle':>9}  {'x median':>8}  {'delivered':>9}  "
            f"{'abandoned':>9}  {'non-finite':>10}  {'deaths':>6}"
        ]
        for w in self.workers:
            lines.append(
                f"{w.worker:>6}  {w.state:<9}  {w.cycle_time_s:>9.3g}  {w.relative_time:>8.2f}  "
                f"{w.delivered:>9}  {w.abandoned:>9}  {w.non_finite:>10}  {w.deaths:>6}"
                + ("  slow" if w.relative_time > SLOW else "")
            )
        return "\n".join(lines)


# Cycle times, and which of them are bounds.
_Row = tuple[Sequence[float] | NDArray[np.float64], Sequence[bool] | NDArray[np.bool_]]


class EndedIterations(NamedTuple):
    """Iterations that the compiled core carried out, in their order; moments of CLOCK_MONOTONIC.

    Attributes
    ----------
    began_ns, elapsed_ns : ndarray of int64 (E,)
    delivered : ndarray of int64 (E, N)
        So many visits of its walk each worker has delivered.
    last_ended_ns : ndarray of int64 (E, N)
        When the last of them was complete.
    """

    began_ns: NDArray[np.int64]
    elapsed_ns: NDArray[np.int64]
    delivered: NDArray[np.int64]
    last_ended_ns: NDArray[np.int64]

    @classmethod
    def of(cls, rows: NDArray[np.int64]) -> EndedIterations:
        """Name the columns of `Collector.take_ended`."""
        workers = (rows.shape[1] - 2) // 2
        return cls(rows[:, 0], rows[:, 1], rows[:, 2 : 2 + workers], rows[:, 2 + workers :])


class MeasuredTimes:
    """Cycle times of the workers, an iteration a row, as far as their deliveries tell.

    Parameters
    ----------
    arrival_cycles : sequence of dict
        Of each worker, slot -> cycles that it has done when it delivers that row of its walk.
    """

    def __init__(self, arrival_cycles: Sequence[dict[int, float]]) -> None:
        self._arrival_cycles = arrival_cycles
        # The same by how many visits are delivered, as an array: 0 before the first.
        self._cycles_done = np.zeros((len(arrival_cycles), 1 + max(map(len, arrival_cycles), default=0)))
        for done, mine in zip(self._cycles_done, arrival_cycles, strict=True):
            done[1 : 1 + len(mine)] = list(mine.values())
        self._everybody = np.arange(len(arrival_cycles))
        self._most = np.array([len(mine) for mine in arrival_cycles])
        self._first_cycles = [
            min((c for c in mine.values() if c > 0), default=math.inf) for mine in arrival_cycles
        ]
        self._first = np.array(self._first_cycles)
        self._rows: deque[_Row] = deque(maxlen=_MOST_ITERATIONS)
        self._now: list[float | None] = [None] * len(arrival_cycles)
        # What a worker was ordered to visit besides, slot -> cycles; and the cycles of what it did of that.
        self._orders: list[dict[int, float]] = [{} for _ in arrival_cycles]
        self._besides = [0.0] * len(arrival_cycles)

    def go_on_from(self, other: MeasuredTimes) -> None:
        """Take over the rows of another schedule: seconds per cycle mean the same under every one."""
        self._rows.extend(other._rows)

    def begin(self) -> None:
        """Begin a new row."""
        self._now = [None] * len(self._now)
        self._besides = [0.0] * len(self._now)
        for orders in self._orders:
            orders.clear()

    def ordered(self, worker: int, cycles: dict[int, float]) -> None:
        """Take note that a worker visits these rows besides, slot -> cycles, before the rest of its walk."""
        self._orders[worker].update(cycles)

    def delivered(self, worker: int, slot: int, ended_s: float) -> None:
        """Take note of a delivery. One that was ordered only adds to the work: it may have come late."""
        if slot in self._orders[worker]:
            self._besides[worker] += self._orders[worker][slot]
            return
        cycles = self._arrival_cycles[worker].get(slot, 0.0)
        if cycles > 0 and ended_s > 0:
            self._now[worker] = ended_s / (cycles + self._besides[worker])

    def finish(self, elapsed_s: float) -> None:
        """End the row: who delivered nothing took longer than the iteration for its first visit."""
        if elapsed_s <= 0:
            return
        times = [
            self._tried_s(worker, elapsed_s) / (first + sum(orders.values())) if now is None else now
            for worker, (now, first, orders) in enumerate(
                zip(self._now, self._first_cycles, self._orders, strict=True)
            )
        ]
        # A worker without any work took longer than nothing.
        self._rows.append((tuple(times), tuple([now is None for now in self._now])))

    def walked(self, ended: EndedIterations) -> None:
        """Add a row for each iteration in which workers did their walks and nothing else."""
        known = ended.delivered.any(axis=1)
        delivered = ended.delivered[known]
        cycles = self._cycles_done[self._everybody, np.minimum(delivered, self._most)]
        unknown = cycles == 0
        times = 1e-9 * ended.elapsed_ns[known, None] / self._first
        taken_s = 1e-9 * (ended.last_ended_ns - ended.began_ns[:, None])[known]
        np.divide(taken_s, cycles, out=times, where=~unknown)
        self._rows.extend(zip(times, unknown, strict=True))

    def _tried_s(self, worker: int, elapsed_s: float) -> float:
        """For how long a worker that delivered nothing was at its first visit."""
        return elapsed_s

    def table(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Times (I, N) in seconds per cycle, and where "longer than that" is all that is known."""
        rows = list(self._rows)  # another thread may add to them
        if not rows:
            raise ArgumentValueError("trace: no iteration has been measured yet; compute a gradient first")
        return np.array([times for times, _ in rows]), np.array([marks for _, marks in rows])

    def recent(self) -> NDArray[np.float64]:
        """Median of the last iterations (N,), NaN where nothing was measured."""
        rows = [
            np.where(censored, np.nan, times)
            for times, censored in (self._rows[i] for i in range(-min(_RECENT, len(self._rows)), 0))
        ]
        medians = np.full(len(self._now), np.nan)
        if rows:
            table = np.stack(rows)
            for worker in np.flatnonzero(~np.isnan(table).all(axis=0)):
                medians[worker] = np.nanmedian(table[:, worker])
        return medians


class MeasuredVisits(MeasuredTimes):
    """Cycle times where workers learn of each other, from what each visit took.

    There, what a worker has done by a delivery does not follow from its walk. What it did at visits that it
    dropped is in neither, the time or the work.

    Parameters
    ----------
    walks : sequence of sequence of Visit
        Of each worker.
    """

    def __init__(self, walks: Sequence[Sequence[Visit]]) -> None:
        super().__init__([{v.slot: v.arrival_cycles for v in walk[:1]} for walk in walks])
        self._first_cells = [walk[0].cell if walk else None for walk in walks]
        self.begin()

    def begin(self) -> None:
        """Begin a new row."""
        super().begin()
        count = len(self._first_cells)
        self._touched = [Touched() for _ in range(count)]
        self._work = [(0.0, 0.0)] * count  # seconds, cycles
        self._ended_s: dict[int, float] = {}  # cell -> when it was done

    def visited(self, worker: int, visit: Visit, began_s: float, ended_s: float) -> None:
        """Take note of a visit that was made to its end."""
        self._ended_s[visit.cell] = ended_s
        seconds, cycles = self._work[worker]
        seconds += ended_s - began_s
        new = self._touched[worker].touch(visit.spans)
        cycles += visit.cycles + visit.forward_cycles_of(new)
        self._work[worker] = seconds, cycles
        if seconds > 0 and cycles > 0:
            self._now[worker] = seconds / cycles

    def _tried_s(self, worker: int, elapsed_s: float) -> float:
        cell = self._first_cells[worker]  # left when another had done it
        return elapsed_s if cell is None else min(elapsed_s, self._ended_s.get(cell, elapsed_s))


@dataclass(frozen=True)
class LoggedCell:
    """A cell as the event log has it: coordinates [start, stop), samples [low, high) as fractions of all."""

    start: int
    stop: int
    low: float
    high: float
    rows: int
    required_rows: int
    tolerance: int


@dataclass(frozen=True)
class LoggedSchedule:
    """What is logged of a schedule.

    Attributes
    ----------
    workers, coordinates : int
        N and L.
    cells : tuple of LoggedCell
    visits : tuple of int
        Rows in the walk of each worker.
    feedback : {"none", "announce", "claim"}
        What workers learn of each other. If anything, they leave out what others have done.
    """

    workers: int
    coordinates: int
    cells: tuple[LoggedCell, ...]
    visits: tuple[int, ...]
    feedback: Feedback = "none"

    @classmethod
    def of(cls, schedule: Schedule) -> LoggedSchedule:
        """Take from a schedule what is logged of it."""
        cells = tuple(
            LoggedCell(
                cell.start,
                cell.stop,
                float(cell.low),
                float(cell.high),
                cell.code.rows,
                cell.code.required_rows,
                schedule.tolerance(index),
            )
            for index, cell in enumerate(schedule.cells)
        )
        visits = tuple(len(walk.cells) for walk in schedule.walks)
        return cls(schedule.workers, schedule.coordinates, cells, visits, schedule.feedback)


class EventLog:
    """Write what happens as JSON lines: the schedule, then a line an iteration, flushed at once.

    Parameters
    ----------
    target : path or text file
        Where to; a file is left open.
    schedule : Schedule

    Raises
    ------
    ArgumentTypeError
        `target` is neither.
    OSError
        The file cannot be opened.
    """

    def __init__(self, target: str | os.PathLike[str] | IO[str], schedule: Schedule) -> None:
        self._own = isinstance(target, (str, os.PathLike))
        self._file: Any = target
        if isinstance(target, (str, os.PathLike)):
            self._file = open(target, "w", encoding="utf-8")  # noqa: SIM115 - closed by `close`
        elif not (hasattr(target, "write") and hasattr(target, "flush")):
            raise ArgumentTypeError(f"events: expected a path or a text file, got {type(target).__name__}")
        self.schedule(schedule)

    def schedule(self, schedule: Schedule) -> None:
        """Write the schedule of the iterations that follow."""
        self._write({"event": "schedule", **asdict(LoggedSchedule.of(schedule))})

    def iteration(self, report: IterationReport) -> None:
        """Write one iteration."""
        self._write(
            {
                "event": "iteration",
                "iteration": report.iteration,
                "elapsed_s": report.elapsed_s,
                "complete": report.complete,
                "deliveries": [list(delivery) for delivery in report.deliveries],
                "decoded_s": {str(cell): at_s for cell, at_s in report.decoded_s.items()},
                "blocks_s": {str(block): at_s for block, at_s in report.blocks_s.items()},
                "workers": [asdict(event) for event in report.events],
            }
        )

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self._own:
            self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n")
        self._file.flush()


def read_events(path: str | os.PathLike[str]) -> tuple[LoggedSchedule, Iterator[IterationReport]]:
    """Read an event log: the schedule, and the iterations one by one.

    The last line of a master that was killed may be cut off: the log then ends before it, with a warning.

    Parameters
    ----------
    path : path
        Of what `Cluster` wrote with ``events=``.

    Returns
    -------
    LoggedSchedule
        The first one, if `Cluster.replan` changed it; each report has its own as `schedule`.
    iterator of IterationReport
        As they were, in their order; reads on as it is asked for more.

    Raises
    ------
    ArgumentValueError
        The file is no event log; while iterating: a line before the last is none.
    OSError
        It cannot be read.
    """
    name = os.fspath(path)

    def lines() -> Iterator[tuple[int, dict[str, Any]]]:
        with open(path, "rb") as file:
            for number, text in enumerate(file, 1):
                try:
                    line = json.loads(text)
                    line["event"]
                except (ValueError, KeyError, TypeError):
                    if number > 1 and not text.endswith(b"\n"):
                        warnings.warn(
                            f"{name}, line {number}: cut off in the middle; the log is read up to there",
                            stacklevel=3,
                        )
                        return
                    raise _no_event(name, number) from None
                yield number, line

    found = lines()
    empty: tuple[int, dict[str, Any]] = (1, {"event": ""})
    number, first = next(found, empty)
    if first["event"] != "schedule":
        raise ArgumentValueError(f"{name}: expected an event log, which begins with its schedule")
    schedule = _logged_schedule(first, name, number)

    def iterations() -> Iterator[IterationReport]:
        current = schedule
        for number, line in found:
            if line["event"] == "schedule":
                current = _logged_schedule(line, name, number)
            if line["event"] != "iteration":
                continue
            try:
                report = IterationReport(
                    iteration=line["iteration"],
                    elapsed_s=line["elapsed_s"],
                    complete=line["complete"],
                    deliveries=[Delivery(*entry) for entry in line["deliveries"]],
                    decoded_s={int(cell): at_s for cell, at_s in line["decoded_s"].items()},
                    blocks_s={int(block): at_s for block, at_s in line["blocks_s"].items()},
                    events=[WorkerEvent(**entry) for entry in line["workers"]],
                    schedule=current,
                )
            except (KeyError, TypeError, ValueError, AttributeError):
                raise _no_event(name, number) from None
            yield report

    return schedule, iterations()


def _logged_schedule(line: dict[str, Any], name: str, number: int) -> LoggedSchedule:
    try:
        return LoggedSchedule(
            line["workers"],
            line["coordinates"],
            tuple(LoggedCell(**cell) for cell in line["cells"]),
            tuple(line["visits"]),
            line.get("feedback", "none"),
        )
    except (KeyError, TypeError):
        raise _no_event(name, number) from None


def _no_event(name: str, number: int) -> ArgumentValueError:
    return ArgumentValueError(
        f"{name}, line {number}: expected an event as JSON, as Cluster(events=...) writes it"
    )
