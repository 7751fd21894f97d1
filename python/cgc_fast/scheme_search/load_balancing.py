"""Load balancing: shares of the samples in proportion to the workers' mean speeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cgc_fast.arguments import Cost
from cgc_fast.errors import ArgumentValueError
from cgc_fast.scheme_search.composition import Composition, bounds_within, in_order
from cgc_fast.scheme_search.planned import Limits, PlannedScheme, score
from cgc_fast.schemes.load_balancing import load_balancing_schedule

__all__ = ["plan_load_balancing"]

Array = NDArray[np.float64]


def plan_load_balancing(
    times: Array,
    coordinates: int,
    cost: Cost | None = None,
    *,
    composition: Composition | None = None,
    limits: Limits | None = None,
) -> PlannedScheme:
    """Choose the shares of workers that nobody stands in for, on draws of the cycle times.

    Parameters
    ----------
    times : ndarray of float64 of shape (S, N)
        Draws in seconds per cycle. Who does not answer in one of them gets nothing.
    coordinates : int
        L.
    cost : Cost, optional
        M, b and c.
    composition : Composition, optional
        In order, which is the only one: nobody works with anybody.
    limits : Limits, optional
        Parts that a worker may hold; no loss is survived.

    Returns
    -------
    PlannedScheme
        "load_balancing"; `in_sample` is the mean of the schedule on `times`.
    """
    cost = Cost() if cost is None else cost
    limits = Limits() if limits is None else limits
    workers = times.shape[1]
    composition = in_order(workers) if composition is None else composition
    if limits.min_redundancy > 0:
        raise ArgumentValueError(
            f"scheme load_balancing: expected min_redundancy 0 (every worker is waited for), got "
            f"{limits.min_redundancy}"
        )
    speeds = 1.0 / times.mean(axis=0)
    if not speeds.any():
        raise ArgumentValueError(
            "scheme load_balancing: expected a worker that answers in every draw, got none"
        )
    ends = np.minimum(np.cumsum(speeds / speeds.sum()), 1.0)
    bounds = (0.0, *ends[:-1].tolist(), 1.0)
    if limits.max_parts is not None:
        bounds = bounds_within(bounds, limits.max_parts / workers)
    return PlannedScheme(
        "load_balancing",
        workers,
        coordinates,
        {"bounds": list(bounds)},
        score(load_balancing_schedule(workers, coordinates, bounds), times, cost),
        {"composition": "shares by speed"},
    )
