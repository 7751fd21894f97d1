"""Fractional repetition: at every level the workers form groups that repeat each other's work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgc_fast.arguments import integer
from cgc_fast.codes import RepetitionCode
from cgc_fast.errors import ArgumentTypeError
from cgc_fast.partition import as_block_sizes
from cgc_fast.schedule import Cell, Schedule, Walk
from cgc_fast.schemes.circles import Block, circle_schedule

__all__ = ["GroupedBlock", "fractional_repetition_schedule", "group_members"]


class GroupedBlock(NamedTuple):
    """Cells of a block, one a group, and which of them (N,) and which row of it (N,) each worker visits."""

    cells: list[Cell]
    group: NDArray[np.int64]
    row: NDArray[np.int64]


def group_members(
    workers: int, groups: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Group floor(w g / N) of each worker (N,), its place there (N,), and how many each group has (g,)."""
    everyone = np.arange(workers)
    group = everyone * groups // workers
    first_members = np.searchsorted(group, np.arange(groups + 1))
    return group, everyone - first_members[group], np.diff(first_members)


def _repetition_block(workers: int, groups: int, start: int, stop: int) -> GroupedBlock:
    """Fractional repetition: every group has an equal share of the samples, which any one member delivers."""
    group, place, sizes = group_members(workers, groups)
    codes = {members: RepetitionCode(members) for members in sizes.tolist()}
    cells = [
        Cell(start, stop, k / groups, (k + 1) / groups, codes[members])
        for k, members in enumerate(sizes.tolist())
    ]
    return GroupedBlock(cells, group, place)


def fractional_repetition_schedule(
    workers: int,
    coordinates: int,
    block_sizes: ArrayLike | None = None,
    *,
    blocks: Sequence[Block | Mapping[str, Any]] | None = None,
    boundaries: Sequence[int] | None = None,
) -> Schedule:
    """Fractional repetition blocks: g groups of workers share the samples, each group repeats its g-th.

    Level n has g = floor(N / (n + 1)) groups; worker w is in group floor(w g / N), of floor(N / g) or
    ceil(N / g) members. Cell k of a block is the block x samples [k / g, (k + 1) / g) under a
    RepetitionCode of group k, and any one member delivers it: no coefficients, and a block often decodes
    long before N - n workers have answered. Levels with the same g are one block. The walks take the blocks
    in ascending order of redundancy.

    Parameters
    ----------
    workers, coordinates : int
        N and L, >= 1.
    block_sizes : array-like of int, shape (N,)
        x: how many coordinates each level gets; sum L. Levels with none are left out.
    blocks : sequence of Block, or of their JSON forms
        Instead of `block_sizes`: blocks with any numbers of groups, composed at will.
    boundaries : sequence of int, optional
        With `blocks`: where these may begin and end; every cut is moved to the nearest one.
    """
    if blocks is not None and block_sizes is None:
        return circle_schedule(workers, coordinates, blocks, boundaries=boundaries)
    if blocks is not None or block_sizes is None:
        raise ArgumentTypeError("fractional_repetition: expected either block_sizes or blocks")
    workers, coordinates = integer("workers", workers, 1), integer("coordinates", coordinates, 1)
    sizes = as_block_sizes(block_sizes, workers, coordinates)
    groups_of_level = workers // np.arange(1, workers + 1)
    groups, first_levels = np.unique(groups_of_level, return_index=True)
    order = np.argsort(first_levels)
    widths = np.add.reduceat(sizes, first_levels[order])

    cells: list[Cell] = []
    visits: list[np.ndarray] = []  # by block: the cell of each worker
    rows: list[np.ndarray] = []
    start = 0
    for g, width in zip(groups[order].tolist(), widths.tolist(), strict=True):
        if width == 0:
            continue
        block, group, row = _repetition_block(workers, g, start, start + width)
        visits.append(len(cells) + group)
        rows.append(row)
        cells += block
        start += width

    walks = map(Walk, np.stack(visits, axis=1), np.stack(rows, axis=1))
    return Schedule(workers, coordinates, tuple(cells), tuple(walks))
