"""Cyclic block coding: one block of coordinates a redundancy level [WANG22], in groups where asked for."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from cgc_fast.arguments import integer
from cgc_fast.codes import Code, CyclicCode
from cgc_fast.errors import NumericalError
from cgc_fast.partition import as_block_sizes
from cgc_fast.schedule import Cell, Payload, Schedule, Walk
from cgc_fast.schemes.cyclic_groups import (
    CyclicGroup,
    cyclic_groups,
    expected_answers,
    groups_by_work,
    sizes_of_groups,
    work,
)
from cgc_fast.schemes.fractional_repetition import GroupedBlock

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
        At a level n whose cyclic code has more straggler sets than can be tried, or is known not to keep its
        promise for such payloads on all of them, put codes in its place that tolerate as many stragglers and
        keep theirs on every set there is: cyclic codes in groups of neighbours that share rows
        (`CyclicGroup`), those of least work, and of these those that decode soonest. At worst that is
        fractional repetition. One warning is logged for all of them.
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
    codes: dict[Code, Code] = {}  # equal ones are one, whose matrix is made once

    def code_of(group: CyclicGroup) -> Code:
        code = group.code(seed)
        return codes.setdefault(code, code)

    replaced: dict[int, float] = {}  # level -> how many times the work
    for level in np.flatnonzero(sizes).tolist():
        groups: tuple[CyclicGroup, ...] = (CyclicGroup(workers, level, workers),)
        if grouped or level == 0:
            groups = cyclic_groups(workers, level)
        elif substitute and not _is_kept(code_of(groups[0]), payload):
            groups = _kept_groups(workers, level, code_of, payload)
            replaced[level] = float(work(groups) / Fraction(level + 1, workers))
        block = _cyclic_block(groups, bounds[level], bounds[level + 1], code_of)
        visits.append(len(cells) + block.group)
        rows.append(block.row)
        cells += block.cells

    if replaced:
        most = max(replaced, key=lambda level: replaced[level])
        logger.warning(
            "levels %s: in place of cyclic codes which break their promise for %s payloads on some straggler "
            "set, or have too many to try, codes that keep it on all; %.3g times the work at most (level %d)",
            _ranges(list(replaced)),
            payload,
            replaced[most],
            most,
        )

    walks = map(Walk, np.stack(visits, axis=1), np.stack(rows, axis=1))
    return Schedule(workers, coordinates, tuple(cells), tuple(walks), payload=payload)


def _cyclic_block(
    groups: tuple[CyclicGroup, ...], start: int, stop: int, code_of: Callable[[CyclicGroup], Code]
) -> GroupedBlock:
    """Samples are dealt out so that all workers compute as much."""
    members = [group.members for group in groups]
    everything = work(groups)
    ends = list(itertools.accumulate((everything / group.share for group in groups), initial=Fraction(0)))
    cells = [
        Cell(start, stop, float(low), float(high), code_of(group))
        for group, low, high in zip(groups, ends[:-1], ends[1:], strict=True)
    ]
    rows = np.concatenate([group.row_of_member() for group in groups])
    return GroupedBlock(cells, np.repeat(np.arange(len(groups)), members), rows)


def _kept_groups(
    workers: int, redundancy: int, code_of: Callable[[CyclicGroup], Code], payload: Payload
) -> tuple[CyclicGroup, ...]:
    """Groups of least work, and of these those that decode soonest, whose codes are kept."""

    def best(members: int) -> CyclicGroup:
        by_work = groups_by_work(members, redundancy)
        return next(group for group in by_work if _is_kept(code_of(group), payload))

    options = {tuple(map(best, sizes)) for sizes in sizes_of_groups(workers, redundancy)}
    return min(options, key=lambda groups: (work(groups), expected_answers(groups)))


def _ranges(levels: list[int]) -> str:
    """Of ascending levels, those that follow one another as one: "2, 4-7"."""
    first = [level for level in levels if level - 1 not in levels]
    last = [level for level in levels if level + 1 not in levels]
    return ", ".join(f"{a}-{b}" if a < b else f"{a}" for a, b in zip(first, last, strict=True))


def _is_kept(code: Code, payload: Payload) -> bool:
    """Whether a code is known to keep its promise for such payloads on every straggler set there is."""
    if not isinstance(code, CyclicCode):
        return True
    try:
        return code.has_few_sets and code.profile.worst <= code.promise and code.promise_for(payload) > 0.0
    except NumericalError:  # no matrix keeps the promise, or too little would be left of float32 payloads
        return False
