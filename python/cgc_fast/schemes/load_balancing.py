"""Load balancing: every worker sums its own share of the samples, and all of them are waited for."""

from __future__ import annotations

from collections.abc import Sequence

from cgc_fast.arguments import integer
from cgc_fast.codes import RepetitionCode
from cgc_fast.errors import ArgumentValueError
from cgc_fast.schedule import Cell, Schedule, Walk

__all__ = ["load_balancing_schedule"]


def load_balancing_schedule(workers: int, coordinates: int, bounds: Sequence[float]) -> Schedule:
    """Plain data parallelism with unequal shares: one cell a worker, all coordinates x its samples.

    Parameters
    ----------
    workers, coordinates : int
        N and L, >= 1.
    bounds : sequence of float, length N + 1
        Worker w has the samples [bounds[w], bounds[w + 1]), fractions of M; of an empty share it computes
        nothing.
    """
    workers, coordinates = integer("workers", workers, 1), integer("coordinates", coordinates, 1)
    ends = [float(bound) for bound in bounds]
    if len(ends) != workers + 1 or (ends[0], ends[-1]) != (0.0, 1.0) or ends != sorted(ends):
        raise ArgumentValueError(
            f"bounds: expected {workers + 1} fractions 0 = first <= ... <= last = 1, got {ends}"
        )
    alone = RepetitionCode(1)
    cells = tuple(Cell(0, coordinates, ends[w], ends[w + 1], alone) for w in range(workers))
    return Schedule(
        workers,
        coordinates,
        cells,
        tuple(Walk([], []) if cell.is_empty else Walk([w], [0]) for w, cell in enumerate(cells)),
    )
