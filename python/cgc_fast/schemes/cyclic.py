"""Cyclic block coding: one block of coordinates a redundancy level [WANG22]."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import ArrayLike

from cgc_fast.arguments import integer
from cgc_fast.codes import CyclicCode
from cgc_fast.errors import NumericalError
from cgc_fast.partition import as_block_sizes
from cgc_fast.schedule import Cell, Payload, Schedule, Walk
from cgc_fast.schemes.fractional_repetition import repetition_block

__all__ = ["cyclic_schedule"]

logger = logging.getLogger(__name__)


def cyclic_schedule(
    workers: int,
    coordinates: int,
    block_sizes: ArrayLike,
    seed: int = 0,
    payload: Payload = "float64",
    substitute: bool = False,
) -> Schedule:
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
    payload : {"float64", "float32"}
        What partial derivatives are sent as.
    substitute : bool
        Put fractional repetition with floor(N / (n + 1)) groups, which tolerates as many stragglers, in the
        place of a level's cyclic code that leaves too little of such payloads, and log a warning for each. To
        know that, all matrices are made.

    Raises
    ------
    ArgumentValueError
        A cyclic code leaves too little of float32 payloads.
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
        repeats = level in (0, workers - 1)
        if not repeats:
            code = CyclicCode(workers, level, seed=seed)
            repeats = substitute and _is_refused(code, payload)
        if repeats:
            block, cell, row = repetition_block(workers, workers // (level + 1), start, stop)
        else:
            block, cell, row = [Cell(start, stop, 0.0, 1.0, code)], np.zeros_like(everyone), everyone
        visits.append(len(cells) + cell)
        rows.append(row)
        cells += block

    walks = map(Walk, np.stack(visits, axis=1), np.stack(rows, axis=1))
    return Schedule(workers, coordinates, tuple(cells), tuple(walks), payload=payload)


def _is_refused(code: CyclicCode, payload: Payload) -> bool:
    """Whether no promise can be kept, logged."""
    try:
        code.profile  # noqa: B018  a matrix that keeps the promise for float64 may not be found either
        code.promise_for(payload)
    except NumericalError as error:
        groups = code.workers // (code.redundancy + 1)
        work = code.workers / groups / (code.redundancy + 1)
        logger.warning(
            "level %d: fractional repetition with %d groups and %.3g times the work in place of a code: %s",
            code.redundancy,
            groups,
            work,
            error,
        )
        return True
    return False
