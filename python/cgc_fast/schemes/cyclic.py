"""Cyclic block coding: one block of coordinates a redundancy level [WANG22], in groups where asked for."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import ArrayLike

from cgc_fast.arguments import integer
from cgc_fast.codes import CyclicCode
from cgc_fast.errors import NumericalError
from cgc_fast.partition import as_block_sizes
from cgc_fast.schedule import Cell, Payload, Schedule, Walk
from cgc_fast.schemes.cyclic_groups import CyclicGroup, cyclic_groups
from cgc_fast.schemes.fractional_repetition import GroupedBlock, repetition_block

__all__ = ["cyclic_schedule"]

logger = logging.getLogger(__name__)


def cyclic_schedule(
    workers: int,
    coordinates: int,
    block_sizes: ArrayLike,
    seed: int = 0,
    payload: Payload = "float64",
    substitute: bool = False,
    grouped: bool = False,
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
        At a level n whose cyclic code leaves too little of such payloads, put a code in its place that
        tolerates as many stragglers, and log a warning for each: cyclic codes in groups (as with `grouped`),
        those of the least level n' >= n that do, for (n' + 1) / (n + 1) times the work, unless fractional
        repetition with floor(N / (n + 1)) groups takes no more, which is at most twice as much. To know that,
        all matrices are made.
    grouped : bool
        Cyclic codes in groups [OZFATURA19]: level n has floor(N / (n + 1)) contiguous groups of n + 1 members
        at least; a group of m computes m / N of the samples under a cyclic code of its own, in which
        gcd(m, n + 1) neighbours share a row, or under a RepetitionCode where m = n + 1 (`CyclicGroup`); their
        sizes are those that decode soonest (`cyclic_groups`). A worker computes as many derivatives as
        without groups and sends as much, any n stragglers are tolerated, and as soon as N - n workers have
        answered all groups are done, mostly sooner. The parts that a worker computes at different levels need
        not nest: it may hold more samples, and pay more for forward passes.

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
    for level in np.flatnonzero(sizes).tolist():
        groups = cyclic_groups(workers, level) if grouped or level == 0 else (CyclicGroup(workers, level),)
        block = _cyclic_block(groups, bounds[level], bounds[level + 1], seed)
        if substitute:
            block = _kept_block(block, level, seed, payload)
        visits.append(len(cells) + block.group)
        rows.append(block.row)
        cells += block.cells

    walks = map(Walk, np.stack(visits, axis=1), np.stack(rows, axis=1))
    return Schedule(workers, coordinates, tuple(cells), tuple(walks), payload=payload)


def _cyclic_block(groups: tuple[CyclicGroup, ...], start: int, stop: int, seed: int) -> GroupedBlock:
    """Every group has as many N-ths of the samples as members, under a cyclic code of its own."""
    members = [group.members for group in groups]
    workers = sum(members)
    codes = {group: group.code(seed) for group in set(groups)}
    ends = np.cumsum(members).tolist()
    cells = [
        Cell(start, stop, (end - group.members) / workers, end / workers, codes[group])
        for group, end in zip(groups, ends, strict=True)
    ]
    rows = np.concatenate([group.rows() for group in groups])
    return GroupedBlock(cells, np.repeat(np.arange(len(groups)), members), rows)


def _kept_block(block: GroupedBlock, redundancy: int, seed: int, payload: Payload) -> GroupedBlock:
    """The block, or the one of least work in its place whose codes keep their promises, logged."""
    error = _refusal(block, payload)
    if error is None:
        return block
    workers = len(block.group)
    start, stop = block.cells[0].start, block.cells[0].stop
    groups = workers // (redundancy + 1)
    made, work = repetition_block(workers, groups, start, stop), workers / groups / (redundancy + 1)
    for more in range(redundancy, workers):
        if (more + 1) / (redundancy + 1) >= work:
            break
        grouped = _cyclic_block(cyclic_groups(workers, more), start, stop, seed)
        if grouped.cells != block.cells and _refusal(grouped, payload) is None:
            made, work = grouped, (more + 1) / (redundancy + 1)
            break
    coded = any(isinstance(cell.code, CyclicCode) for cell in made.cells)
    logger.warning(
        "level %d: %d groups under %s and %.3g times the work in place of a code: %s",
        redundancy,
        len(made.cells),
        "cyclic codes" if coded else "fractional repetition",
        work,
        error,
    )
    return made


def _refusal(block: GroupedBlock, payload: Payload) -> NumericalError | None:
    """Why a code of the block can keep no promise, if that is so."""
    for code in dict.fromkeys(cell.code for cell in block.cells):
        try:
            if isinstance(code, CyclicCode):
                code.profile  # noqa: B018  a matrix that keeps the promise for float64 may not be found either
                code.promise_for(payload)
        except NumericalError as error:
            return error
    return None
