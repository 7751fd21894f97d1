"""Fractional repetition with any numbers of groups: block sizes by sample average, with a certificate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import group_times
from cgc_fast.arguments import Cost
from cgc_fast.errors import ArgumentValueError
from cgc_fast.forward_search import search_levels
from cgc_fast.scheme_search.block_search import mean_runtime, optimise_sizes, shares_to_sizes
from cgc_fast.scheme_search.composition import Composition, in_order
from cgc_fast.scheme_search.planned import PlannedScheme, score
from cgc_fast.scheme_search.walked import fits, make_layout
from cgc_fast.schemes.circles import circle_schedule

__all__ = ["candidate_groups", "plan_fractional_repetition"]

Array = NDArray[np.float64]

# Up to this many groups every number is tried, beyond it those of equal group sizes, N // r.
_EVERY = 8
# Sizes of blocks below this share are dropped where that does not cost more than the gap.
_SMALL = 0.01
_GAIN = 2e-4


def candidate_groups(workers: int) -> list[int]:
    """Numbers of groups that are tried, falling: all up to 8, and N // r for every r."""
    every = {*range(1, min(workers // 2, _EVERY) + 1)}
    return sorted(every | {workers // r for r in range(1, workers + 1)}, reverse=True)


def plan_fractional_repetition(
    times: Array,
    coordinates: int,
    cost: Cost | None = None,
    *,
    composition: Composition | None = None,
    max_parts: int | None = None,
    min_redundancy: int = 0,
) -> PlannedScheme:
    """Choose numbers of groups and block sizes on draws of the cycle times.

    Parameters
    ----------
    times : ndarray of float64 of shape (S, N)
        Draws in seconds per cycle.
    coordinates : int
        L.
    cost : Cost, optional
        M, b and c.
    composition : Composition, optional
        Order and weights of the workers.
    max_parts : int, optional
        Most samples that a worker may hold, in parts M/N.
    min_redundancy : int
        Workers that every cell survives the loss of.

    Returns
    -------
    PlannedScheme
        "fractional_repetition"; `in_sample` is the mean of the schedule on `times`. The report holds, in
        seconds, `lower_bound`: of the mean on these draws, over the numbers of groups in `bound_groups`, as
        if each block forwarded its own samples only; None where weights differ.

    Notes
    -----
    The time statistic of a block is the slowest group's fastest member. Groupings that do not nest make
    it rise where there are fewer groups, so that an empty block must not count: the set of blocks is searched
    (`search_levels`), as with a forward pass. Then the sizes are improved by `optimise_sizes` on the
    runtime itself, forward passes paid once for the union of what is visited.
    """
    cost = Cost() if cost is None else cost
    workers = times.shape[1]
    composition = in_order(workers) if composition is None else composition
    counts = [
        g
        for g in candidate_groups(workers)
        if workers // g > min_redundancy and fits(make_layout(composition, [g], ()), max_parts)
    ]
    if not counts:
        raise ArgumentValueError(
            f"max_parts, min_redundancy: no groups survive the loss of {min_redundancy} workers with at most "
            f"{max_parts} parts a worker; expected max_parts >= min_redundancy + 1"
        )
    groups = np.array(counts, dtype=np.int64)
    ordered = np.ascontiguousarray(times[:, list(composition.order)])
    statistics = group_times(ordered, groups, np.ones((len(groups), workers)))
    answered = np.isfinite(statistics).all(axis=0)
    if not answered.any():
        raise ArgumentValueError(
            "times: expected draws in which some number of groups is done, got one in which none is"
        )
    groups, statistics = groups[answered], statistics[:, answered]
    counts = groups.tolist()
    forward = cost.forward_cycles / (cost.cycles_per_derivative * coordinates)
    minima = search_levels(np.ascontiguousarray(statistics), workers / groups, forward)

    best = None
    for minimum in minima:
        shares = np.where(minimum.used, minimum.shares, 0.0)
        kept = shares > (_SMALL if shares.max() > _SMALL else 0.0)
        for chosen in (shares > 0.0, kept):
            layout = make_layout(composition, groups[chosen].tolist(), ())
            if not fits(layout, max_parts):
                continue
            start = shares[chosen] / shares[chosen].sum()
            value = mean_runtime(layout, start, times, coordinates, cost)[0]
            found = optimise_sizes(layout, times, coordinates, cost, start)
            value, end = min((value, start), (found.value, found.shares), key=lambda pair: pair[0])
            if best is None or value < best[0] * (1.0 - _GAIN * np.sign(len(end) - len(best[1]))):
                best = value, end, layout
    if best is None:  # each number of groups fits, but not together: the best single one
        for g in counts:
            layout = make_layout(composition, [g], ())
            value = mean_runtime(layout, np.ones(1), times, coordinates, cost)[0]
            if best is None or value < best[0]:
                best = value, np.ones(1), layout
    assert best is not None
    _, shares, layout = best
    blocks = layout.sized(shares_to_sizes(shares, coordinates), 1)
    parameters = {"blocks": [block.to_dict() for block in blocks]}
    scale = cost.samples / workers * cost.cycles_per_derivative * coordinates
    certified = composition.weights is None
    return PlannedScheme(
        "fractional_repetition",
        workers,
        coordinates,
        parameters,
        score(circle_schedule(workers, coordinates, blocks), times, cost),
        {
            "composition": composition.name,
            "lower_bound": scale * minima[0].lower_bound if certified else None,
            "bound_groups": groups[minima[0].used].tolist() if certified else [],
        },
    )
