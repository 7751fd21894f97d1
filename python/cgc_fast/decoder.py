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

import numpy as np
from numpy.typing import NDArray

from cgc_fast.errors import DecodeError, NumericalError
from cgc_fast.schedule import Schedule

__all__ = ["BlockComplete", "DecodeCell", "Decoder", "Instruction"]

# A row whose payload was not finite so often is given up: the fault lies with the numbers, not with a worker.
MOST_REJECTIONS = 2


@dataclass(frozen=True)
class DecodeCell:
    """Instruction: add Σ vector[i] · payload(workers[i], cell, rows[i]) over the cell's coordinates."""

    cell: int
    rows: tuple[int, ...]
    workers: tuple[int, ...]
    vector: NDArray[np.float64]


@dataclass(frozen=True)
class BlockComplete:
    """Instruction: every cell over this block is decoded; deliver it. `workers` contributed, ascending."""

    block: int
    workers: tuple[int, ...]


Instruction = DecodeCell | BlockComplete


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
    open_cells : ndarray of bool (cells,)
        Which cells are not decoded yet. Hosts may look at it at any time; only the decoder writes.
    stale, duplicates : int
        Arrivals that were ignored: of another iteration; of a row that had arrived, or of a decoded cell.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.iteration = 0
        self.stale = 0
        self.duplicates = 0
        cells = schedule.cells
        self._offsets = schedule.row_offsets
        self._cell_of_slot = np.repeat(np.arange(len(cells)), np.diff(self._offsets))
        self._walk_slots = [self._offsets[walk.cells] + walk.rows for walk in schedule.walks]
        self._required = [cell.code.required_rows for cell in cells]
        self._blocks_of_cell = [schedule.cell_blocks(c) for c in range(len(cells))]
        self._cells_of_block: list[list[int]] = [[] for _ in schedule.blocks]
        for c, blocks in enumerate(self._blocks_of_cell):
            if not cells[c].is_empty:
                for block in blocks:
                    self._cells_of_block[block].append(c)
        self.open_cells = np.zeros(len(cells), dtype=bool)
        self._reset()

    def _reset(self) -> None:
        cells = self.schedule.cells
        self._open_count = 0
        self._expected: list[set[int]] = [set() for _ in self.schedule.walks]  # slots, by worker
        # What workers that nobody counts on would deliver if they went on after all: slots, by worker.
        self._set_aside: list[set[int]] = [set() for _ in self.schedule.walks]
        self._expecting = np.zeros(int(self._offsets[-1]), dtype=np.int64)  # how many workers, by slot
        # How many rows of a cell are here or expected.
        self._reachable = np.zeros(len(cells), dtype=np.int64)
        self._arrived: dict[int, dict[int, int]] = {}  # cell -> row -> worker
        self._rejections: dict[int, int] = {}  # slot -> payloads that were not finite
        self._rejected_by: dict[int, set[int]] = {}  # slot -> who sent them
        self._contributors: dict[int, tuple[int, ...]] = {}
        self._open_in_block = [len(cells_over) for cells_over in self._cells_of_block]
        self._refused: dict[int, DecodeError | NumericalError] = {}
        self._maybe_short: set[int] = set()

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
        self._reset()
        for c, cell in enumerate(self.schedule.cells):
            self.open_cells[c] = not cell.is_empty
        self._open_count = int(self.open_cells.sum())
        nobody, aside = frozenset(absent), frozenset(doubted)
        for worker, slots in enumerate(self._walk_slots):
            if worker in nobody:
                continue
            if worker in aside:
                self._set_aside[worker].update(slots.tolist())
            else:
                self._expected[worker].update(slots.tolist())
                np.add.at(self._expecting, slots, 1)
        np.add.at(self._reachable, self._cell_of_slot, self._expecting > 0)
        self._maybe_short.update(np.flatnonzero(self._reachable < self._required).tolist())

    def cancel(self) -> None:
        """Give up the iteration: no cell is open any more."""
        self.open_cells[:] = False
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
        slot = int(self._offsets[cell]) + row
        expected = slot in self._expected[worker]
        self._set_aside[worker].discard(slot)
        arrived = self._arrived.setdefault(cell, {})
        if not self.open_cells[cell] or row in arrived:
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

    def expect(self, worker: int, cell: int, row: int) -> None:
        """Take note that a worker was told to visit a row, over and above its walk."""
        slot = int(self._offsets[cell]) + row
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
            cell = int(self._cell_of_slot[slot])
            self.expect(worker, cell, slot - int(self._offsets[cell]))
        self._set_aside[worker].clear()

    def expected_of(self, worker: int) -> list[tuple[int, int]]:
        """Rows of open cells that a worker is expected to deliver: (cell, row), ascending."""
        slots = sorted(self._expected[worker])
        cells = self._cell_of_slot[slots].tolist()
        return [
            (c, slot - int(self._offsets[c]))
            for slot, c in zip(slots, cells, strict=True)
            if self.open_cells[c]
        ]

    def is_expecting(self, worker: int) -> bool:
        """Whether a worker is expected to deliver a row of an open cell."""
        return any(self.open_cells[self._cell_of_slot[slot]] for slot in self._expected[worker])

    def unexpected(self, cell: int) -> list[int]:
        """Rows of an open cell that could help: neither here nor expected, nor rejected too often."""
        return [r for r in range(self.schedule.cells[cell].code.rows) if self.is_unexpected(cell, r)]

    def is_unexpected(self, cell: int, row: int) -> bool:
        """Whether a row of an open cell is neither here nor expected, and was not rejected too often."""
        slot = int(self._offsets[cell]) + row
        return bool(
            self.open_cells[cell]
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
        if not self.open_cells[cell]:
            return 0
        reachable, required = int(self._reachable[cell]), self._required[cell]
        if cell in self._refused:  # one more than the ones that would not do
            required = max(required, len(self._arrived[cell]) + 1)
        return max(0, required - reachable)

    def reachable(self, cell: int) -> int:
        """How many rows of a cell are here or expected."""
        return int(self._reachable[cell])

    def refusal(self, cell: int) -> DecodeError | NumericalError | None:
        """Why the rows of a cell at hand, though enough in number, were not accepted, if so."""
        return self._refused.get(cell)

    def rejected_by(self, cell: int, row: int) -> frozenset[int]:
        """Workers that sent values for this row that are not finite."""
        return frozenset(self._rejected_by.get(int(self._offsets[cell]) + row, ()))

    def _cancel(self, worker: int, slot: int) -> None:
        self._expected[worker].discard(slot)
        self._expecting[slot] -= 1
        cell = int(self._cell_of_slot[slot])
        if self._expecting[slot] > 0 or slot - int(self._offsets[cell]) in self._arrived.get(cell, {}):
            return
        self._reachable[cell] -= 1
        self._maybe_short.add(cell)

    def _try_decode(self, cell: int) -> list[Instruction]:
        arrived = self._arrived[cell]
        rows = tuple(sorted(arrived))  # sorted: the sum does not depend on the order of arrival
        code = self.schedule.cells[cell].code
        try:
            vector = code.decoding_vector(rows)
        except (DecodeError, NumericalError) as error:  # one more row may help
            self._refused[cell] = error
            self._maybe_short.add(cell)
            return []
        used = np.flatnonzero(vector)
        rows = tuple(rows[i] for i in used)
        workers = tuple(arrived[row] for row in rows)
        self.open_cells[cell] = False
        self._open_count -= 1
        self._contributors[cell] = workers
        instructions: list[Instruction] = [DecodeCell(cell, rows, workers, vector[used])]
        for block in self._blocks_of_cell[cell]:
            self._open_in_block[block] -= 1
            if self._open_in_block[block] == 0:
                contributors = {w for c in self._cells_of_block[block] for w in self._contributors[c]}
                instructions.append(BlockComplete(block, tuple(sorted(contributors))))
        return instructions
