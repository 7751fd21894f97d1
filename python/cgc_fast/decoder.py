"""The master's side of one iteration as a pure state machine.

Arrivals and losses go in, instructions come out: "decode cell c from rows R with vector a", "block b is
complete". No process, clock, I/O or kernel is touched; the host executes the instructions. Arrivals are keyed
(iteration, cell, row), so late, duplicate, stale and reordered ones change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cgc_fast.errors import DecodeError, NumericalError
from cgc_fast.schedule import Schedule

__all__ = ["BlockComplete", "DecodeCell", "Decoder", "Failure", "Instruction"]


@dataclass(frozen=True)
class DecodeCell:
    """Instruction: add Σ vector[i] · payload(sources[i]) to the gradient over the cell's coordinates.

    `sources` names the payloads as (worker, index of the visit in that worker's walk).
    """

    cell: int
    rows: tuple[int, ...]
    sources: tuple[tuple[int, int], ...]
    vector: NDArray[np.float64]


@dataclass(frozen=True)
class BlockComplete:
    """Instruction: every cell over this block is decoded; deliver it. `workers` contributed, ascending."""

    block: int
    workers: tuple[int, ...]


Instruction = DecodeCell | BlockComplete


@dataclass(frozen=True)
class Failure:
    """Why the iteration can never complete.

    `lost`, `silent`, `rejected`: workers that would have delivered a missing row of the cell but are gone,
    never answer in this iteration, or sent non-finite values. `refused`: why the rows at hand, though enough
    in number, were not accepted (the numerical guard, as a rule).
    """

    cell: int
    required_rows: int
    available_rows: int
    lost: tuple[int, ...]
    silent: tuple[int, ...]
    rejected: tuple[int, ...]
    refused: DecodeError | NumericalError | None


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
        Arrivals that were ignored: of another iteration or from a worker given up; of a row that had arrived,
        or of a decoded cell.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.iteration = 0
        self.stale = 0
        self.duplicates = 0
        cells = schedule.cells
        rows = np.array([cell.code.rows for cell in cells], dtype=np.int64)
        self._row_offset = np.concatenate([[0], np.cumsum(rows)])
        self._row_ids = [self._row_offset[walk.cells] + walk.rows for walk in schedule.walks]
        self._required = np.array([cell.code.required_rows for cell in cells], dtype=np.int64)
        self._blocks_of_cell = [schedule.cell_blocks(c) for c in range(len(cells))]
        self._cells_of_block: list[list[int]] = [[] for _ in schedule.blocks]
        for c, blocks in enumerate(self._blocks_of_cell):
            if not cells[c].is_empty:
                for block in blocks:
                    self._cells_of_block[block].append(c)
        self._lost: set[int] = set()
        self._silent: frozenset[int] = frozenset()
        self.open_cells = np.zeros(len(cells), dtype=bool)
        self._reset()

    def _reset(self) -> None:
        cells = self.schedule.cells
        self._open_count = 0
        # How many visits may still deliver each row; how many rows of each cell are here or may come.
        self._pending = np.zeros(int(self._row_offset[-1]), dtype=np.int64)
        self._reachable = np.zeros(len(cells), dtype=np.int64)
        self._answered: list[set[int]] = [set() for _ in self.schedule.walks]
        self._arrived: dict[int, dict[int, tuple[int, int]]] = {}
        self._rejected: set[int] = set()
        self._contributors: dict[int, tuple[int, ...]] = {}
        self._open_in_block = [len(cells_over) for cells_over in self._cells_of_block]
        self._refused: dict[int, DecodeError | NumericalError] = {}
        self._failure: Failure | None = None

    @property
    def done(self) -> bool:
        """Whether every cell is decoded."""
        return self._open_count == 0

    @property
    def lost(self) -> frozenset[int]:
        """Workers that are gone for good."""
        return frozenset(self._lost)

    @property
    def failure(self) -> Failure | None:
        """Why the iteration can never complete; None as long as it can."""
        return self._failure

    def start(self, iteration: int, silent: Iterable[int] = ()) -> None:
        """Open all cells for a new iteration.

        Parameters
        ----------
        iteration : int
            Larger than that of any earlier iteration.
        silent : iterable of int
            Workers that are known never to answer in this iteration.
        """
        if iteration <= self.iteration:
            raise ValueError(f"iteration: expected more than {self.iteration}, got {iteration}")
        self.iteration = iteration
        self._silent = frozenset(silent)
        self._reset()
        for c, cell in enumerate(self.schedule.cells):
            self.open_cells[c] = not cell.is_empty
        self._open_count = int(self.open_cells.sum())
        for worker, ids in enumerate(self._row_ids):
            if worker not in self._lost and worker not in self._silent:
                np.add.at(self._pending, ids, 1)
        np.add.at(
            self._reachable,
            np.repeat(np.arange(len(self._reachable)), np.diff(self._row_offset)),
            self._pending > 0,
        )
        hopeless = np.flatnonzero(self.open_cells & (self._reachable < self._required))
        if len(hopeless):
            self._fail(int(hopeless[0]))

    def deliver(self, iteration: int, worker: int, visit: int, *, finite: bool = True) -> list[Instruction]:
        """Take note that a worker completed a visit of its walk; answer with what is to be done now.

        A payload that is not finite counts as not delivered.
        """
        if iteration != self.iteration or worker in self._lost or worker in self._silent:
            self.stale += 1
            return []
        walk = self.schedule.walks[worker]
        cell, row = int(walk.cells[visit]), int(walk.rows[visit])
        if visit in self._answered[worker]:
            self.duplicates += 1
            return []
        self._answered[worker].add(visit)
        self._pending[self._row_offset[cell] + row] -= 1
        arrived = self._arrived.setdefault(cell, {})
        if not self.open_cells[cell] or row in arrived:
            self.duplicates += 1
            return []
        if not finite:
            self._rejected.add(worker)
            self._row_gone(cell, row)
            return []
        arrived[row] = (worker, visit)
        if len(arrived) < self._required[cell]:
            return []
        return self._try_decode(cell)

    def lose(self, worker: int) -> None:
        """Take note that a worker is gone for good: what it has not delivered will not come from it."""
        if worker in self._lost:
            return
        self._lost.add(worker)
        if self.done or worker in self._silent:
            return
        walk = self.schedule.walks[worker]
        for visit in range(len(walk.cells)):
            if visit not in self._answered[worker]:
                cell, row = int(walk.cells[visit]), int(walk.rows[visit])
                self._pending[self._row_offset[cell] + row] -= 1
                self._row_gone(cell, row)

    def _row_gone(self, cell: int, row: int) -> None:
        if self._pending[self._row_offset[cell] + row] > 0 or row in self._arrived.get(cell, {}):
            return
        self._reachable[cell] -= 1
        if not self.open_cells[cell] or self._failure is not None:
            return
        nothing_more_comes = self._reachable[cell] == len(self._arrived.get(cell, {}))
        if self._reachable[cell] < self._required[cell] or (cell in self._refused and nothing_more_comes):
            self._fail(cell)

    def _try_decode(self, cell: int) -> list[Instruction]:
        arrived = self._arrived[cell]
        rows = tuple(sorted(arrived))  # sorted: the sum does not depend on the order of arrival
        code = self.schedule.cells[cell].code
        try:
            vector = code.decoding_vector(rows)
        except (DecodeError, NumericalError) as error:  # one more row may help
            self._refused[cell] = error
            if self._reachable[cell] == len(arrived):
                self._fail(cell)
            return []
        used = np.flatnonzero(vector)
        rows = tuple(rows[i] for i in used)
        sources = tuple(arrived[row] for row in rows)
        self.open_cells[cell] = False
        self._open_count -= 1
        del self._arrived[cell]
        self._contributors[cell] = tuple(worker for worker, _ in sources)
        instructions: list[Instruction] = [DecodeCell(cell, rows, sources, vector[used])]
        for block in self._blocks_of_cell[cell]:
            self._open_in_block[block] -= 1
            if self._open_in_block[block] == 0:
                workers = {w for c in self._cells_of_block[block] for w in self._contributors[c]}
                instructions.append(BlockComplete(block, tuple(sorted(workers))))
        return instructions

    def _fail(self, cell: int) -> None:
        visitors = {
            worker
            for worker, walk in enumerate(self.schedule.walks)
            for visit in np.flatnonzero(walk.cells == cell)
            if int(visit) not in self._answered[worker] or worker in self._rejected
        }
        self._failure = Failure(
            cell=cell,
            required_rows=int(self._required[cell]),
            available_rows=int(self._reachable[cell]),
            lost=tuple(sorted(visitors & self._lost)),
            silent=tuple(sorted(visitors & self._silent - self._lost)),
            rejected=tuple(sorted(visitors & self._rejected)),
            refused=self._refused.get(cell),
        )
