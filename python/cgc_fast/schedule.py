"""Tile the rectangle: cells, the walks of the workers through them, and what the visits cost.

All partial derivatives of one iteration form a rectangle, L coordinates wide and M samples high; the gradient
is the sum over its height. A schedule tiles that rectangle with cells, each under a code, and tells every
worker in which order to visit which rows of which cells. Every scheme, published or not, is such a schedule;
simulator, workers, decoder and engines know nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgc_fast import _core
from cgc_fast.arguments import Cost, integer
from cgc_fast.codes import Code, CyclicCode, RepetitionCode
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError, NumericalError, unknown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FEEDBACK", "PAYLOADS", "Cell", "Feedback", "Payload", "Schedule", "Walk", "sample_index"]

Feedback = Literal["none", "announce", "claim"]
FEEDBACK: tuple[Feedback, ...] = ("none", "announce", "claim")
Payload = Literal["float64", "float32"]
PAYLOADS: tuple[Payload, ...] = ("float64", "float32")

# Beyond this many sets of workers `Schedule.tolerance` settles for its bound.
_EXHAUSTIVE_SETS = 20_000


def sample_index(fraction: float, samples: int) -> int:
    """Index of the sample at which a bound lies: floor(f M + 1/2), the one rounding of sample bounds."""
    return int(_sample_indices(np.float64(fraction), samples))


def _sample_indices(fractions: NDArray[np.float64] | np.float64, samples: int) -> NDArray[np.int64]:
    return np.floor(np.asarray(fractions) * samples + 0.5).astype(np.int64)


@dataclass(frozen=True)
class Cell:
    """A tile of the rectangle: coordinates [start, stop), samples [low, high), and the code of its rows.

    Parameters
    ----------
    start, stop : int
        Coordinates, 0 <= start <= stop.
    low, high : float
        Samples as fractions of M, 0 <= low <= high <= 1. Make equal bounds by the same division (k / g), so
        that they are equal floats: tiling is checked exactly.
    code : Code
        Its parts cut the samples of the cell equally; part j begins at low + (high - low) j / parts.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        Bounds out of order or range; not integers, numbers or a code.
    """

    start: int
    stop: int
    low: float
    high: float
    code: Code

    def __post_init__(self) -> None:
        for name in ("start", "stop"):
            object.__setattr__(self, name, integer(f"Cell.{name}", getattr(self, name)))
        for name in ("low", "high"):
            try:
                object.__setattr__(self, name, float(getattr(self, name)))
            except (TypeError, ValueError):
                raise ArgumentTypeError(
                    f"Cell.{name}: expected a number, got {getattr(self, name)!r}"
                ) from None
        if not isinstance(self.code, Code):
            raise ArgumentTypeError(f"Cell.code: expected a Code, got {type(self.code).__name__}")
        if not 0 <= self.start <= self.stop:
            raise ArgumentValueError(
                f"cell: expected coordinates 0 <= start <= stop, got [{self.start}, {self.stop})"
            )
        if not 0.0 <= self.low <= self.high <= 1.0:
            raise ArgumentValueError(
                f"cell: expected samples 0 <= low <= high <= 1, got [{self.low!r}, {self.high!r})"
            )

    @property
    def width(self) -> int:
        """Number of coordinates."""
        return self.stop - self.start

    @property
    def is_empty(self) -> bool:
        """Whether the cell holds nothing; it is then decoded from the start and visited by nobody."""
        return self.start == self.stop or self.low == self.high


@dataclass(frozen=True, eq=False, init=False)
class Walk:
    """The visits of one worker, in order.

    Parameters
    ----------
    cells, rows : array-like of int, shape (V,)
        Visit v is to row `rows[v]` of cell `cells[v]`. Copied; read-only int64 arrays afterwards.
    """

    cells: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __init__(self, cells: ArrayLike, rows: ArrayLike) -> None:
        object.__setattr__(self, "cells", _index_array(cells, "Walk.cells"))
        object.__setattr__(self, "rows", _index_array(rows, "Walk.rows"))
        if self.cells.shape != self.rows.shape:
            raise ArgumentValueError(
                f"walk: expected as many rows as cells, got {self.rows.size} and {self.cells.size}"
            )

    def __len__(self) -> int:
        return self.cells.size


class _Intervals(NamedTuple):
    """Samples of the rows visited: visit v sums [lows[i], highs[i]), i in [offsets[v], offsets[v + 1])."""

    offsets: NDArray[np.int64]  # (V + 1,)
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]
    fractions: NDArray[np.float64]  # (V,) of all samples in the row's support


@dataclass(frozen=True, eq=False)
class Schedule:
    """Cells that tile the rectangle, and the walks of all workers through them.

    Parameters
    ----------
    workers : int
        N >= 1.
    coordinates : int
        L >= 1.
    cells : sequence of Cell
        They tile [0, L) x [0, 1] exactly once; empty cells may lie anywhere.
    walks : sequence of Walk, length N
        Together they visit enough rows of every non-empty cell to decode it.
    feedback : {"none", "announce", "claim"}
        What workers learn during an iteration: nothing; which cells are decoded (they skip these and abandon
        the one that they are in); or which cells are claimed (they visit the others, all RepetitionCode).
    payload : {"float64", "float32"}
        What partial derivatives are sent as; computed and summed in float64 either way. float32 only without
        feedback.

    Raises
    ------
    ArgumentValueError
        An invariant does not hold; the message says where there is a gap or an overlap, which cell cannot be
        decoded, which visit is impossible, or which code leaves too little of float32 payloads.

    Notes
    -----
    Immutable. The checks take O(C log C + V log V) for C cells and V visits, in NumPy: a million visits are
    checked in well under a second; with float32 payloads the matrices of cyclic codes are made for the sake
    of what they promise. Pickles as its six arguments.
    """

    workers: int
    coordinates: int
    cells: tuple[Cell, ...]
    walks: tuple[Walk, ...]
    feedback: Feedback = "none"
    payload: Payload = "float64"

    def __post_init__(self) -> None:
        object.__setattr__(self, "workers", integer("workers", self.workers, 1))
        object.__setattr__(self, "coordinates", integer("coordinates", self.coordinates, 1))
        object.__setattr__(self, "cells", _tuple_of(Cell, self.cells, "cells"))
        object.__setattr__(self, "walks", _tuple_of(Walk, self.walks, "walks"))
        if self.feedback not in FEEDBACK:
            raise unknown_name("feedback", self.feedback, FEEDBACK)
        if self.payload not in PAYLOADS:
            raise unknown_name("payload", self.payload, PAYLOADS)
        if len(self.walks) != self.workers:
            raise ArgumentValueError(f"walks: expected one a worker ({self.workers}), got {len(self.walks)}")
        self._check_tiling()
        self._check_visits()
        self._check_payload()

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.workers, self.coordinates, self.cells, self.walks, self.feedback, self.payload)
        return Schedule, arguments

    # --- the rectangle --------------------------------------------------------------------------------

    @cached_property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """Elementary coordinate ranges [start, stop), ascending: no cell has a boundary inside one."""
        bounds = self._block_bounds
        return tuple(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))

    def cell_blocks(self, cell: int) -> range:
        """Indices into `blocks` of those that a cell covers; none if it is empty."""
        tile = self._cell(cell)
        if tile.is_empty:
            return range(0)
        first, last = np.searchsorted(self._block_bounds, [tile.start, tile.stop])
        return range(int(first), int(last))

    @cached_property
    def row_offsets(self) -> NDArray[np.int64]:
        """Numbering (C + 1,) of all rows, visited or not: row r of cell c has number `row_offsets[c]` + r."""
        offsets = np.concatenate([[0], np.cumsum(self._table.rows)])
        offsets.flags.writeable = False
        return offsets

    @cached_property
    def _block_bounds(self) -> NDArray[np.int64]:
        filled = ~self._table.empty
        return np.unique(np.concatenate([self._table.starts[filled], self._table.stops[filled]]))

    def tolerance(self, cell: int) -> int:
        """Most workers that may never answer, whichever they are, with the cell still decodable.

        With one row a worker this is the number of rows that may be missing. Exact when any one row decodes,
        when every row has one visitor, when every visitor has one row, and otherwise wherever the sets of
        visitors are few enough to try; beyond that a lower bound that is safe to rely on. Empty cells
        tolerate the loss of all.

        Notes
        -----
        To stop a cell with R rows visited and k required, R - k + 1 rows must lose all their visitors: at
        least as many (worker, row) pairs as the R - k + 1 least visited rows have. A set of workers cannot
        make up for more pairs than those of its busiest members, which bounds the size of a fatal set from
        below; in the three cases named the pairs of different members or rows do not overlap, and the bound
        is attained.
        """
        tile = self._cell(cell)
        if tile.is_empty:
            return self.workers
        workers, rows = self._visitors(cell)
        visits_per_row = np.sort(np.unique(rows, return_counts=True)[1])
        rows_per_worker = np.sort(np.unique(workers, return_counts=True)[1])[::-1]
        rows_to_stop = visits_per_row.size - tile.code.required_rows + 1
        pairs = int(visits_per_row[:rows_to_stop].sum())
        fatal = 1 + int(np.searchsorted(np.cumsum(rows_per_worker), pairs))
        fatal = max(fatal, int(visits_per_row[rows_to_stop - 1]))
        exact = tile.code.required_rows == 1 or visits_per_row[-1] == 1 or rows_per_worker[0] == 1
        return (fatal if exact else self._smallest_fatal_set(workers, rows, tile, fatal)) - 1

    @staticmethod
    def _smallest_fatal_set(
        workers: NDArray[np.int64], rows: NDArray[np.int64], tile: Cell, at_least: int
    ) -> int:
        """Try all sets of visitors from `at_least` members on, as long as these are few."""
        names = np.unique(workers).tolist()
        masks = dict.fromkeys(names, 0)
        for worker, row in zip(workers.tolist(), rows.tolist(), strict=True):
            masks[worker] |= 1 << row
        tried = 0
        for size in range(at_least, len(names)):
            tried += math.comb(len(names), size)
            if tried > _EXHAUSTIVE_SETS:
                return size
            for alive in combinations(names, len(names) - size):
                left = 0
                for worker in alive:
                    left |= masks[worker]
                if left.bit_count() < tile.code.required_rows:
                    return size
        return len(names)

    # --- samples --------------------------------------------------------------------------------------

    def support(self, cell: int, row: int, samples: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Samples that a row of a cell sums, and with which coefficients.

        Parameters
        ----------
        cell, row : int
            Indices.
        samples : int
            M, the number of samples of the problem.

        Returns
        -------
        ranges : int64 array, shape (R, 2)
            Index ranges [first, last) of samples, one a part of the row; empty ones are dropped.
        coefficients : float64 array, shape (R,)
        """
        tile = self._cell(cell)
        if not 0 <= row < tile.code.rows:
            raise ArgumentValueError(f"row: expected 0 to {tile.code.rows - 1} in cell {cell}, got {row}")
        samples = integer("samples", samples, 1)
        parts, coefficients = tile.code.support(row)
        bounds = [
            _sample_indices(_part_bound(tile.low, tile.high, tile.code.parts, parts + end), samples)
            for end in (0, 1)
        ]
        ranges = np.stack(bounds, axis=1)
        filled = ranges[:, 0] < ranges[:, 1]
        return ranges[filled], np.asarray(coefficients, dtype=np.float64)[filled]

    def spans(self, cell: int, row: int) -> NDArray[np.float64]:
        """Samples that a row of a cell sums, as fractions [low, high) of all, shape (R, 2), one a part."""
        tile = self._cell(cell)
        parts = tile.code.support_parts(row)
        bounds = [_part_bound(tile.low, tile.high, tile.code.parts, parts + end) for end in (0, 1)]
        return np.stack(bounds, axis=1)

    def sample_ranges(self, worker: int, samples: int) -> NDArray[np.int64]:
        """Samples that a worker must hold for its walk.

        Parameters
        ----------
        worker : int
            Index.
        samples : int
            M, the number of samples of the problem.

        Returns
        -------
        ranges : int64 array, shape (R, 2)
            Disjoint index ranges [first, last), ascending, not empty and not touching each other.
        """
        samples = integer("samples", samples, 1)
        _, lows, highs = self.visited_samples(worker)
        firsts, lasts = _sample_indices(lows, samples), _sample_indices(highs, samples)
        filled = firsts < lasts
        order = np.argsort(firsts[filled], kind="stable")
        firsts, reach = firsts[filled][order], np.maximum.accumulate(lasts[filled][order])
        if firsts.size == 0:
            return np.empty((0, 2), dtype=np.int64)
        begins = np.flatnonzero(np.concatenate([[True], firsts[1:] > reach[:-1]]))
        ends = np.append(begins[1:], firsts.size) - 1
        return np.stack([firsts[begins], reach[ends]], axis=1)

    def visited_samples(
        self, worker: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Samples that the visits of a worker sum, as fractions: cells (R,), lows (R,) and highs (R,).

        In the order of the visits; one that sums samples which do not lie together has several entries.
        """
        begin, end = self._walk_offsets[self._worker(worker) : worker + 2]
        offsets = self._intervals.offsets[begin : end + 1]
        cells = np.repeat(self.walks[worker].cells, np.diff(offsets))
        intervals = slice(int(offsets[0]), int(offsets[-1]))
        return cells, self._intervals.lows[intervals], self._intervals.highs[intervals]

    # --- cost -----------------------------------------------------------------------------------------

    def arrival_cycles(
        self, samples: float, cycles_per_derivative: float = 1.0, forward_cycles: float = 0.0
    ) -> tuple[NDArray[np.float64], ...]:
        """Cycles that each worker has spent at the end of each of its visits, when it skips nothing.

        A visit costs samples x (fraction of them in the row's support) x width partial derivatives at
        `cycles_per_derivative` (b), and a forward pass of `forward_cycles` (c) for each sample that the
        worker has not touched before in the iteration. Sample counts are fractions times M, not rounded; M
        may be any scale of time.
        This is the one cost function of planner, simulator and emulator.

        Returns
        -------
        tuple of N float64 arrays, shapes (V_w,)
            Times the cycle time T_w: seconds from the start of the iteration. O(V log V) overall.
        """
        cost = Cost(samples, cycles_per_derivative, forward_cycles)
        cycles = self.compiled.arrival_cycles(cost.samples, cost.cycles_per_derivative, cost.forward_cycles)
        cycles.flags.writeable = False
        return tuple(np.split(cycles, self._walk_offsets[1:-1]))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the rectangle, its cells coloured by redundancy, and the walks; see `plotting`."""
        from cgc_fast.plotting import plot_schedule

        return plot_schedule(self, ax)

    # --- flat arrays ----------------------------------------------------------------------------------

    @cached_property
    def _table(self) -> _CellTable:
        cells = self.cells
        return _CellTable(
            starts=np.array([cell.start for cell in cells], dtype=np.int64),
            stops=np.array([cell.stop for cell in cells], dtype=np.int64),
            lows=np.array([cell.low for cell in cells], dtype=np.float64),
            highs=np.array([cell.high for cell in cells], dtype=np.float64),
            rows=np.array([cell.code.rows for cell in cells], dtype=np.int64),
            parts=np.array([cell.code.parts for cell in cells], dtype=np.int64),
            required_rows=np.array([cell.code.required_rows for cell in cells], dtype=np.int64),
        )

    @cached_property
    def _walk_offsets(self) -> NDArray[np.int64]:
        return np.cumsum([0, *map(len, self.walks)], dtype=np.int64)

    @cached_property
    def _visits(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Worker, cell and row (V,) of all visits, worker after worker."""
        return (
            np.repeat(np.arange(self.workers), np.diff(self._walk_offsets)),
            np.concatenate([walk.cells for walk in self.walks]),
            np.concatenate([walk.rows for walk in self.walks]),
        )

    @cached_property
    def _visits_by_cell(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Visits ordered by cell, and where those of each cell begin (C + 1,)."""
        cells = self._visits[1]
        counts = np.bincount(cells, minlength=len(self.cells))
        return np.argsort(cells, kind="stable"), np.concatenate([[0], np.cumsum(counts)])

    def _visitors(self, cell: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Workers and rows of the visits to a cell."""
        order, begins = self._visits_by_cell
        visits = order[begins[cell] : begins[cell + 1]]
        workers, _, rows = self._visits
        return workers[visits], rows[visits]

    def _worker(self, worker: int) -> int:
        if not 0 <= worker < self.workers:
            raise ArgumentValueError(f"worker: expected 0 to {self.workers - 1}, got {worker}")
        return worker

    def _cell(self, cell: int) -> Cell:
        if not 0 <= cell < len(self.cells):
            raise ArgumentValueError(f"cell: expected 0 to {len(self.cells) - 1}, got {cell}")
        return self.cells[cell]

    @cached_property
    def _intervals(self) -> _Intervals:
        _, cells, rows = self._visits
        table = self._table
        firsts, counts, general = _circular_supports(self.cells, cells, rows)
        # A circular support is one run of parts, or two where it passes the end of the circle.
        wraps = firsts + counts > table.parts[cells]
        run_counts = 1 + wraps.astype(np.int64)
        runs_of = {
            visit: _runs(self.cells[cells[visit]].code.support_parts(rows[visit])) for visit in general
        }
        for visit, runs in runs_of.items():
            run_counts[visit] = len(runs)
        offsets = np.concatenate([[0], np.cumsum(run_counts)])
        run_firsts = np.zeros(offsets[-1], dtype=np.int64)
        run_lasts = np.zeros(offsets[-1], dtype=np.int64)
        circular = np.ones(cells.size, dtype=bool)
        circular[general] = False
        run_firsts[offsets[:-1][circular]] = firsts[circular]
        run_lasts[offsets[:-1][circular]] = np.minimum(firsts + counts, table.parts[cells])[circular]
        wraps &= circular
        run_lasts[offsets[:-1][wraps] + 1] = (firsts + counts - table.parts[cells])[wraps]
        for visit, runs in runs_of.items():
            run_firsts[offsets[visit] : offsets[visit + 1]] = runs[:, 0]
            run_lasts[offsets[visit] : offsets[visit + 1]] = runs[:, 1]
            counts[visit] = np.diff(runs).sum()

        run_cells = np.repeat(cells, run_counts)
        lows, highs, parts = table.lows[run_cells], table.highs[run_cells], table.parts[run_cells]
        heights = table.highs[cells] - table.lows[cells]
        return _Intervals(
            offsets,
            _part_bound(lows, highs, parts, run_firsts),
            _part_bound(lows, highs, parts, run_lasts),
            heights * counts / table.parts[cells],
        )

    @cached_property
    def compiled(self) -> _core.CompiledSchedule:
        """The flat arrays as the compiled core keeps them; made on first use."""
        _, cells, rows = self._visits
        table, intervals = self._table, self._intervals
        _, ranges = np.unique(np.stack([table.starts, table.stops]), axis=1, return_inverse=True)
        return _core.CompiledSchedule(
            offsets=self._walk_offsets,
            cells=cells,
            rows=rows,
            fractions=intervals.fractions,
            interval_offsets=intervals.offsets,
            lows=intervals.lows,
            highs=intervals.highs,
            widths=table.stops - table.starts,
            ranges=ranges.reshape(-1).astype(np.int64),
            required_rows=np.where(table.empty, 0, table.required_rows),
        )

    # --- invariants -----------------------------------------------------------------------------------

    def _check_tiling(self) -> None:
        """Refuse a gap or an overlap.

        How often a point is covered, less one, is the double sum, over coordinates and samples, of +1 and -1
        at the corners of the cells and, with the signs reversed, of the rectangle: the cells tile it exactly
        if and only if all corners cancel. At the first corner that does not (in lexical order) nothing before
        it contributes, so what is left there is the excess of coverage at that very point.
        """
        for index, cell in enumerate(self.cells):
            if cell.stop > self.coordinates and not cell.is_empty:
                raise ArgumentValueError(
                    f"cells: expected coordinates below {self.coordinates}; cell {index} has "
                    f"[{cell.start}, {cell.stop})"
                )
        table = self._table
        filled = ~table.empty
        starts, stops = table.starts[filled], table.stops[filled]
        lows, highs = table.lows[filled], table.highs[filled]
        ones = np.ones(starts.size, dtype=np.int64)
        coordinates = np.concatenate(
            [starts, starts, stops, stops, [0, 0, self.coordinates, self.coordinates]]
        )
        fractions = np.concatenate([lows, highs, lows, highs, [0.0, 1.0, 0.0, 1.0]])
        signs = np.concatenate([ones, -ones, -ones, ones, [-1, 1, 1, -1]])
        order = np.lexsort((fractions, coordinates))
        coordinates, fractions, signs = coordinates[order], fractions[order], signs[order]
        new = np.concatenate([[True], (np.diff(coordinates) != 0) | (np.diff(fractions) != 0)])
        first_of_corner = np.flatnonzero(new)
        excess = np.add.reduceat(signs, first_of_corner)
        wrong = np.flatnonzero(excess)
        if wrong.size == 0:
            return
        at = first_of_corner[wrong[0]]
        coordinate, fraction = int(coordinates[at]), float(fractions[at])
        covering = [
            index
            for index, cell in enumerate(self.cells)
            if cell.start <= coordinate < cell.stop and cell.low <= fraction < cell.high
        ]
        where = f"at coordinate {coordinate}, sample fraction {fraction!r}"
        if not covering:
            raise ArgumentValueError(f"cells: gap {where}: expected one cell there, found none")
        shown = ", ".join(map(str, covering[:6])) + (", ..." if len(covering) > 6 else "")
        raise ArgumentValueError(f"cells: overlap {where}: expected one cell there, found cells {shown}")

    def _check_visits(self) -> None:
        workers, cells, rows = self._visits
        table = self._table

        def refuse(wrong: NDArray[np.bool_], reason: str) -> None:
            if wrong.any():
                visit = int(np.flatnonzero(wrong)[0])
                step = visit - self._walk_offsets[workers[visit]]
                raise ArgumentValueError(
                    f"walks: visit {step} of worker {workers[visit]}, to row {rows[visit]} of cell "
                    f"{cells[visit]}: {reason}"
                )

        refuse((cells < 0) | (cells >= len(self.cells)), f"expected cells 0 to {len(self.cells) - 1}")
        refuse((rows < 0) | (rows >= table.rows[cells]), "the cell's code does not have that row")
        refuse(table.empty[cells], "the cell is empty; expected no visits to it")

        # Number all rows of all cells; no worker may have a number twice.
        row_offsets = self.row_offsets
        numbers = row_offsets[cells] + rows
        order = np.lexsort((numbers, workers))
        again = np.zeros(cells.size, dtype=bool)
        same = (np.diff(numbers[order]) == 0) & (np.diff(workers[order]) == 0)
        again[order[1:][same]] = True
        refuse(again, "the worker has been there before")

        visited = np.zeros(row_offsets[-1], dtype=np.int64)
        visited[numbers] = 1
        rows_of_cell = np.add.reduceat(visited, row_offsets[:-1])
        lacking = np.flatnonzero((rows_of_cell < table.required_rows) & ~table.empty)
        if lacking.size:
            cell = int(lacking[0])
            raise ArgumentValueError(
                f"walks: cell {cell} cannot be decoded: expected visits to at least "
                f"{table.required_rows[cell]} of its rows, got {rows_of_cell[cell]}"
            )
        if self.feedback == "claim":
            for index, tile in enumerate(self.cells):
                if not (tile.is_empty or isinstance(tile.code, RepetitionCode)):
                    raise ArgumentValueError(
                        "feedback='claim': expected RepetitionCode in all cells (a worker sends one plain "
                        f"sum), got {type(tile.code).__name__} in cell {index}"
                    )

    def _check_payload(self) -> None:
        """Refuse float32 where it does not do; in float64 every code keeps its promise or says so itself."""
        if self.payload == "float64":
            return
        if self.feedback != "none":
            raise ArgumentValueError(
                f"payload: expected 'float64' with feedback={self.feedback!r}, got 'float32'"
            )
        for index, tile in enumerate(self.cells):
            try:
                if not tile.is_empty:
                    tile.code.promise_for(self.payload)
            except NumericalError as error:
                raise ArgumentValueError(
                    f"payload: expected 'float64' because of cell {index}, got 'float32': {error}. "
                    "plan.schedule(code='auto', payload='float32') replaces such codes"
                ) from error


class _CellTable(NamedTuple):
    """The cells as arrays (C,)."""

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]
    rows: NDArray[np.int64]
    parts: NDArray[np.int64]
    required_rows: NDArray[np.int64]

    @property
    def empty(self) -> NDArray[np.bool_]:
        empty: NDArray[np.bool_] = (self.starts == self.stops) | (self.lows == self.highs)
        return empty


def _part_bound(
    lows: NDArray[np.float64] | float,
    highs: NDArray[np.float64] | float,
    parts: NDArray[np.int64] | int,
    index: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Where part `index` of cells begins: low + (high - low) j / parts, and exactly `high` at the end."""
    bound = np.minimum(lows + (np.asarray(highs) - lows) * index / parts, highs)
    return np.where(index == parts, highs, bound)


def _circular_supports(
    all_cells: Sequence[Cell], cells: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """First part and number of parts (V,) of the rows visited, on the circle of their cell's parts.

    The third array holds the visits to codes of which nothing is known; these are asked row by row.
    """
    counts = np.array([_circular_count(cell.code) for cell in all_cells], dtype=np.int64)[cells]
    repeats = np.array([type(cell.code) is RepetitionCode for cell in all_cells], dtype=bool)[cells]
    return np.where(repeats, 0, rows), counts, np.flatnonzero(counts == 0)


def _circular_count(code: Code) -> int:
    if type(code) is RepetitionCode:
        return 1
    return code.redundancy + 1 if type(code) is CyclicCode else 0


def _runs(parts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Maximal runs [first, last) of consecutive parts, shape (R, 2)."""
    parts = np.unique(parts)
    begins = np.flatnonzero(np.concatenate([[True], np.diff(parts) != 1]))
    ends = np.append(begins[1:], parts.size) - 1
    return np.stack([parts[begins], parts[ends] + 1], axis=1)


def _tuple_of(kind: type, values: Sequence[Any], name: str) -> tuple[Any, ...]:
    items = tuple(values)
    for item in items:
        if not isinstance(item, kind):
            raise ArgumentTypeError(f"{name}: expected {kind.__name__} objects, got {type(item).__name__}")
    return items


def _index_array(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ArgumentValueError(f"{name}: expected one dimension, got shape {array.shape}")
    if array.size and array.dtype.kind not in "iu":
        raise ArgumentTypeError(f"{name}: expected integers, got {array.dtype}")
    indices = np.array(array, dtype=np.int64)
    indices.flags.writeable = False
    return indices
