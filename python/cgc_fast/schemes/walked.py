"""Walked blocks: fractional repetition whose larger groups walk around their blocks from several starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cgc_fast.schedule import Feedback, Schedule
from cgc_fast.schemes.circles import Block, circle_schedule

__all__ = ["walked_schedule"]


def walked_schedule(
    workers: int,
    coordinates: int,
    blocks: Sequence[Block | Mapping[str, Any]],
    feedback: Feedback = "none",
    boundaries: Sequence[int] | None = None,
    max_values_sent: float = 1.0,
) -> Schedule:
    """Fractional repetition blocks of which some, at least the last, are walked around from several starts.

    Where all members of a group take the same way, what slow ones have done of a block when the fastest is
    done is lost. Where they start at different points and in both directions it is not: the pieces between
    are covered from both sides, and slow and fast workers meet wherever they happen to.

    Parameters
    ----------
    workers, coordinates : int
        N and L, >= 1.
    blocks : sequence of Block, or of their JSON forms
        In rising redundancy, with sizes that sum to L.
    feedback : {"none", "announce"}
        Whether workers learn which cells are decoded.
    boundaries : sequence of int, optional
        Where cells may begin and end; every cut is moved to the nearest one.
    max_values_sent : float
        Most values that a worker may send, in multiples of L, see `circle_schedule`.
    """
    return circle_schedule(workers, coordinates, blocks, feedback, boundaries, max_values_sent)
