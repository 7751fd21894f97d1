"""Redundancy levels of a scheme: what a coordinate costs at each, and when it can be decoded.

Planner methods see a scheme only through its levels. Level k has a *work weight* (parts of M/N samples that
each worker computes per coordinate) and a *time statistic* R_k of a draw of the cycle times; with W_k the
sum of work x size up to level k, an iteration without forward passes takes (M/N) b max_k R_k W_k.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import group_times, level_runtimes
from cgc_fast.arguments import Cost, integer
from cgc_fast.errors import ArgumentValueError, unknown_name
from cgc_fast.order_statistics import Means, mean_group_statistics, mean_order_statistics
from cgc_fast.straggler_models import StragglerModel

__all__ = ["SCHEMES", "CyclicLevels", "FractionalRepetitionLevels", "Levels", "make_levels"]

Array = NDArray[np.float64]


class Levels(ABC):
    """The levels that a plan may use, in rising redundancy.

    Attributes
    ----------
    workers : int
        N.
    redundancies : ndarray of int64 of shape (K,)
        Level n of each: the entry of the block sizes x (N,) that it stands for.
    work : ndarray of float64 of shape (K,)
        Parts of M/N samples that a worker computes per coordinate, rising.
    """

    workers: int
    redundancies: NDArray[np.int64]
    work: Array

    @abstractmethod
    def statistics(self, times: Array) -> Array:
        """Time statistics R (S, K) of draws (S, N)."""

    @abstractmethod
    def mean_statistics(
        self, model: StragglerModel, *, rates: bool = False, draws: int, generator: np.random.Generator
    ) -> Means:
        """E[R_k] or, with `rates`, E[1/R_k] (K,)."""

    @abstractmethod
    def runtimes(self, times: Array, statistics: Array, sizes: Array, cost: Cost) -> Array:
        """Runtimes (S,) in seconds of sizes (K,), for draws (S, N) and their time statistics (S, K).

        A level of size 0 costs nothing, and 0 * infinity = 0.
        """

    def single_level_cycles(self, coordinates: float, cost: Cost) -> Array:
        """Cycles (K,) of a worker if all coordinates are at level k; times R_k that is the runtime."""
        per_part = cost.cycles_per_derivative * coordinates + cost.forward_cycles
        return np.asarray(cost.samples / self.workers * per_part * self.work)

    def expand(self, sizes: Array) -> Array:
        """Sizes (K,) as block sizes x (N,)."""
        block_sizes = np.zeros(self.workers)
        block_sizes[self.redundancies] = sizes
        return block_sizes

    def gather(self, block_sizes: Array) -> Array:
        """Block sizes x (N,) as sizes (K,), where these are all the levels of the scheme."""
        return block_sizes[self.redundancies]


class CyclicLevels(Levels):
    """Cyclic codes: at level n each worker sums n + 1 parts, any N - n workers decode, R_n = T_(N-n)."""

    def __init__(self, workers: int, least: int = 0, most: int | None = None) -> None:
        self.workers = workers
        self.redundancies = np.arange(least, workers if most is None else most + 1, dtype=np.int64)
        self.work = self.redundancies.astype(np.float64) + 1.0

    def statistics(self, times: Array) -> Array:
        """T_(N-n) for the levels n."""
        ordered = np.sort(times, axis=1)
        return np.ascontiguousarray(ordered[:, self.workers - 1 - self.redundancies])

    def mean_statistics(
        self, model: StragglerModel, *, rates: bool = False, draws: int, generator: np.random.Generator
    ) -> Means:
        """E[T_(N-n)] or E[1/T_(N-n)] for the levels n."""
        means = mean_order_statistics(model, rates=rates, draws=draws, generator=generator)
        return Means(means.values[self.workers - 1 - self.redundancies], means.exact)

    def runtimes(self, times: Array, statistics: Array, sizes: Array, cost: Cost) -> Array:
        """(M/N) max T_(N-n) (b W_n + c (n+1)) over the levels of positive size; O(S K)."""
        cycles = cost.cycles_per_derivative * np.cumsum(self.work * sizes) + cost.forward_cycles * self.work
        cycles *= cost.samples / self.workers
        runtimes: Array = level_runtimes(statistics, np.where(sizes > 0, cycles, 0.0))
        return runtimes


class FractionalRepetitionLevels(Levels):
    """Fractional repetition: level n has g = floor(N/(n+1)) groups, of which one answer each is enough.

    Worker w is in group floor(w g / N) and computes the samples [k/g, (k+1)/g) of its group k: N/g parts. R
    is the slowest group's fastest member. Levels with the same g are one, the one of the largest n; there
    are about 2 sqrt(N). Ranges of different g need not nest: a forward pass is paid for the union of those
    visited.
    """

    def __init__(self, workers: int, least: int = 0, most_parts: int | None = None) -> None:
        self.workers = workers
        groups = np.unique(workers // np.arange(1, workers + 1))[::-1].astype(np.int64)
        groups = groups[workers // groups - 1 >= least]
        self._use(groups)
        if most_parts is not None:
            # What all levels up to k make a worker hold; one part in a billion for the rounding of fractions.
            held = self._touched(np.ones(len(groups), dtype=np.bool_)).max(axis=1, initial=0.0)
            self._use(groups[held <= most_parts * (1.0 + 1e-9)])

    def _use(self, groups: NDArray[np.int64]) -> None:
        self.groups = groups
        self.redundancies = self.workers // groups - 1
        self.work = self.workers / groups.astype(np.float64)

    def gather(self, block_sizes: Array) -> Array:
        """Block sizes x (N,) as sizes (K,): blocks with equally many groups are one."""
        starts = np.concatenate(([0], self.redundancies[:-1] + 1))
        return np.add.reduceat(block_sizes, starts)

    def statistics(self, times: Array) -> Array:
        """Slowest group's fastest member, per draw and level; O(S K N)."""
        slowest: Array = group_times(times, self.groups, np.ones((len(self.groups), self.workers)))
        return slowest

    def mean_statistics(
        self, model: StragglerModel, *, rates: bool = False, draws: int, generator: np.random.Generator
    ) -> Means:
        """E[R_k] or E[1/R_k] for the levels."""
        return mean_group_statistics(model, self.groups, rates=rates, draws=draws, generator=generator)

    def runtimes(self, times: Array, statistics: Array, sizes: Array, cost: Cost) -> Array:
        """Largest over used levels and groups of the fastest member's (M/N) T_w (b W + c touched)."""
        used = sizes > 0
        cycles = cost.cycles_per_derivative * np.cumsum(self.work * sizes)
        scale = cost.samples / self.workers
        if cost.forward_cycles == 0:
            runtimes: Array = level_runtimes(statistics, np.where(used, scale * cycles, 0.0))
            return runtimes
        cycles_of_worker = scale * (cycles[:, None] + cost.forward_cycles * self._touched(used))
        done = group_times(times, self.groups[used], np.ascontiguousarray(cycles_of_worker[used]))
        latest: Array = done.max(axis=1)
        return latest

    def _touched(self, used: NDArray[np.bool_]) -> Array:
        """Parts (K, N) that a worker has touched after its ranges of the used levels up to k.

        Every range of worker w contains the point w/N, so that their union is one interval.
        """
        groups = self.groups[:, None]
        group = np.arange(self.workers) * groups // self.workers
        low = np.where(used[:, None], group / groups, np.inf)
        high = np.where(used[:, None], (group + 1) / groups, -np.inf)
        union = np.maximum.accumulate(high, axis=0) - np.minimum.accumulate(low, axis=0)
        return np.asarray(self.workers * np.maximum(union, 0.0))


SCHEMES = ("cyclic", "fractional_repetition")


def make_levels(
    scheme: str, workers: int, *, min_redundancy: int = 0, max_parts: int | None = None
) -> Levels:
    """Levels of a scheme that survive `min_redundancy` missing workers and fit in `max_parts` parts.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        Unknown scheme, impossible numbers, or no level left.
    """
    if not isinstance(scheme, str) or scheme not in SCHEMES:
        raise unknown_name("scheme", scheme, SCHEMES)
    workers = integer("workers", workers, 1)
    least = integer("min_redundancy", min_redundancy, 0, workers - 1)
    parts = workers if max_parts is None else integer("max_parts", max_parts, 1, workers)
    levels: Levels
    if scheme == "cyclic":
        levels = CyclicLevels(workers, least, parts - 1)
    else:
        levels = FractionalRepetitionLevels(workers, least, None if max_parts is None else parts)
    if not len(levels.redundancies):
        raise ArgumentValueError(
            f"max_parts, min_redundancy: no level of the scheme {scheme} tolerates {least} missing workers "
            f"with at most {parts} parts a worker; tolerating {least} takes at least {least + 1} parts"
        )
    return levels
