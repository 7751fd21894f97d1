"""Pairs that meet: two workers hold the same samples and walk the coordinates towards each other."""

from __future__ import annotations

from collections.abc import Sequence

from cgc_fast.errors import ArgumentValueError
from cgc_fast.schedule import Feedback, Schedule
from cgc_fast.schemes.circles import Block, circle_schedule

__all__ = ["adjacent_pairs", "pairs_schedule"]


def adjacent_pairs(workers: int) -> tuple[tuple[int, ...], ...]:
    """Workers 0 and 1, 2 and 3, ...; of an odd number the last three together, and one alone is alone."""
    pairs = [(w, w + 1) for w in range(0, workers - 1, 2)]
    if workers % 2 == 0:
        return tuple(pairs)
    return (*pairs[:-1], (*(pairs[-1] if pairs else ()), workers - 1))


def pairs_schedule(
    workers: int,
    coordinates: int,
    pairs: Sequence[Sequence[int]] | None = None,
    bounds: Sequence[float] | None = None,
    cells: int = 200,
    cuts: Sequence[Sequence[float]] | None = None,
    feedback: Feedback = "none",
    boundaries: Sequence[int] | None = None,
    max_values_sent: float = 1.0,
) -> Schedule:
    """Pairs that meet: a pair's samples in narrow cells, walked forward by one and backward by the other.

    No coefficients, two parts stored, one death a pair survived. A pair takes 2 / (1/T_a + 1/T_b) where one
    worker takes T. Without feedback early pairs walk on until the slowest has met; under "announce" no
    derivative is computed twice, but for the cells in which pairs meet.

    Parameters
    ----------
    workers, coordinates : int
        N and L, >= 1.
    pairs : sequence of sequences of int, optional
        Every worker once, in groups of one to three: a third walks forward from the middle, then around.
        `adjacent_pairs` by default.
    bounds : sequence of float, length pairs + 1, optional
        Pair k has the samples [bounds[k], bounds[k + 1]), fractions of M; in proportion to its members by
        default.
    cells : int
        Cells of a pair. What is lost is about half a cell; each is a message.
    cuts : sequence of sequences of float, optional
        Instead, for each pair of two: where its coordinates are cut, as rising fractions of L in (0, 1), so
        that the cells are narrow only where the pair is likely to meet.
    feedback : {"none", "announce"}
        What the workers learn.
    boundaries : sequence of int, optional
        Where cells may begin and end; every cut is moved to the nearest one.
    max_values_sent : float
        Most values that a worker may send, in multiples of L, see `circle_schedule`.
    """
    chosen = adjacent_pairs(workers) if pairs is None else tuple(tuple(pair) for pair in pairs)
    if any(not 1 <= len(pair) <= 3 for pair in chosen):
        raise ArgumentValueError(f"pairs: expected groups of one to three workers, got {chosen}")
    if bounds is None:
        seats = [0]
        for pair in chosen:
            seats.append(seats[-1] + len(pair))
        bounds = [seat / seats[-1] for seat in seats]
    # A group of three has two arcs; as many cells around the circle.
    block = Block(coordinates, chosen, bounds, starts=2, cells=cells, cuts=cuts)
    return circle_schedule(workers, coordinates, [block], feedback, boundaries, max_values_sent)
