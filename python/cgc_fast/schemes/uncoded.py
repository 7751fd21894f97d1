"""Uncoded: every worker sums its own part of the samples, and all of them are waited for."""

from __future__ import annotations

from cgc_fast.arguments import integer
from cgc_fast.codes import RepetitionCode
from cgc_fast.schedule import Cell, Schedule, Walk

__all__ = ["uncoded_schedule"]


def uncoded_schedule(workers: int, coordinates: int) -> Schedule:
    """Plain data parallelism: one cell a worker, all coordinates x its N-th of the samples.

    Parameters
    ----------
    workers, coordinates : int
        N and L, >= 1.
    """
    workers, coordinates = integer("workers", workers, 1), integer("coordinates", coordinates, 1)
    alone = RepetitionCode(1)
    cells = tuple(Cell(0, coordinates, w / workers, (w + 1) / workers, alone) for w in range(workers))
    return Schedule(workers, coordinates, cells, tuple(Walk([w], [0]) for w in range(workers)))
