"""Uncoded: every worker sums its own part of the samples, and all of them are waited for."""

from __future__ import annotations

from cgc_fast.arguments import integer
from cgc_fast.schedule import Schedule
from cgc_fast.schemes.circles import equal_bounds
from cgc_fast.schemes.load_balancing import load_balancing_schedule

__all__ = ["uncoded_schedule"]


def uncoded_schedule(workers: int, coordinates: int) -> Schedule:
    """Plain data parallelism: one cell a worker, all coordinates x its N-th of the samples.

    Parameters
    ----------
    workers, coordinates : int
        N and L, >= 1.
    """
    workers = integer("workers", workers, 1)
    return load_balancing_schedule(workers, coordinates, equal_bounds(workers))
