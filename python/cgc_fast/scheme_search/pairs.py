"""Pairs that meet: who with whom, on how many samples, and how narrow the cells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.arguments import Cost
from cgc_fast.errors import ArgumentValueError
from cgc_fast.scheme_search.block_search import Layout, runtimes
from cgc_fast.scheme_search.composition import Composition, in_order
from cgc_fast.scheme_search.planned import Limits, PlannedScheme, Score, score
from cgc_fast.schemes.circles import Block
from cgc_fast.schemes.pairs import pairs_schedule

__all__ = ["plan_pairs"]

Array = NDArray[np.float64]

_LOSS = 1e-3
_MESSAGES = 2_000
# Meetings of pairs that are not the last count so much; bins of [0, 1]; density where there were none.
_OTHERS = 0.05
_BINS = 50
_ELSEWHERE = 0.5
# Shares that a worker without a partner is tried with, in parts; the pairs compute the rest.
_SINGLE = (1.0, 0.8, 0.6, 0.45, 0.3, 0.2, 0.1)


def plan_pairs(
    times: Array,
    coordinates: int,
    cost: Cost | None = None,
    *,
    composition: Composition | None = None,
    limits: Limits | None = None,
    loss: float = _LOSS,
    max_messages: int = _MESSAGES,
) -> PlannedScheme:
    """Choose pairs, their samples and their cells on draws of the cycle times.

    Parameters
    ----------
    times : ndarray of float64 of shape (S, N)
        Draws in seconds per cycle, N >= 2.
    coordinates : int
        L.
    cost : Cost, optional
        M, b and c.
    composition : Composition, optional
        Neighbours in its order are pairs, with samples by its weights.
    limits : Limits, optional
        Parts that a worker may hold and losses to survive.
    loss : float
        The cells are cut until the mean is within this of that of infinitely narrow ones, relatively.
    max_messages : int
        Of a worker, at most.

    Returns
    -------
    PlannedScheme
        "pairs"; `in_sample` is the mean of the schedule on `times`.

    Raises
    ------
    ArgumentValueError
        One worker only, or limits that no pairs fit in.

    Notes
    -----
    Of an odd number one worker has no partner. It joins a pair, wherever that is best, as a third that starts
    in the middle of the circle, or stays alone with a part of the samples that suits it.
    """
    cost = Cost() if cost is None else cost
    limits = Limits() if limits is None else limits
    workers = times.shape[1]
    if workers < 2:
        raise ArgumentValueError("scheme pairs: expected at least 2 workers, got 1")
    if limits.min_redundancy > 1:
        raise ArgumentValueError(
            f"scheme pairs: expected min_redundancy <= 1 (a pair survives one death), got "
            f"{limits.min_redundancy}"
        )
    composition = in_order(workers) if composition is None else composition
    limited = limits.max_values_sent < 1.0
    everything = np.ones(1)
    best: tuple[float, Layout, str] | None = None
    for pairs, bounds, name in _candidates(composition):
        if not limits.room_for(workers * float(np.diff(bounds).max())):
            continue
        if min(map(len, pairs)) <= max(limits.min_redundancy, int(limited)):
            continue
        layout = Layout((Block(1, pairs, bounds, starts=2),))
        value = float(runtimes(layout, everything, times, coordinates, cost).mean())
        if best is None or value < best[0]:
            best = value, layout, name
    if best is None:
        raise ArgumentValueError(
            f"max_parts: no pairs ({composition.name}) fit in {limits.max_parts} parts; expected at least 2, "
            "or equal weights"
        )
    value, layout, name = best
    block = layout.blocks[0]
    parameters: dict[str, Any] = {
        "pairs": [list(pair) for pair in block.groups],
        "bounds": list(block.bounds),
        "feedback": "none",
        **limits.parameters,
    }
    most = min(coordinates, max_messages)
    points, weights = _meetings(layout, times, coordinates, cost)
    cells = 26 if limited else 25  # where both walk half of the way they meet at a cut
    found: Score | None = None
    chosen: dict[str, Any] = {}
    refusal: ArgumentValueError | None = None
    while True:
        cells = min(cells, most)
        before = found
        uniform: dict[str, Any] = {"cells": cells}
        for cut in (uniform, {**uniform, "cuts": _fitted_cuts(points, weights, cells)}):
            try:
                tried = _score({**parameters, **cut}, times, coordinates, cost, limits)
            except ArgumentValueError as error:  # cells that nobody comes to may be too wide, or too few
                refusal = error
                continue
            if found is None or tried.runtime < found.runtime:
                found, chosen = tried, cut
        enough = found is not None and found.runtime <= value * (1.0 + loss)
        if limited and found is not None and before is not None:  # `value` is of whole circles
            enough = before.runtime <= found.runtime * (1.0 + loss)
        if enough or cells == most:
            break
        cells = 3 * cells // 2
        cells += cells % 2 if limited else 0
    if found is None:
        assert refusal is not None
        raise refusal
    parameters.update(chosen)
    return PlannedScheme(
        "pairs",
        workers,
        coordinates,
        parameters,
        found,
        {"composition": composition.name, "odd": name, "narrow_cells_runtime": value},
    )


def _score(parameters: dict[str, Any], times: Array, coordinates: int, cost: Cost, limits: Limits) -> Score:
    schedule = pairs_schedule(times.shape[1], coordinates, **parameters)
    limits.check_survival(schedule)
    return score(schedule, times, cost)


def _meetings(layout: Layout, times: Array, coordinates: int, cost: Cost) -> tuple[Array, Array]:
    """Where the pairs meet, as fractions (S, G) of L, and how much that matters: if it is the last pair."""
    block = layout.blocks[0]
    per_coordinate = cost.cycles_per_derivative * coordinates
    points = np.full((len(times), len(block.groups)), 0.5)
    done = np.zeros_like(points)
    for k, (group, height) in enumerate(zip(block.groups, np.diff(block.bounds), strict=True)):
        if len(group) != 2:
            continue
        forward, backward = times[:, group[0]], times[:, group[1]]
        alive = np.isfinite(forward) & np.isfinite(backward) & (forward + backward > 0.0)
        a, b = forward[alive], backward[alive]
        # a (c + b L u) = b (c + b L (1 - u)), both sides seconds per sample
        meeting = (b * (cost.forward_cycles + per_coordinate) - a * cost.forward_cycles) / (
            (a + b) * per_coordinate
        )
        points[alive, k] = np.clip(meeting, 0.0, 1.0)
        done[alive, k] = height * a * (cost.forward_cycles + per_coordinate * points[alive, k])
    last = done == done.max(axis=1, keepdims=True)
    return points, np.where(last, 1.0, _OTHERS)


def _fitted_cuts(points: Array, weights: Array, cells: int) -> list[list[float]]:
    """Cuts of each pair, about so many cells: their density goes with the root of that of the meetings.

    This makes the mean width of the cell in which a pair meets least, for a given number of cells. A floor,
    the higher the fewer the draws, keeps cells elsewhere: for meetings that none of them has shown, and for
    speeds that drift.
    """
    cuts = []
    for column, weight in zip(points.T, weights.T, strict=True):
        seen, edges = np.histogram(column, bins=_BINS, range=(0.0, 1.0), weights=weight)
        smooth = np.convolve(np.pad(seen, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
        density = np.sqrt(smooth / max(float(smooth.sum()), 1e-300))
        effective = float(weight.sum()) ** 2 / max(float((weight**2).sum()), 1e-300)
        density += max(_ELSEWHERE, 3.0 / max(effective, 1.0) ** 0.5) * density.mean() + 1e-12
        reached = np.concatenate([[0.0], np.cumsum(density)])
        inner = np.interp(np.arange(1, cells) / cells * reached[-1], reached, edges)
        cuts.append([float(cut) for cut in inner if 0.0 < cut < 1.0])
    return cuts


def _candidates(
    composition: Composition,
) -> Iterator[tuple[tuple[tuple[int, ...], ...], tuple[float, ...], str]]:
    """Pairs with their sample bounds."""
    workers = composition.workers
    if workers % 2 == 0:
        places = list(range(0, workers + 1, 2))
        yield composition.split(places), composition.split_bounds(places), "even"
        return
    for third in range(0, workers - 2, 2):  # the place where a group of three begins
        places = [p if p <= third else p + 1 for p in range(0, workers, 2)]
        yield composition.split(places), composition.split_bounds(places), "a group of three"
    for alone in range(0, workers, 2):
        places = sorted({*range(0, alone + 1, 2), *range(alone + 1, workers + 1, 2)})
        pairs, bounds = composition.split(places), composition.split_bounds(places)
        for part in _SINGLE:
            yield pairs, _shrink(bounds, alone // 2, part), "one alone"


def _shrink(bounds: tuple[float, ...], index: int, factor: float) -> tuple[float, ...]:
    """Give one group so much less, and the others what it loses, in proportion."""
    heights = np.diff(bounds)
    if factor == 1.0 or heights[index] in (0.0, 1.0):
        return bounds
    heights[index] *= factor
    cuts = np.cumsum(heights / heights.sum())
    return (0.0, *np.minimum(cuts[:-1], 1.0).tolist(), 1.0)
