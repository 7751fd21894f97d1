"""Shared samples: the workers of a group claim pieces of its samples and send one sum each at the end."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from cgc_fast.arguments import integer
from cgc_fast.codes import RepetitionCode
from cgc_fast.errors import ArgumentValueError
from cgc_fast.schedule import Cell, Schedule, Walk
from cgc_fast.schemes.circles import Block

__all__ = ["piece_bounds", "shared_samples_schedule"]


def piece_bounds(pieces: int, ratio: float) -> list[float]:
    """Bounds (pieces + 1,) in [0, 1] of pieces whose sizes fall by equal factors from `ratio` to 1."""
    sizes = ratio ** (1.0 - np.arange(pieces) / max(pieces - 1, 1))
    bounds = np.cumsum(sizes) / sizes.sum()
    return [0.0, *bounds[:-1].tolist(), 1.0]


def shared_samples_schedule(
    workers: int,
    coordinates: int,
    groups: Sequence[Sequence[int]],
    bounds: Sequence[float] | None = None,
    pieces: int = 100,
    ratio: float = 4.0,
) -> Schedule:
    """Groups that share their samples by claims: full-width, low cells, the large ones first.

    A sample is forwarded once and by one worker, whatever the coordinates; each worker sends one sum of L
    values. Member i of a group begins with piece i, so that nobody has to ask for its first, and takes the
    others in falling size; the first pieces of the others come last.

    Parameters
    ----------
    workers, coordinates : int
        N and L, >= 1.
    groups : sequence of sequences of int
        Every worker once.
    bounds : sequence of float, length groups + 1, optional
        Group k shares the samples [bounds[k], bounds[k + 1]), fractions of M; in proportion to its members
        by default.
    pieces : int
        Of each group, at least as many as it has members. The last ones on their way when all are claimed
        are what is computed twice.
    ratio : float
        Largest over smallest piece, >= 1.

    Raises
    ------
    ArgumentValueError
        Groups, bounds, pieces or ratio that make no sense.
    """
    workers, coordinates = integer("workers", workers, 1), integer("coordinates", coordinates, 1)
    if bounds is None:
        seats = list(itertools.accumulate(map(len, groups), initial=0))
        bounds = [seat / seats[-1] for seat in seats]
    shared = Block(coordinates, groups, bounds)
    if shared.workers != workers:
        raise ArgumentValueError(f"groups: expected {workers} workers, got {shared.workers}")
    most = max(map(len, shared.groups))
    pieces = integer("pieces", pieces, most)
    if not ratio >= 1.0:
        raise ArgumentValueError(f"ratio: expected a number >= 1, got {ratio!r}")

    steps = piece_bounds(pieces, ratio)
    cells: list[Cell] = []
    walks = [Walk([], [])] * workers
    order = np.arange(pieces)
    for group, low, high in zip(shared.groups, shared.bounds[:-1], shared.bounds[1:], strict=True):
        code = RepetitionCode(len(group))
        if low == high:
            cells.append(Cell(0, coordinates, low, high, code))
            continue
        cuts = [low + (high - low) * step for step in steps[:-1]] + [high]
        first = len(cells)
        cells += [Cell(0, coordinates, a, b, code) for a, b in itertools.pairwise(cuts)]
        for row, worker in enumerate(group):
            others = np.delete(order[: len(group)], row)
            way = np.concatenate([[row], order[len(group) :], others])
            walks[worker] = Walk(first + way, np.full(pieces, row))
    return Schedule(workers, coordinates, tuple(cells), tuple(walks), "claim")
