"""Cyclic block coding: one block of coordinates a redundancy level [WANG22]."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cgc_fast.arguments import integer
from cgc_fast.codes import CyclicCode, RepetitionCode
from cgc_fast.partition import as_block_sizes
from cgc_fast.schedule import Cell, Schedule, Walk

__all__ = ["cyclic_schedule"]


def cyclic_schedule(workers: int, coordinates: int, block_sizes: ArrayLike, seed: int = 0) -> Schedule:
    """Block coordinate gradient coding with a cyclic code at every level [WANG22] [TANDON17].

    Level n has one cell, its block x all samples under CyclicCode(N, n), and worker w visits row w of it; the
    walks take the levels in ascending order. The two ends need no coefficients and have the same costs
    without: level 0 is N cells, each the part of one worker, and at level N - 1 every worker computes the
    plain sum over all samples.

    Parameters
    ----------
    workers, coordinates : int
        N and L, >= 1.
    block_sizes : array-like of int, shape (N,)
        x: how many coordinates each level gets; sum L. Levels with none are left out.
    seed : int
        Of the encoding matrices.
    """
    workers, coordinates = integer("workers", workers, 1), integer("coordinates", coordinates, 1)
    sizes = as_block_sizes(block_sizes, workers, coordinates)
    bounds = np.concatenate([[0], np.cumsum(sizes)]).tolist()

    cells: list[Cell] = []
    visits: list[np.ndarray] = []  # by level: the cell of each worker
    rows: list[np.ndarray] = []
    everyone = np.arange(workers)
    for level in np.flatnonzero(sizes).tolist():
        start, stop = bounds[level], bounds[level + 1]
        if level == 0:
            visits.append(len(cells) + everyone)
            rows.append(np.zeros(workers, dtype=np.int64))
            alone = RepetitionCode(1)
            cells += [Cell(start, stop, w / workers, (w + 1) / workers, alone) for w in range(workers)]
        else:
            visits.append(np.full(workers, len(cells)))
            rows.append(everyone)
            plain = level == workers - 1
            code = RepetitionCode(workers) if plain else CyclicCode(workers, level, seed=seed)
            cells.append(Cell(start, stop, 0.0, 1.0, code))

    walks = map(Walk, np.stack(visits, axis=1), np.stack(rows, axis=1))
    return Schedule(workers, coordinates, tuple(cells), tuple(walks))
