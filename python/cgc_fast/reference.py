"""Slow NumPy twins of the compiled kernels: the specification in executable form.

Used by tests and benches only; nothing in the package imports this module. Each function says which kernel
it is the twin of, and is written for reading, not for speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

# --- block sizes: projection, rounding, runtimes, subgradient -----------------------------------------


def project_onto_simplex(point: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    """Twin of `_core.project_onto_simplex`: max(0, v - threshold) for the threshold that gives the sum."""
    descending = np.sort(point)[::-1]
    candidates = (np.cumsum(descending) - total) / np.arange(1, len(point) + 1)
    threshold = candidates[np.flatnonzero(descending > candidates)[-1]]
    projected: NDArray[np.float64] = np.maximum(point - threshold, 0.0)
    return projected


def level_runtimes(times: NDArray[np.float64], cycles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twin of `_core.level_runtimes`: levels with 0 cycles are done at 0, whatever their time."""
    used = cycles > 0
    latest: NDArray[np.float64] = (times[:, used] * cycles[used]).max(axis=1, initial=0.0)
    return latest


def group_times(
    times: NDArray[np.float64], groups: NDArray[np.int64], cycles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Twin of `_core.group_times`: the slowest group's fastest member, per draw and level."""
    workers = times.shape[1]
    done = np.zeros((len(times), len(groups)))
    for k, count in enumerate(groups):
        spent = np.where(cycles[k] > 0, times, 1.0) * cycles[k]
        group_of = [worker * int(count) // workers for worker in range(workers)]
        for group in range(int(count)):
            members = [worker for worker in range(workers) if group_of[worker] == group]
            done[:, k] = np.maximum(done[:, k], spent[:, members].min(axis=1))
    return done


def subgradient_iterations(
    times: NDArray[np.float64],
    work: NDArray[np.float64],
    start: NDArray[np.float64],
    batch: int,
    step: float,
    power: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Twin of the first `_core.SubgradientIterations.run`, averaging: last iterate, average, history."""
    total, iterate = start.sum(), start
    iterates, history = [], []
    for first in range(0, len(times) - batch + 1, batch):
        draws = times[first : first + batch]
        level_times = draws * np.cumsum(work * iterate)
        last = level_times.argmax(axis=1)
        history.append(level_times.max(axis=1).mean())
        subgradients = [
            draw[k] * work * (np.arange(len(work)) <= k) for draw, k in zip(draws, last, strict=True)
        ]
        length = step * total**2 / history[0] / len(history) ** power
        iterate = project_onto_simplex(iterate - length * np.mean(subgradients, axis=0), total)
        iterates.append(iterate)
    return iterate, np.mean(iterates, axis=0), np.array(history)


def coordinate_runtime(
    redundancy: NDArray[np.int64],
    times: NDArray[np.float64],
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
) -> NDArray[np.float64]:
    """Runtime (S,) in the coordinate view: coordinates one by one, in the order given [WANG22].

    Coordinate l is there when N - s_l workers have delivered it; each has by then computed
    sum_{i <= l} (s_i + 1) parts of partial derivatives and touched max_{i <= l} (s_i + 1) parts (cyclic
    supports are nested).
    """
    workers = times.shape[1]
    ordered = np.sort(times, axis=1)
    parts, touched, latest = 0, 0, np.zeros(len(times))
    for s in redundancy:
        parts += s + 1
        touched = max(touched, s + 1)
        cycles = samples / workers * (cycles_per_derivative * parts + forward_cycles * touched)
        latest = np.maximum(latest, ordered[:, workers - 1 - s] * cycles)
    return latest


# --- codes and weighted sums --------------------------------------------------------------------------


def cyclic_matrix(null_matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Encoding matrix B (N, N) that H (s, N) determines: twin of `_core.cyclic_coefficients`.

    Row w is the right singular vector of H[:, w..w+s] that belongs to no singular value, non-negative on w.
    """
    redundancy, workers = null_matrix.shape
    matrix = np.zeros((workers, workers))
    for w in range(workers):
        parts = (w + np.arange(redundancy + 1)) % workers
        null_vector = np.linalg.svd(null_matrix[:, parts])[2][-1] if redundancy else np.ones(1)
        matrix[w, parts] = np.copysign(1.0, null_vector[0]) * null_vector
    return matrix


def decoding_vector(matrix: NDArray[np.float64], rows: NDArray[np.int64], rank: int) -> NDArray[np.float64]:
    """Shortest a (k,) with aᵀ B[rows] = 1ᵀ, B (N, N) of the given rank: twin of `_core.CyclicDecoder.decode`.

    Only the leading singular directions of B are solved for: rounding errors of B do not count as rank.
    """
    row_space = np.linalg.svd(matrix)[2][:rank]
    system = (matrix[rows] @ row_space.T).T
    solution: NDArray[np.float64] = np.linalg.lstsq(system, row_space.sum(axis=1), rcond=None)[0]
    return solution


def predicted_error(
    matrix: NDArray[np.float64], vector: NDArray[np.float64], redundancy: int, single: bool = False
) -> float:
    """Twin of `_core.CyclicDecoder.predicted_error`, for the rows `matrix` (k, N) and `vector` (k,)."""
    terms = vector[:, None] * matrix
    partial_sums = np.cumsum(terms, axis=0)
    squares = (terms**2).sum(axis=0)
    variance = (redundancy + 3) * squares + 2 * (partial_sums[1:] ** 2).sum(axis=0)
    error = np.abs(partial_sums[-1] - 1.0).max() + 6 * 2.0**-53 * np.sqrt(variance.max())
    return float(error + (6 * 2.0**-24 * np.sqrt(squares.max()) if single else 0.0))


def weighted_sum(
    rows: list[NDArray[Any]], coefficients: NDArray[np.float64], out: NDArray[Any], accumulate: bool = False
) -> None:
    """Twin of `_core.weighted_sum`, to the last bit: rows are added one after the other."""
    terms = [out.dtype.type(a) * row.astype(out.dtype) for a, row in zip(coefficients, rows, strict=True)]
    if not accumulate:
        out[:] = terms.pop(0) if terms else 0
    for term in terms:
        out += term


def all_finite(values: NDArray[Any]) -> bool:
    """Twin of `_core.all_finite`."""
    return bool(np.isfinite(values).all())


# --- generalised linear models ------------------------------------------------------------------------


def linear_model_logits(features: NDArray[np.float64], theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits (n, K) of features (n, D) and theta (K, D): twin of the `logits` kernel, to the bit.

    Lane j of four sums the terms j, j + 4, ...; what is left of a row that four does not divide comes last.
    """
    whole = features.shape[1] // 4 * 4
    terms = features[:, None, :] * theta[None, :, :]
    lanes = np.zeros((len(features), len(theta), 4))
    for j in range(0, whole, 4):
        lanes += terms[:, :, j : j + 4]
    logits = (lanes[:, :, 0] + lanes[:, :, 1]) + (lanes[:, :, 2] + lanes[:, :, 3])
    for j in range(whole, features.shape[1]):
        logits += terms[:, :, j]
    return logits


def linear_model_residuals(
    loss: str, logits: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Residuals d f_i / d z_i (n, K) and losses f_i (n,): twin of `LinearModel::apply_loss`."""
    if loss == "squares":
        residuals = logits - targets[:, None]
        return residuals, 0.5 * residuals[:, 0] ** 2
    if loss == "logistic":
        z = logits[:, 0]
        small = np.exp(-np.abs(z))
        probability = np.where(z >= 0, 1.0, small) / (1.0 + small)
        return (probability - targets)[:, None], np.maximum(z, 0.0) + np.log1p(small) - targets * z
    rows, labels = np.arange(len(targets)), targets.astype(np.int64)
    largest = logits.max(axis=1, keepdims=True)
    exponentials = np.exp(logits - largest)
    sums = exponentials.sum(axis=1, keepdims=True)
    residuals = exponentials / sums
    residuals[rows, labels] -= 1.0
    return residuals, np.log(sums[:, 0]) + (largest[:, 0] - logits[rows, labels])


def linear_model_derivatives(
    features: NDArray[np.float64],
    residuals: NDArray[np.float64],
    ranges: NDArray[np.int64],
    coefficients: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Coded partial derivatives of all coordinates (K * D,): twin of `LinearModel::derivatives`, to the bit.

    The sum over a range on its own, sample by sample; then times its coefficient; then over the ranges.
    """
    out = np.zeros((residuals.shape[1], features.shape[1]))
    for (low, high), coefficient in zip(ranges, coefficients, strict=True):
        part = np.zeros_like(out)
        for i in range(low, high):
            part += residuals[i][:, None] * features[i][None, :]
        out += coefficient * part
    return out.ravel()


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
        self.untouched = self.heights.copy()
        self.cells = schedule.cells
        self.visits = list(zip(walk.cells.tolist(), walk.rows.tolist(), strict=True))
        self.cycle_time = cycle_time
        self.cost = cost
        self.cell: int | None = None  # under way, with its row and when it will be finished
        self.row = 0
        self.started = 0.0
        self.finish = np.inf

    def seconds(self, visit: tuple[int, int], untouched: NDArray[np.float64]) -> float:
        samples, cycles_per_derivative, forward_cycles = self.cost
        mask = self.support(*visit)
        cycles = (
            samples * self.heights[mask].sum() * cycles_per_derivative * self.cells[visit[0]].width
            + forward_cycles * samples * untouched[mask].sum()
        )
        return float(self.cycle_time * cycles) if cycles else 0.0

    def start(self, visit: tuple[int, int], now: float) -> None:
        self.cell, self.row = visit
        self.started, self.finish = now, now + self.seconds(visit, self.untouched)

    def done(self) -> None:
        assert self.cell is not None
        self.untouched[self.support(self.cell, self.row)] = 0.0
        self.cell, self.finish = None, np.inf

    def abandon(self, now: float) -> None:
        """Touch the samples of the visit part by part, as far as its forward pass got."""
        assert self.cell is not None
        samples, _, forward_cycles = self.cost
        if forward_cycles and now > self.started:
            room = (now - self.started) / self.cycle_time / (forward_cycles * samples)
            tile = self.cells[self.cell]
            middles = np.cumsum(self.heights) - self.heights / 2
            part_of = np.floor((middles - tile.low) / (tile.high - tile.low) * tile.code.parts)
            inside = (tile.low < middles) & (middles < tile.high)
            for part in tile.code.support_parts(self.row):
                for slab in np.flatnonzero(inside & (part_of == part)):
                    more = min(room, self.untouched[slab])
                    self.untouched[slab] -= more
                    room -= more
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
                    worker.abandon(now)
                    go_on(worker, now)
        else:
            worker = workers[first]
            assert worker.cell is not None
            values_sent[first] += schedule.cells[worker.cell].width
            messages.append((now + delays[first], worker.cell, worker.row))
            worker.done()
            go_on(worker, now)


def _simulate_claims(
    schedule: Any,
    cycle_times: NDArray[np.float64],
    delays: NDArray[np.float64],
    cost: tuple[float, float, float],
    latency: float,
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """At one instant come notices of commitments, answers, finished visits, then requests, in their order."""
    workers = [_Worker(schedule, walk, t, cost) for walk, t in zip(schedule.walks, cycle_times, strict=True)]
    claims = [0] * len(schedule.cells)
    owner: dict[int, int] = {}  # committed cell -> worker
    committed_at: dict[int, float] = {}
    noticed: set[int] = set()
    notices: list[tuple[float, int]] = []
    held: list[list[tuple[int, int]]] = [[] for _ in workers]  # every visit that it ever claimed
    ready: list[list[tuple[int, int]]] = [[] for _ in workers]  # granted and not begun
    answers: list[tuple[float, list[tuple[int, int]]] | None] = [None] * len(workers)
    requests = np.full(len(workers), np.inf)
    sent = np.full(len(workers), np.inf)

    def expected(index: int, visit: tuple[int, int]) -> float:
        return workers[index].seconds(visit, workers[index].heights)

    def claim(index: int, visit: tuple[int, int]) -> None:
        claims[visit[0]] += 1
        held[index].append(visit)

    def go_on(index: int, now: float) -> None:
        worker = workers[index]
        while worker.cell is None and ready[index]:
            visit = ready[index].pop(0)
            if visit[0] not in noticed:
                worker.start(visit, now)
        if answers[index] is None:
            requests[index] = now
            if worker.cell is not None:
                done = worker.finish
                for visit in ready[index]:
                    if visit[0] not in noticed:
                        done += expected(index, visit)
                requests[index] = max(now, done - latency)

    def ask(index: int, now: float) -> None:
        worker = workers[index]
        more: list[tuple[int, int]] = []
        lasts = 0.0
        for visit in worker.visits:
            if claims[visit[0]] == 0 and (not more or lasts < latency):
                claim(index, visit)
                more.append(visit)
                lasts += expected(index, visit)
        others = [v for v in worker.visits if v[0] not in owner and v not in held[index]]
        if not more and others:
            more = [min(others, key=lambda v: claims[v[0]])]  # the first of those that tie
            claim(index, more[0])
        if more:
            answers[index] = (now + latency, more)
        elif worker.cell is None:
            sent[index] = max([now, *(committed_at[cell] + latency for cell, _ in worker.visits)])

    for index, worker in enumerate(workers):
        if worker.visits and claims[worker.visits[0][0]] == 0:
            claim(index, worker.visits[0])
            ready[index] = [worker.visits[0]]
    for index in range(len(workers)):
        go_on(index, 0.0)
    while True:
        events = [(time, 0, cell) for time, cell in notices]
        events += [(answer[0], 1, index) for index, answer in enumerate(answers) if answer is not None]
        events += [(worker.finish, 2, index) for index, worker in enumerate(workers)]
        events += [(time, 3, index) for index, time in enumerate(requests.tolist())]
        now, kind, which = min(events)
        if now == np.inf:
            break
        if kind == 0:
            notices.remove((now, which))
            noticed.add(which)
            for index, worker in enumerate(workers):
                if worker.cell == which:
                    worker.abandon(now)
                    go_on(index, now)
                elif worker.cell is not None and which in {cell for cell, _ in ready[index]}:
                    go_on(index, now)
        elif kind == 1:
            answer = answers[which]
            assert answer is not None
            answers[which] = None
            ready[which] += answer[1]
            go_on(which, now)
        elif kind == 2:
            finished = workers[which].cell
            assert finished is not None
            workers[which].done()
            if finished not in owner:
                owner[finished] = which
                committed_at[finished] = now
                if claims[finished] > 1:
                    notices.append((now + latency, finished))
            go_on(which, now)
        else:
            requests[which] = np.inf
            ask(which, now)

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


# --- sample average ------------------------------------------------------------------------------------


def mean_maximum(
    times: NDArray[np.float64], cycles: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Twin of `_core.mean_maximum`: the mean of the rows' maxima, and the mean times where they are."""
    products = np.where(cycles > 0, np.where(cycles > 0, times, 0.0) * cycles, -1.0)
    last = products.argmax(axis=1)
    mass = np.zeros(len(cycles))
    for row, level in enumerate(last):
        mass[level] += times[row, level] / len(times)
    return float(products.max(axis=1).mean()), mass


# --- boundary crossing --------------------------------------------------------------------------------


def boundary_crossing(bounds: NDArray[np.float64]) -> float:
    """P[U_(k) <= b_k for all k] of N sorted uniforms, by counting points in the cells between the bounds.

    From cell to cell, of the points that are left, each is in the next cell with probability (b_k -
    b_{k-1}) / (1 - b_{k-1}): binomial steps instead of Poisson ones. O(N^3).
    """
    workers = len(bounds)
    state = np.zeros(workers + 1)
    state[0] = 1.0
    low = 0.0
    for k, bound in enumerate(bounds, start=1):
        share = (bound - low) / (1.0 - low) if low < 1.0 else 1.0
        after = np.zeros(workers + 1)
        for count in np.flatnonzero(state):
            left = workers - int(count)
            for more in range(left + 1):
                weight = math.comb(left, more) * share**more * (1.0 - share) ** (left - more)
                after[count + more] += state[count] * weight
        after[:k] = 0.0
        state, low = after, bound
    return float(state[workers])


def boundary_crossing_exactly(bounds: Sequence[Fraction]) -> Fraction:
    """The same in rational numbers, by Steck's determinant: N! det[b_i^(j-i+1) / (j-i+1)!], expanded.

    The matrix is upper Hessenberg with ones below the diagonal, so that the determinants D_m of its leading
    blocks obey D_m = sum_{i <= m} (-1)^(m-i) b_i^(m-i+1) / (m-i+1)! D_{i-1}.
    """
    leading = [Fraction(1)]
    for m in range(1, len(bounds) + 1):
        total = Fraction(0)
        for i in range(1, m + 1):
            power = m - i + 1
            total += (-1) ** (m - i) * bounds[i - 1] ** power / math.factorial(power) * leading[i - 1]
        leading.append(total)
    return math.factorial(len(bounds)) * leading[-1]


def boundary_crossing_derivatives(
    bounds: Sequence[Fraction], step: Fraction = Fraction(1, 10**9)
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gradient (N,) and Hessian (N, N) of `boundary_crossing_exactly` by central differences.

    In rational numbers these only miss terms of the order of step^2. The determinant is a polynomial, so that
    bounds may also be equal, or change their order by the step.
    """
    workers = len(bounds)

    def at(*moves: tuple[int, Fraction]) -> Fraction:
        moved = list(bounds)
        for k, change in moves:
            moved[k] += change
        return boundary_crossing_exactly(moved)

    gradient = np.array([float((at((k, step)) - at((k, -step))) / (2 * step)) for k in range(workers)])
    hessian = np.empty((workers, workers))
    for j in range(workers):
        for k in range(workers):
            total = Fraction(0)
            for sign, other in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                total += sign * other * at((j, sign * step), (k, other * step))
            hessian[j, k] = float(total / (4 * step**2))
    return gradient, hessian


# --- quadratic functions on the simplex ---------------------------------------------------------------


def minimise_on_simplex(
    gradient: NDArray[np.float64],
    hessian: NDArray[np.float64],
    accuracy: float,
    start: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Twin of `_core.minimise_on_simplex` [MEHROTRA92]; solves the full system of y, nu, z at every step."""
    count = len(gradient)
    y: NDArray[np.float64] = 0.99 * start / start.sum() + 0.01 / count
    slope = gradient + hessian @ y
    nu = float(slope.min())
    nu -= 1e-3 * max(1.0, abs(nu))
    z = slope - nu
    ones, identity = np.ones(count), np.eye(count)
    primal = dual = 0.0
    for _ in range(80):
        mu = float(y @ z) / count
        if mu * count < accuracy or count == 1:
            break
        # H dy - dnu - dz = -residual, sum dy = 0, z dy + y dz = target - y z.
        system = np.block(
            [
                [hessian, -ones[:, None], -identity],
                [ones[None, :], np.zeros((1, count + 1))],
                [np.diag(z), np.zeros((count, 1)), np.diag(y)],
            ]
        )
        residual = gradient + hessian @ y - nu - z
        goal = 0.0
        dy = dz = step = np.zeros(count)
        for _ in ("predictor", "corrector"):
            target = goal - dy * dz
            step = np.linalg.solve(system, np.concatenate((-residual, [0.0], target - y * z)))
            dy, dz = step[:count], step[count + 1 :]
            primal = min(1.0, float((-y / dy)[dy < 0].min(initial=np.inf)))
            dual = min(1.0, float((-z / dz)[dz < 0].min(initial=np.inf)))
            goal = mu * (float((y + primal * dy) @ (z + dual * dz)) / count / mu) ** 3
        length = 0.995 * min(primal, dual)
        y = y + length * dy
        y /= y.sum()
        z, nu = z + length * dz, nu + length * float(step[count])
    return y


# --- blocks walked in circles --------------------------------------------------------------------------


def cover_runtime(
    groups: NDArray[np.int64],
    starts: NDArray[np.float64],
    backward: NDArray[np.int64],
    times: NDArray[np.float64],
    begin: NDArray[np.float64],
    around: NDArray[np.float64],
) -> float:
    """Twin of `CoverTimes.run`, for one draw (N,): all other arrays are (K, N).

    Along an arc between neighbouring starts a worker gets to the point u at a time that is linear in u. The
    first arrival, the least of these, is largest at an end of the arc or where two lines meet: all are tried.
    """
    latest = 0.0
    for level in range(len(groups)):
        for group in np.unique(groups[level]):
            members = np.flatnonzero(groups[level] == group)
            circle = around[level, members[0]]
            if circle == 0.0:
                continue
            points = np.unique(starts[level, members])
            ends = np.append(points[1:], points[0] + 1.0)
            for low, high in zip(points, ends, strict=True):
                at_low, slope = np.empty(len(members)), np.empty(len(members))
                for i, w in enumerate(members):
                    if backward[level, w]:
                        passed = (starts[level, w] - high) % 1.0 + (high - low)
                    else:
                        passed = (low - starts[level, w]) % 1.0
                    direction = -1.0 if backward[level, w] else 1.0
                    at_low[i] = times[w] * (begin[level, w] + circle * passed)
                    slope[i] = times[w] * circle * direction
                alive = np.isfinite(times[members])
                at_low, slope = at_low[alive], slope[alive]
                if not len(slope):
                    return math.inf
                candidates = [0.0, high - low]
                for i in range(len(slope)):
                    for j in range(i):
                        if slope[i] != slope[j]:
                            candidates.append((at_low[j] - at_low[i]) / (slope[i] - slope[j]))
                for u in candidates:
                    if 0.0 <= u <= high - low:
                        latest = max(latest, float((at_low + slope * u).min()))
    return latest


# --- plain sums and residuals ----------------------------------------------------------------------------


def plain_sum(rows: list[NDArray[Any]], out: NDArray[Any], accumulate: bool = False) -> None:
    """Twin of `_core.plain_sum`, to the last bit."""
    weighted_sum(rows, np.ones(len(rows)), out, accumulate)


def largest_deviation(values: NDArray[Any], expected: float) -> float:
    """Twin of `_core.largest_deviation`."""
    if not np.isfinite(values).all():
        return math.inf
    with np.errstate(over="ignore"):
        return float(np.abs(values - values.dtype.type(expected)).max(initial=0.0))
