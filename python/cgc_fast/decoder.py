"""The master's side of one iteration as a pure state machine.

Arrivals go in, instructions come out: "decode cell c from rows R with vector a", "block b is complete". No
process, clock, I/O or kernel is touched; the host executes the instructions. Arrivals are keyed (iteration,
cell, row), so late, duplicate, stale and reordered ones change nothing.

The decoder also keeps account of who is *expected* to deliver which row: at first every worker the rows of
its walk, later less (a worker is gone, seems to hang, or sent NaN) or more (somebody was told to visit a row
in its place). A cell is *short* if what is here and what is expected cannot decode it; what is then to be
done is the `Supervisor`'s to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cgc_fast.errors import DecodeError, NumericalError
from cgc_fast.schedule import Schedule

__all__ = ["BlockComplete", "DecodeCell", "Decoder", "Instruction"]

# A row whose payload was not finite so often is given up: the fault lies with the numbers, not with a worker.
MOST_REJECTIONS = 2


class DecodeCell(NamedTuple):
    """Instruction: add Σ vector[i] · payload(workers[i], cell, rows[i]) over the cell's coordinates."""

    cell: int
    rows: tuple[int, ...]
    workers: tuple[int, ...]
    vector: NDArray[np.float64]


class BlockComplete(NamedTuple):
    """Instruction: every cell over this block is decoded; deliver it. `workers` contributed, ascending."""

    block: int
    workers: tuple[int, ...]


Instruction = DecodeCell | BlockComplete


@dataclass(frozen=True)
class _Account:
    """Who is expected to deliver which row, in numbers: workers by slot, rows by cell."""

    expecting: list[int]
    reachable: list[int]

    @classmethod
    def of(cls, walk_slots: list[NDArray[np.int64]], cell_of_slot: NDArray[np.int64], cells: int) -> _Account:
        """Everybody's whole walk."""
        expecting = np.zeros(len(cell_of_slot), dtype=np.int64)
        for slots in walk_slots:
            np.add.at(expecting, slots, 1)
        reachable = np.bincount(cell_of_slot[expecting > 0], minlength=cells)
        return cls(expecting.tolist(), reachable.tolist())


class Decoder:
    """Decode the cells of a schedule from rows that arrive in any order.

    Parameters
    ----------
    schedule : Schedule
        Not copied.

    Attributes
    ----------
    iteration : int
        The iteration under way or, when `done`, the last one; 0 before the first.
    stale, duplicates : int
        Arrivals that were ignored: of another iteration; of a row that had arrived, or of a decoded cell.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.iteration = 0
        self.stale = 0
        self.duplicates = 0
        cells = schedule.cells
        offsets = schedule.row_offsets
        cell_of_slot = np.repeat(np.arange(len(cells)), np.diff(offsets))
        walk_slots = [offsets[walk.cells] + walk.rows for walk in schedule.walks]
        # Lists: what is looked up one by one is several times faster in them than in arrays.
        self._offsets: list[int] = offsets.tolist()
        self._cell_of_slot: list[int] = cell_of_slot.tolist()
        self._walk_slots = [frozenset(slots.tolist()) for slots in walk_slots]
        self._filled = bytes(not cell.is_empty for cell in cells)
        self._everybody = _Account.of(walk_slots, cell_of_slot, len(cells))
        self._required = [cell.code.required_rows for cell in cells]
        self._payload = np.dtype(schedule.payload)
        self._blocks_of_cell = [schedule.cell_blocks(c) for c in range(len(cells))]
        self._cells_of_block: list[list[int]] = [[] for _ in schedule.blocks]
        for c, blocks in enumerate(self._blocks_of_cell):
            if not cells[c].is_empty:
                for block in blocks:
                    self._cells_of_block[block].append(c)
        self._open = bytearray(len(cells))
        self._reset(_Account.of([], cell_of_slot, len(cells)))

    def _reset(self, account: _Account) -> None:
        self._open_count = 0
        self._expected: list[set[int]] = [set() for _ in self.schedule.walks]  # slots, by worker
        # What workers that nobody counts on would deliver if they went on after all: slots, by worker.
        self._set_aside: list[set[int]] = [set() for _ in self.schedule.walks]
        self._expecting = account.expecting.copy()  # how many workers, by slot
        self._reachable = account.reachable.copy()  # how many rows of a cell are here or expected
        self._arrived: dict[int, dict[int, int]] = {}  # cell -> row -> worker
        self._rejections: dict[int, int] = {}  # slot -> payloads that were not finite
        self._rejected_by: dict[int, set[int]] = {}  # slot -> who sent them
        self._contributors: dict[int, tuple[int, ...]] = {}
        self._open_in_block = [len(cells_over) for cells_over in self._cells_of_block]
        self._refused: dict[int, DecodeError | NumericalError] = {}
        self._maybe_short: set[int] = set()

    @property
    def open_cells(self) -> NDArray[np.bool_]:
        """Which cells (C,) are not decoded yet: a live view, which only the decoder writes."""
        return np.frombuffer(self._open, dtype=np.bool_)

    def are_open(self, cells: Iterable[int]) -> bool:
        """Whether none of these cells is decoded yet."""
        return all(map(self._open.__getitem__, cells))

    @property
    def done(self) -> bool:
        """Whether every cell is decoded."""
        return self._open_count == 0

    def start(self, iteration: int, absent: Iterable[int] = (), doubted: Iterable[int] = ()) -> None:
        """Open all cells for a new iteration.

        Parameters
        ----------
        iteration : int
            Larger than that of any earlier iteration.
        absent : iterable of int
            Workers of whom nothing is expected; what they deliver all the same counts.
        doubted : iterable of int
            Workers whose walks are set aside from the start: `resume` expects them.
        """
        if iteration <= self.iteration:
            raise ValueError(f"iteration: expected more than {self.iteration}, got {iteration}")
        self.iteration = iteration
        self._reset(self._everybody)
        self._open[:] = self._filled
        self._open_count = self._filled.count(1)
        self._expected = [set(slots) for slots in self._walk_slots]
        for worker in doubted:
            self.set_aside(worker)
        for worker in absent:
            self.give_up(worker)

    def skip(self, iteration: int) -> None:
        """Take note that this iteration was carried out, or given up, without the decoder."""
        self.cancel()
        self.iteration = iteration

    def go_on_from(self, other: Decoder) -> None:
        """Count iterations and ignored arrivals on from those of another schedule."""
        self.iteration, self.stale, self.duplicates = other.iteration, other.stale, other.duplicates

    def cancel(self) -> None:
        """Give up the iteration: no cell is open any more."""
        if self._open_count > 0:
            self._open[:] = bytes(len(self._open))
            self._open_count = 0

    def deliver(
        self, iteration: int, worker: int, cell: int, row: int, *, finite: bool = True
    ) -> list[Instruction]:
        """Take note that a worker delivered a row; answer with what is to be done now.

        A payload that is not finite counts as not delivered.
        """
        if iteration != self.iteration:
            self.stale += 1
            return []
        slot = self._offsets[cell] + row
        expected = slot in self._expected[worker]
        self._set_aside[worker].discard(slot)
        arrived = self._arrived.setdefault(cell, {})
        if not self._open[cell] or row in arrived:
            if expected:
                self._cancel(worker, slot)
            self.duplicates += 1
            return []
        if not finite:
            if expected:
                self._cancel(worker, slot)
            self._rejections[slot] = self._rejections.get(slot, 0) + 1
            self._rejected_by.setdefault(slot, set()).add(worker)
            return []
        if self._expecting[slot] == 0:  # nobody was expected to
            self._reachable[cell] += 1
        arrived[row] = worker
        if expected:
            self._cancel(worker, slot)
        if len(arrived) < self._required[cell]:
            return []
        return self._try_decode(cell)

    def deliver_sum(self, worker: int, slots: Iterable[int]) -> list[BlockComplete]:
        """Take note of rows that a worker delivered as one sum; blocks that are complete now.

        They are of this iteration and of open cells, any one row of which is the whole cell, so nothing is to
        be decoded.
        """
        complete: list[BlockComplete] = []
        for slot in slots:
            cell = self._cell_of_slot[slot]
            self._arrived[cell] = {slot - self._offsets[cell]: worker}
            if self._expecting[slot] == 0:  # nobody was expected to
                self._reachable[cell] += 1
            complete += self._close(cell, (worker,))
        return complete

    def expect(self, worker: int, cell: int, row: int) -> None:
        """Take note that a worker was told to visit a row, over and above its walk."""
        slot = self._offsets[cell] + row
        if slot in self._expected[worker]:
            return
        self._expected[worker].add(slot)
        if self._expecting[slot] == 0 and row not in self._arrived.get(cell, {}):
            self._reachable[cell] += 1
        self._expecting[slot] += 1

    def give_up(self, worker: int) -> None:
        """Take note that nothing more will come of a worker. What it delivers all the same counts."""
        self.set_aside(worker)
        self._set_aside[worker].clear()

    def set_aside(self, worker: int) -> None:
        """Expect nothing of a worker for now; if it goes on after all, `resume` expects the same again."""
        self._set_aside[worker] |= self._expected[worker]
        for slot in list(self._expected[worker]):
            self._cancel(worker, slot)

    def resume(self, worker: int) -> None:
        """Expect again what was set aside, but for what the worker has delivered since."""
        for slot in sorted(self._set_aside[worker]):
            cell = self._cell_of_slot[slot]
            self.expect(worker, cell, slot - self._offsets[cell])
        self._set_aside[worker].clear()

    def expected_of(self, worker: int) -> list[tuple[int, int]]:
        """Rows of open cells that a worker is expected to deliver: (cell, row), ascending."""
        cells = ((self._cell_of_slot[slot], slot) for slot in sorted(self._expected[worker]))
        return [(c, slot - self._offsets[c]) for c, slot in cells if self._open[c]]

    def is_expecting(self, worker: int) -> bool:
        """Whether a worker is expected to deliver a row of an open cell."""
        return any(self._open[self._cell_of_slot[slot]] for slot in self._expected[worker])

    def unexpected(self, cell: int) -> list[int]:
        """Rows of an open cell that could help: neither here nor expected, nor rejected too often."""
        return [r for r in range(self.schedule.cells[cell].code.rows) if self.is_unexpected(cell, r)]

    def is_unexpected(self, cell: int, row: int) -> bool:
        """Whether a row of an open cell is neither here nor expected, and was not rejected too often."""
        slot = self._offsets[cell] + row
        return bool(
            self._open[cell]
            and self._expecting[slot] == 0
            and row not in self._arrived.get(cell, {})
            and self._rejections.get(slot, 0) < MOST_REJECTIONS
        )

    def short_cells(self) -> list[tuple[int, int]]:
        """Open cells that what is here and expected cannot decode, and how many more rows each needs."""
        short = []
        for c in sorted(self._maybe_short):
            lacking = self.lacking(c)
            if lacking > 0:
                short.append((c, lacking))
            else:
                self._maybe_short.discard(c)
        return short

    def lacking(self, cell: int) -> int:
        """How many rows a cell needs beyond those that are here or expected."""
        if not self._open[cell]:
            return 0
        reachable, required = self._reachable[cell], self._required[cell]
        if cell in self._refused:  # one more than the ones that would not do
            required = max(required, len(self._arrived[cell]) + 1)
        return max(0, required - reachable)

    def reachable(self, cell: int) -> int:
        """How many rows of a cell are here or expected."""
        return self._reachable[cell]

    def refusal(self, cell: int) -> DecodeError | NumericalError | None:
        """Why the rows of a cell at hand, though enough in number, were not accepted, if so."""
        return self._refused.get(cell)

    def rejected_by(self, cell: int, row: int) -> frozenset[int]:
        """Workers that sent values for this row that are not finite."""
        return frozenset(self._rejected_by.get(self._offsets[cell] + row, ()))

    def _cancel(self, worker: int, slot: int) -> None:
        self._expected[worker].discard(slot)
        self._expecting[slot] -= 1
        cell = self._cell_of_slot[slot]
        if self._expecting[slot] > 0 or slot - self._offsets[cell] in self._arrived.get(cell, ()):
            return
        self._reachable[cell] -= 1
        self._maybe_short.add(cell)

    def _try_decode(self, cell: int) -> list[Instruction]:
        arrived = self._arrived[cell]
        rows = tuple(sorted(arrived))  # sorted: the sum does not depend on the order of arrival
        code = self.schedule.cells[cell].code
        try:
            vector = code.decoding_vector(rows, self._payload)
        except (DecodeError, NumericalError) as error:  # one more row may help
            self._refused[cell] = error
            self._maybe_short.add(cell)
            return []
        if len(rows) > 1 and not vector.all():
            used = np.flatnonzero(vector)
            rows, vector = tuple(rows[i] for i in used), vector[used]
        workers = tuple([arrived[row] for row in rows])
        return [DecodeCell(cell, rows, workers, vector), *self._close(cell, workers)]

    def _close(self, cell: int, workers: tuple[int, ...]) -> list[BlockComplete]:
        """Take note that a cell is decoded; blocks that are complete now."""
        self._open[cell] = 0
        self._open_count -= 1
        self._contributors[cell] = workers
        complete: list[BlockComplete] = []
        for block in self._blocks_of_cell[cell]:
            self._open_in_block[block] -= 1
            if self._open_in_block[block] == 0:
                contributors = {w for c in self._cells_of_block[block] for w in self._contributors[c]}
                complete.append(BlockComplete(block, tuple(sorted(contributors))))
        return complete
