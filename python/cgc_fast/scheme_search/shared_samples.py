"""Shared samples: groups, their samples, and the sizes of the pieces that are claimed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.arguments import Cost, integer
from cgc_fast.errors import ArgumentValueError
from cgc_fast.scheme_search.composition import Composition, bounds_within, in_order
from cgc_fast.scheme_search.planned import Limits, PlannedScheme, Score, score
from cgc_fast.schemes.shared_samples import shared_samples_schedule

__all__ = ["free_feedback", "plan_shared_samples"]

Array = NDArray[np.float64]

_LOSS = 0.02
_PIECES = 4_000  # of all groups, at most
_RATIOS = (1.0, 4.0, 16.0)
_FEW = 200  # draws that pieces are compared on


def free_feedback(
    times: Array, groups: Sequence[Sequence[int]], bounds: Sequence[float], coordinates: int, cost: Cost
) -> Array:
    """Runtimes (S,) of draws (S, N) if claims took no time and pieces were infinitely small, in seconds."""
    cycles = cost.samples * (cost.cycles_per_derivative * coordinates + cost.forward_cycles)
    with np.errstate(divide="ignore"):
        rates = 1.0 / times
        done = [
            height * cycles / rates[:, list(group)].sum(axis=1)
            for group, height in zip(groups, np.diff(bounds), strict=True)
        ]
    return np.asarray(np.max(done, axis=0))


def plan_shared_samples(
    times: Array,
    coordinates: int,
    cost: Cost | None = None,
    *,
    group: int | None = None,
    composition: Composition | None = None,
    limits: Limits | None = None,
    loss: float = _LOSS,
    max_pieces: int = _PIECES,
) -> PlannedScheme:
    """Choose the pieces of groups that share their samples, on draws of the cycle times.

    Parameters
    ----------
    times : ndarray of float64 of shape (S, N)
        Draws in seconds per cycle.
    coordinates : int
        L.
    cost : Cost, optional
        M, b and c.
    group : int, optional
        Workers of a group, the most parts that each must hold; as many as may be by default. Where N is not
        a multiple, some groups have fewer.
    composition : Composition, optional
        Order and weights of the workers.
    limits : Limits, optional
        Parts that a worker may hold, losses to survive, and the seconds from a claim to its answer.
    loss : float
        Pieces are made smaller until the mean is within this of that of free feedback, relatively.
    max_pieces : int
        Of all groups together, at most.

    Returns
    -------
    PlannedScheme
        "shared_samples"; `in_sample` is the mean of the schedule on the first draws.

    Raises
    ------
    ArgumentValueError
        A group needs more samples than it may hold, or is too small for the losses that it is to survive.

    Notes
    -----
    What feedback costs is the pieces that are done twice when all are claimed, the news of the end, and
    nothing else: claims are made ahead. Large pieces first and small ones last make few claims do.
    """
    cost = Cost() if cost is None else cost
    limits = Limits() if limits is None else limits
    workers = times.shape[1]
    composition = in_order(workers) if composition is None else composition
    if group is None:
        group = workers if limits.max_parts is None else min(workers, limits.max_parts)
    most = integer("group", group, 1, workers)
    count = -(-workers // most)
    if workers // count <= limits.min_redundancy:
        raise ArgumentValueError(
            f"scheme shared_samples: expected max_parts > min_redundancy, got groups of {most} workers, "
            f"which do not survive the loss of {limits.min_redundancy}"
        )
    members = composition.groups(count)
    bounds = composition.proportional_bounds(count)
    if limits.max_parts is not None:
        bounds = bounds_within(bounds, limits.max_parts / workers)
    held = workers * float(np.diff(bounds).max())
    if not limits.room_for(held):
        raise ArgumentValueError(
            f"max_parts: groups of {most} ({composition.name}) hold up to {held:g} parts, expected at most "
            f"{limits.max_parts}"
        )
    few = times[:_FEW]
    done = np.isfinite(free_feedback(few, members, bounds, coordinates, cost))
    few = few[done] if done.any() else few  # a group of which nobody answers says nothing about pieces
    free = float(free_feedback(few, members, bounds, coordinates, cost).mean())
    parameters: dict[str, Any] = {
        "groups": [list(group) for group in members],
        "bounds": list(bounds),
    }
    largest = max(map(len, members))
    limit = max(largest, max_pieces // count)
    pieces = min(limit, 16 * largest)
    best: tuple[Score, int, float] | None = None
    while True:
        for ratio in _RATIOS:
            schedule = shared_samples_schedule(workers, coordinates, **parameters, pieces=pieces, ratio=ratio)
            found = score(schedule, few, cost, latency=limits.latency)
            if best is None or found.runtime < best[0].runtime:
                best = found, pieces, ratio
        assert best is not None
        if best[0].runtime <= free * (1.0 + loss) + limits.latency or pieces == limit:
            break
        pieces = min(limit, 2 * pieces)
    found, pieces, ratio = best
    return PlannedScheme(
        "shared_samples",
        workers,
        coordinates,
        {**parameters, "pieces": pieces, "ratio": ratio},
        found,
        {
            "composition": composition.name,
            "free_feedback_runtime": free,
            "loss": found.runtime / free - 1.0,
            "latency": limits.latency,
        },
    )
