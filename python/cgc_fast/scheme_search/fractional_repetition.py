"""Fractional repetition with any numbers of groups: block sizes by sample average, with a certificate.

Where the groups nest and the workers are i.i.d., the sizes are improved on the exact expectation.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import group_times
from cgc_fast.arguments import Cost
from cgc_fast.errors import ArgumentValueError
from cgc_fast.exact_runtime import exactly_solvable
from cgc_fast.forward_search import search_levels
from cgc_fast.scheme_search.block_search import (
    Layout,
    descend,
    mean_runtime,
    optimise_sizes,
    replace_block,
    shares_to_sizes,
)
from cgc_fast.scheme_search.composition import Composition, in_order
from cgc_fast.scheme_search.nested_groups import NestedGroups, nests
from cgc_fast.scheme_search.planned import Limits, PlannedScheme, score
from cgc_fast.scheme_search.walked import fits, make_layout, no_groups
from cgc_fast.schemes.circles import Block, circle_schedule
from cgc_fast.straggler_models import StragglerModel

__all__ = ["candidate_groups", "improve_exactly", "plan_fractional_repetition"]

Array = NDArray[np.float64]

# Up to this many groups every number is tried, beyond it those of equal group sizes, N // r.
_EVERY = 8
# Sizes of blocks below this share are dropped where that does not cost more than the gap.
_SMALL = 0.01
_GAIN = 2e-4
# Of exact sizes: step of the difference quotients in log shares, and the most descent steps.
_STEP = 1e-4
_MOST_STEPS = 30


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
    limits: Limits | None = None,
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
    limits : Limits, optional
        Parts that a worker may hold and losses to survive.

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
    limits = Limits() if limits is None else limits
    workers = times.shape[1]
    composition = in_order(workers) if composition is None else composition
    counts = [
        g
        for g in candidate_groups(workers)
        if workers // g > limits.min_redundancy and fits(make_layout(composition, [g], ()), limits)
    ]
    if not counts:
        raise no_groups(limits)
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
            if not fits(layout, limits):
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


def improve_exactly(
    model: StragglerModel, planned: PlannedScheme, cost: Cost
) -> tuple[PlannedScheme, float] | None:
    """Block sizes of least exact runtime for the same groups, and that runtime in seconds.

    None unless the workers are i.i.d. with a density, the groups nest, and all workers have the same cycles.
    """
    blocks = [Block.of(block) for block in planned.parameters["blocks"]]
    if not exactly_solvable(model) or "boundaries" in planned.parameters or not nests(blocks):
        return None
    layout = Layout(tuple(blocks))
    heights, touched = layout.heights(), layout.touched()
    if (
        np.ptp(touched, axis=1).max() > 1e-9
    ):  # by divisors only: ranges of other numbers of groups do not nest
        return None
    groups = NestedGroups(model, [block.groups for block in blocks])

    def cycles(sizes: Array) -> Array:
        ends = np.cumsum(heights[:, 0] * sizes)
        return cost.samples * (cost.cycles_per_derivative * ends + cost.forward_cycles * touched[:, 0])

    def shares(logarithms: Array) -> Array:
        weights = np.exp(logarithms)
        return np.asarray(weights / weights.sum())

    def mean(logarithms: Array) -> float:
        found = groups.mean(cycles(planned.coordinates * shares(logarithms)))
        return math.inf if found is None else found

    def objective(logarithms: Array) -> tuple[float, Array]:
        steps = _STEP * np.eye(len(logarithms))
        slopes = [mean(logarithms + step) - mean(logarithms - step) for step in steps]
        return mean(logarithms) / scale, np.array(slopes) / (2.0 * _STEP * scale)

    sizes = np.array([block.size for block in blocks], dtype=np.float64)
    best = groups.mean(cycles(sizes))
    if best is None:
        return None
    scale, found = best, planned
    if len(blocks) > 1:
        point, _ = descend(objective, np.log(sizes / sizes.max()), _MOST_STEPS)
        whole = shares_to_sizes(shares(point), planned.coordinates)
        value = groups.mean(cycles(np.array(whole, dtype=np.float64))) if min(whole) > 0 else None
        if value is not None and value < best:
            best = value
            changed = [
                replace_block(block, size, 1).to_dict() for block, size in zip(blocks, whole, strict=True)
            ]
            found = replace(planned, parameters={**planned.parameters, "blocks": changed})
    return found, best
