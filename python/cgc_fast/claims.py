"""What workers learn of each other during an iteration: which cells are announced, claimed, committed.

A *board* keeps, for every cell, whether the master has announced it as decoded, how many workers claimed it,
and who committed it; and for every worker a *generation*. A commitment holds as long as its worker's
generation is the one that it was made in. So all that a worker has committed is withdrawn, in one step and at
any moment, by counting its generation up, and a sum that it began before is recognised and refused. What is
announced stays taken whatever becomes of its worker.

Claims are advice, which spares work; a commitment decides. A cell enters a sum only after `commit` said so,
and the master takes a sum only while its generation is current, so no cell is ever in two sums that count.

`Board` is what a worker sees. `ClaimTable` is the board in plain Python, for engines that keep it in one
process; the process engine has it in shared memory (`_core.Board`), where each of these steps is atomic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Board", "ClaimTable", "WorkerBoard"]


class Board(Protocol):
    """The board as one worker sees it. Cells are numbers in the schedule."""

    def generation(self) -> int:
        """The worker's generation: another number than before means that all it committed is withdrawn."""

    def is_announced(self, iteration: int, cell: int) -> bool:
        """Whether the cell is decoded."""

    def is_taken(self, iteration: int, cell: int) -> bool:
        """Whether the cell is decoded, or committed by a worker that still counts."""

    def claimants(self, iteration: int, cell: int) -> int:
        """How many workers have claimed the cell."""

    def claim_free(self, iteration: int, cells: NDArray[np.int64], begin: int) -> int:
        """Claim the first of `cells[begin:]` that nobody has claimed: its index, or ``len(cells)``.

        No claim is ever given back within an iteration, so the next call may begin behind this one.
        """

    def claim_again(self, iteration: int, cells: NDArray[np.int64]) -> int:
        """Claim the first of those cells, not taken, that have the fewest claimants: its index, or -1."""

    def commit(self, iteration: int, generation: int, cell: int) -> bool:
        """Whether the cell may enter the worker's sum of this generation; true once."""


@dataclass
class ClaimTable:
    """The board in plain Python: the slow twin of `_core.Board`, with the same methods.

    Parameters
    ----------
    workers, cells : int
    """

    workers: int
    cells: int
    _generations: list[int] = field(init=False)
    _owners: list[tuple[int, int, int]] = field(init=False)  # iteration, worker, generation
    _claims: list[tuple[int, int]] = field(init=False)  # iteration, claimants
    _announced: list[int] = field(init=False)  # iteration

    def __post_init__(self) -> None:
        self._generations = [0] * self.workers
        self._owners = [(0, 0, 0)] * self.cells
        self._claims = [(0, 0)] * self.cells
        self._announced = [0] * self.cells

    def announce(self, iteration: int, cell: int) -> None:
        """Say that a cell is decoded."""
        self._announced[cell] = iteration

    def withdraw(self, worker: int) -> None:
        """End the worker's generation: what it committed does not hold any longer."""
        self._generations[worker] += 1

    def generation(self, worker: int) -> int:
        """See `Board`."""
        return self._generations[worker]

    def is_announced(self, iteration: int, cell: int) -> bool:
        """See `Board`."""
        return self._announced[cell] >= iteration

    def is_taken(self, iteration: int, cell: int) -> bool:
        """See `Board`; of an iteration that is over everything is."""
        since, worker, generation = self._owners[cell]
        if since != iteration:
            return since > iteration or self.is_announced(iteration, cell)
        return generation == self._generations[worker] or self.is_announced(iteration, cell)

    def all_taken(self, iteration: int, cells: NDArray[np.int64]) -> bool:
        """Whether that is so of all these cells."""
        return all(self.is_taken(iteration, int(cell)) for cell in cells)

    def claimants(self, iteration: int, cell: int) -> int:
        """See `Board`."""
        since, count = self._claims[cell]
        return count if since == iteration else 0

    def committed_by(self, iteration: int, cell: int) -> int:
        """Whose commitment of a cell holds: a worker, or -1."""
        since, worker, generation = self._owners[cell]
        return worker if (since, generation) == (iteration, self._generations[worker]) else -1

    def claim_free(self, iteration: int, cells: NDArray[np.int64], begin: int) -> int:
        """See `Board`."""
        for index in range(begin, len(cells)):
            if self._claims[cells[index]][0] < iteration:
                self._claims[cells[index]] = (iteration, 1)
                return index
        return len(cells)

    def claim_again(self, iteration: int, cells: NDArray[np.int64]) -> int:
        """See `Board`."""
        open_cells = [i for i, cell in enumerate(cells) if not self.is_taken(iteration, int(cell))]
        if not open_cells:
            return -1
        best = min(open_cells, key=lambda i: self.claimants(iteration, int(cells[i])))
        if self._claims[cells[best]][0] <= iteration:
            self._claims[cells[best]] = (iteration, self.claimants(iteration, int(cells[best])) + 1)
        return best

    def commit(self, iteration: int, worker: int, generation: int, cell: int) -> bool:
        """See `Board`."""
        if self._generations[worker] != generation or self.is_taken(iteration, cell):
            return False
        self._owners[cell] = (iteration, worker, generation)
        return True


@dataclass(frozen=True)
class WorkerBoard:
    """The `Board` of one worker: a table that all share, seen with its eyes.

    Parameters
    ----------
    table : ClaimTable or _core.Board
    worker : int
    """

    table: Any
    worker: int

    def generation(self) -> int:
        """See `Board`."""
        return int(self.table.generation(self.worker))

    def is_announced(self, iteration: int, cell: int) -> bool:
        """See `Board`."""
        return bool(self.table.is_announced(iteration, cell))

    def is_taken(self, iteration: int, cell: int) -> bool:
        """See `Board`."""
        return bool(self.table.is_taken(iteration, cell))

    def claimants(self, iteration: int, cell: int) -> int:
        """See `Board`."""
        return int(self.table.claimants(iteration, cell))

    def claim_free(self, iteration: int, cells: NDArray[np.int64], begin: int) -> int:
        """See `Board`."""
        return int(self.table.claim_free(iteration, cells, begin))

    def claim_again(self, iteration: int, cells: NDArray[np.int64]) -> int:
        """See `Board`."""
        return int(self.table.claim_again(iteration, cells))

    def commit(self, iteration: int, generation: int, cell: int) -> bool:
        """See `Board`."""
        return bool(self.table.commit(iteration, self.worker, generation, cell))
