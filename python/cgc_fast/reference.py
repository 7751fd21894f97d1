"""Slow NumPy twins of the compiled kernels: the specification in executable form.

Used by tests and benches only; nothing in the package imports this module. Each function says which kernel
it is the twin of, and is written for reading, not for speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# --- block sizes: projection, rounding, runtimes, subgradient -----------------------------------------

# --- codes and weighted sums --------------------------------------------------------------------------

# --- generalised linear models ------------------------------------------------------------------------

# --- schedules and simulation -------------------------------------------------------------------------


def _slabs(schedule: Any) -> tuple[NDArray[np.float64], Callable[[int, int], NDArray[np.bool_]]]:
    """Cut the samples at the bounds of all parts of all cells.

    Returns the heights of the slabs, and a function that marks those in the support of (cell, row).
    """

    def bounds(cell: Any) -> list[float]:
        inner = [cell.low + (cell.high - cell.low) * j / cell.code.parts for j in range(cell.code.parts)]
        return [*inner, cell.high]

    cuts = np.array(sorted({0.0, 1.0, *(bound for cell in schedule.cells for bound in bounds(cell))}))

    def support(index: int, row: int) -> NDArray[np.bool_]:
        cell = schedule.cells[index]
        mask = np.zeros(cuts.size - 1, dtype=bool)
        for part in cell.code.support_parts(row):
            low, high = bounds(cell)[part : part + 2]
            mask |= (low <= cuts[:-1]) & (cuts[1:] <= high)
        return mask

    return np.diff(cuts), support


def arrival_cycles(
    schedule: Any, samples: float = 1.0, cycles_per_derivative: float = 1.0, forward_cycles: float = 0.0
) -> list[NDArray[np.float64]]:
    """Twin of `CompiledSchedule::arrival_cycles`: cumulative cycles (V_w,) of each worker along its walk."""
    heights, support = _slabs(schedule)
    result = []
    for walk in schedule.walks:
        touched = np.zeros(heights.size, dtype=bool)
        cycles = []
        for cell, row in zip(walk.cells, walk.rows, strict=True):
            mask = support(cell, row)
            width = schedule.cells[cell].width
            cycles.append(
                samples * heights[mask].sum() * cycles_per_derivative * width
                + forward_cycles * samples * heights[mask & ~touched].sum()
            )
            touched |= mask
        result.append(np.cumsum(cycles))
    return result


def simulate(
    schedule: Any,
    cycle_times: NDArray[np.float64],
    delays: NDArray[np.float64],
    *,
    samples: float = 1.0,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
    latency: float = 0.0,
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Twin of `simulate`, for one draw: cycle times (N,) and delays (N,).

    Returns the runtime, decode times (C,) and values sent (N,).
    """
    cost = (samples, cycles_per_derivative, forward_cycles)
    if schedule.feedback == "announce":
        return _simulate_announcements(schedule, cycle_times, delays, cost, latency)
    if schedule.feedback == "claim":
        return _simulate_claims(schedule, cycle_times, delays, cost, latency)

    finish = [
        np.where(cycles == 0.0, 0.0, time) * cycles  # 0 * inf = 0
        for time, cycles in zip(cycle_times, arrival_cycles(schedule, *cost), strict=True)
    ]
    decode_times = np.zeros(len(schedule.cells))
    for index, cell in enumerate(schedule.cells):
        if cell.is_empty:
            continue
        earliest = np.full(cell.code.rows, np.inf)
        for walk, times, delay in zip(schedule.walks, finish, delays, strict=True):
            here = walk.cells == index
            np.minimum.at(earliest, walk.rows[here], times[here] + delay)
        decode_times[index] = np.sort(earliest)[cell.code.required_rows - 1]
    runtime = float(decode_times.max())
    widths = np.array([cell.width for cell in schedule.cells])
    values_sent = np.array(
        [
            widths[walk.cells][(times <= runtime) & np.isfinite(times)].sum()
            for walk, times in zip(schedule.walks, finish, strict=True)
        ],
        dtype=np.float64,
    )
    return runtime, decode_times, values_sent


class _Worker:
    """Where one worker is on its walk, for simulations with feedback."""

    def __init__(self, schedule: Any, walk: Any, cycle_time: float, cost: tuple[float, float, float]) -> None:
        self.heights, self.support = _slabs(schedule)
        self.touched = np.zeros(self.heights.size, dtype=bool)
        self.cells = schedule.cells
        self.visits = list(zip(walk.cells.tolist(), walk.rows.tolist(), strict=True))
        self.cycle_time = cycle_time
        self.cost = cost
        self.cell: int | None = None  # under way, with its row and when it will be finished
        self.row = 0
        self.finish = np.inf

    def start(self, visit: tuple[int, int], now: float) -> None:
        self.cell, self.row = visit
        samples, cycles_per_derivative, forward_cycles = self.cost
        mask = self.support(*visit)
        cycles = (
            samples * self.heights[mask].sum() * cycles_per_derivative * self.cells[self.cell].width
            + forward_cycles * samples * self.heights[mask & ~self.touched].sum()
        )
        self.touched |= mask
        self.finish = now + (self.cycle_time * cycles if cycles else 0.0)

    def stop(self) -> None:
        self.cell, self.finish = None, np.inf


def _simulate_announcements(
    schedule: Any,
    cycle_times: NDArray[np.float64],
    delays: NDArray[np.float64],
    cost: tuple[float, float, float],
    latency: float,
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """At one instant messages arrive first, then announcements, then visits are finished, one by one."""
    workers = [_Worker(schedule, walk, t, cost) for walk, t in zip(schedule.walks, cycle_times, strict=True)]
    filled = [not cell.is_empty for cell in schedule.cells]
    decode_times = np.where(filled, np.inf, 0.0)
    rows: list[set[int]] = [set() for _ in schedule.cells]
    messages: list[tuple[float, int, int]] = []  # arrival, cell, row
    announcements: list[tuple[float, int]] = []  # arrival, cell
    known: set[int] = set()
    values_sent = np.zeros(len(workers))

    def go_on(worker: _Worker, now: float) -> None:
        worker.stop()
        while worker.visits and worker.visits[0][0] in known:
            worker.visits.pop(0)
        if worker.visits:
            worker.start(worker.visits.pop(0), now)

    for worker in workers:
        go_on(worker, 0.0)
    while True:
        message = min(messages, default=(np.inf, -1, -1))
        announcement = min(announcements, default=(np.inf, -1))
        first = min(range(len(workers)), key=lambda index: workers[index].finish)
        now = min(message[0], announcement[0], workers[first].finish)
        if now == np.inf or now > decode_times.max():
            return float(decode_times.max()), decode_times, values_sent
        if message[0] == now:
            messages.remove(message)
            _, cell, row = message
            rows[cell].add(row)
            if decode_times[cell] == np.inf and len(rows[cell]) == schedule.cells[cell].code.required_rows:
                decode_times[cell] = now
                announcements.append((now + latency, cell))
        elif announcement[0] == now:
            announcements.remove(announcement)
            known.add(announcement[1])
            for worker in workers:
                if worker.cell == announcement[1]:
                    go_on(worker, now)
        else:
            worker = workers[first]
            assert worker.cell is not None
            values_sent[first] += schedule.cells[worker.cell].width
            messages.append((now + delays[first], worker.cell, worker.row))
            go_on(worker, now)


def _simulate_claims(
    schedule: Any,
    cycle_times: NDArray[np.float64],
    delays: NDArray[np.float64],
    cost: tuple[float, float, float],
    latency: float,
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """At one instant notices of commitments arrive first, then workers finish visits, in their order."""
    workers = [_Worker(schedule, walk, t, cost) for walk, t in zip(schedule.walks, cycle_times, strict=True)]
    claims = [0] * len(schedule.cells)
    owner: dict[int, int] = {}  # committed cell -> worker
    notices: list[tuple[float, int]] = []
    sent = np.full(len(workers), np.inf)

    def ask(index: int, now: float) -> None:
        worker = workers[index]
        worker.stop()
        open_visits = [visit for visit in worker.visits if visit[0] not in owner]
        if not open_visits:
            sent[index] = now + latency
            return
        visit = next((v for v in open_visits if claims[v[0]] == 0), None)
        if visit is None:
            visit = min(open_visits, key=lambda v: claims[v[0]])  # the first of those that tie
        claims[visit[0]] += 1
        worker.start(visit, now + latency)

    for index in range(len(workers)):
        ask(index, 0.0)
    while True:
        notice = min(notices, default=None)
        first = min(range(len(workers)), key=lambda index: workers[index].finish)
        if notice is not None and notice[0] <= workers[first].finish:
            notices.remove(notice)
            for index, worker in enumerate(workers):
                if worker.cell == notice[1]:
                    ask(index, notice[0])
        elif workers[first].finish < np.inf:
            now, cell = workers[first].finish, workers[first].cell
            assert cell is not None
            if cell not in owner:
                owner[cell] = first
                notices.append((now + latency, cell))
            ask(first, now)
        else:
            break

    decode_times = np.array(
        [
            0.0 if tile.is_empty else sent[owner[cell]] + delays[owner[cell]] if cell in owner else np.inf
            for cell, tile in enumerate(schedule.cells)
        ]
    )
    runtime = float(decode_times.max())
    values_sent = np.zeros(len(workers))
    for index in range(len(workers)):
        ranges = {
            (schedule.cells[cell].start, schedule.cells[cell].stop)
            for cell, worker in owner.items()
            if worker == index
        }
        if sent[index] <= runtime and sent[index] < np.inf:
            values_sent[index] = sum(stop - start for start, stop in ranges)
    return runtime, decode_times, values_sent
