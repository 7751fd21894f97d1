"""Sizes of blocks that groups walk around: the sample average of the runtime, and its slopes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import CoverTimes
from cgc_fast.arguments import Cost
from cgc_fast.schemes.circles import Block, directions

__all__ = [
    "Layout",
    "Sizes",
    "cover_times",
    "descend",
    "mean_runtime",
    "optimise_sizes",
    "replace_block",
    "runtimes",
    "shares_to_sizes",
    "without",
]

Array = NDArray[np.float64]

# Smallest share of a block while its size is sought; one that stays there is dropped afterwards.
_LEAST = 1e-6
_FLOOR = math.log(_LEAST)
# Of the logarithms of the shares: the longest step, and the relative gain below which two steps end it.
_LONGEST = 1.5
_PROGRESS = 1e-6


@dataclass(frozen=True)
class Layout:
    """Blocks without sizes: groups, sample bounds and starts of each, in the order of the walks."""

    blocks: tuple[Block, ...]

    def heights(self) -> Array:
        """Fraction (K, N) of the samples that each worker computes in each block."""
        return np.array([block.heights() for block in self.blocks])

    def touched(self) -> Array:
        """Fraction (K, N) of the samples that each worker has touched when it is in block k."""
        workers = self.blocks[0].workers
        lows, highs = np.empty((2, len(self.blocks), workers))
        for k, block in enumerate(self.blocks):
            for group, low, high in zip(block.groups, block.bounds[:-1], block.bounds[1:], strict=True):
                lows[k, list(group)], highs[k, list(group)] = low, high
        touched = np.empty_like(lows)
        for worker in range(workers):
            for k in range(len(self.blocks)):
                order = np.argsort(lows[: k + 1, worker], kind="stable")
                low, reach = lows[order, worker], np.maximum.accumulate(highs[order, worker])
                gaps = np.maximum(low[1:] - reach[:-1], 0.0).sum()
                touched[k, worker] = reach[-1] - low[0] - gaps
        return touched

    def sized(self, sizes: Sequence[int], cells: int) -> tuple[Block, ...]:
        """Blocks of these sizes, empty ones left out."""
        return tuple(
            replace_block(block, int(size), cells if block.starts else 1)
            for block, size in zip(self.blocks, sizes, strict=True)
            if size > 0
        )


def replace_block(block: Block, size: int, cells: int) -> Block:
    """The same groups with another size and cut."""
    return Block(size, block.groups, block.bounds, block.starts, cells)


@dataclass(frozen=True, eq=False)
class Sizes:
    """Shares (K,) of the coordinates, and the mean runtime in seconds on the draws."""

    layout: Layout
    shares: Array
    value: float


def cover_times(layout: Layout) -> CoverTimes:
    """The compiled layout."""
    workers, count = layout.blocks[0].workers, len(layout.blocks)
    groups = np.empty((count, workers), dtype=np.int64)
    starts = np.empty((count, workers))
    backward = np.empty((count, workers), dtype=np.int64)
    for k, block in enumerate(layout.blocks):
        for number, group in enumerate(block.groups):
            members = list(group)
            groups[k, members] = number
            starts[k, members], backward[k, members] = directions(len(members), block.starts)
    return CoverTimes(groups=groups, starts=starts, backward=backward)


class _Problem:
    """The mean runtime of a layout as a function of the shares."""

    def __init__(self, layout: Layout, times: Array, coordinates: int, cost: Cost) -> None:
        self.times = np.ascontiguousarray(times, dtype=np.float64)
        self.compiled = cover_times(layout)
        scale = cost.samples * cost.cycles_per_derivative * coordinates
        self.whole = scale * layout.heights()  # cycles (K, N) of a block that holds all coordinates
        self.forward = cost.forward_cycles * cost.samples * layout.touched()

    def cycles(self, shares: Array) -> tuple[Array, Array]:
        around = self.whole * shares[:, None]
        begin = np.cumsum(around, axis=0) - around + self.forward
        return begin, around

    def runtimes(self, shares: Array) -> Array:
        runtimes: Array = self.compiled.run(self.times, *self.cycles(shares), False)[0]
        return runtimes

    def mean(self, shares: Array) -> tuple[float, Array]:
        runtimes, by_begin, by_around = self.compiled.run(self.times, *self.cycles(shares), True)
        later = np.cumsum(by_begin[::-1], axis=0)[::-1] - by_begin  # slopes by the begin of later blocks
        slopes = ((by_around + later) * self.whole).sum(axis=1) / len(self.times)
        return float(runtimes.mean()), slopes


def runtimes(layout: Layout, shares: Array, times: Array, coordinates: int, cost: Cost) -> Array:
    """Runtimes (S,) of draws (S, N) in the limit of narrow cells, in seconds."""
    return _Problem(layout, times, coordinates, cost).runtimes(shares)


def mean_runtime(
    layout: Layout, shares: Array, times: Array, coordinates: int, cost: Cost
) -> tuple[float, Array]:
    """Their mean, and its slopes by the shares (K,)."""
    return _Problem(layout, times, coordinates, cost).mean(shares)


def optimise_sizes(
    layout: Layout,
    times: Array,
    coordinates: int,
    cost: Cost,
    start: Array | None = None,
    *,
    most: int = 200,
) -> Sizes:
    """A local minimum of the mean runtime over the shares, from a start or equal shares.

    Parameters
    ----------
    layout : Layout
        K blocks.
    times : ndarray of float64 of shape (S, N)
        Draws. Where some are never done, the shares are not changed and the value is infinite.
    start : ndarray of float64 of shape (K,), optional
        Shares, >= 0.
    most : int
        Iterations.

    Notes
    -----
    A quasi-Newton method in the logarithms of the shares. The maximum over points of the
    minimum over workers is not convex in the shares, so that the end depends on the start. O(S N starts) an
    evaluation.
    """
    problem = _Problem(layout, times, coordinates, cost)
    count = len(layout.blocks)
    shares = np.full(count, 1.0 / count) if start is None else np.maximum(start, _LEAST)
    shares = shares / shares.sum()
    if count == 1:
        return Sizes(layout, shares, float(problem.runtimes(shares).mean()))
    scale = problem.mean(shares)[0]
    if not 0.0 < scale < math.inf:
        return Sizes(layout, shares, scale)

    def objective(logarithms: Array) -> tuple[float, Array]:
        weights = np.exp(logarithms)
        point = weights / weights.sum()
        value, slopes = problem.mean(point)
        return value / scale, (slopes - slopes @ point) * point / scale

    logarithms, value = descend(objective, np.maximum(np.log(shares / shares.max()), _FLOOR), most)
    weights = np.exp(logarithms)
    return Sizes(layout, weights / weights.sum(), value * scale)


def descend(
    objective: Callable[[Array], tuple[float, Array]], point: Array, most: int
) -> tuple[Array, float]:
    """Quasi-Newton (BFGS) steps with halving, in coordinates >= _FLOOR; a dozen of them at most.

    In NumPy, because the threads that linear algebra starts for such small systems cost more than the rest.
    """
    value, slope = objective(point)
    inverse = np.eye(len(point))
    idle = 0
    for _ in range(most):
        free = (point > _FLOOR) | (slope < 0.0)
        direction = np.where(free, -(inverse * free) @ np.where(free, slope, 0.0), 0.0)
        direction *= min(1.0, _LONGEST / max(float(abs(direction).max()), _LONGEST))
        step = 1.0
        while True:
            trial = np.maximum(point + step * direction, _FLOOR)
            moved = trial - point
            descent = float(slope @ moved)
            new_value, new_slope = objective(trial)
            if descent < 0.0 and new_value <= value + 1e-4 * descent:
                break
            step *= 0.5
            if step < 1e-4:
                return point, value
        change = new_slope - slope
        curvature = float(moved @ change)
        if curvature > 1e-12:
            applied = inverse @ change
            inverse += (1.0 + float(change @ applied) / curvature) / curvature * np.outer(moved, moved)
            inverse -= (np.outer(applied, moved) + np.outer(moved, applied)) / curvature
        idle = idle + 1 if value - new_value <= _PROGRESS * value else 0
        point, value, slope = trial, new_value, new_slope
        if idle == 2:
            break
    return point, value


def shares_to_sizes(shares: Array, coordinates: int) -> list[int]:
    """Whole sizes with the same sums, rounded."""
    ends = np.floor(np.cumsum(shares) * coordinates + 0.5).astype(np.int64)
    ends[-1] = coordinates
    return [int(size) for size in np.diff(ends, prepend=0)]


def without(layout: Layout, index: int) -> Layout:
    """One block less."""
    return replace(layout, blocks=layout.blocks[:index] + layout.blocks[index + 1 :])
