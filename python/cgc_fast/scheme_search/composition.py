"""Who works with whom, and on how many samples: equal for all, or by speed where speeds persist."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Composition", "balanced_order", "bounds_within", "by_speed", "in_order", "mean_rates"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Composition:
    """An order of the workers and their weights: a group is a run of it, its samples in proportion.

    Groups of the same composition nest in each other like the runs do, and so do their samples.

    Attributes
    ----------
    name : str
    order : tuple of int, length N
        Worker at each place.
    weights : tuple of float, length N
        Of the worker at each place, >= 0, with sum 1.
    """

    name: str
    order: tuple[int, ...]
    weights: tuple[float, ...] | None  # None: all equal

    @property
    def workers(self) -> int:
        """N."""
        return len(self.order)

    def groups(self, count: int) -> tuple[tuple[int, ...], ...]:
        """Place i is in group floor(i g / N)."""
        return self.split(self._places(count))

    def bounds(self, count: int) -> tuple[float, ...]:
        """Sample bounds of these groups: k / g for equal weights, whatever their sizes."""
        if self.weights is None:
            return tuple(k / count for k in range(count + 1))
        return self.split_bounds(self._places(count))

    def proportional_bounds(self, count: int) -> tuple[float, ...]:
        """Sample bounds of these groups in proportion to their weights, or to their members."""
        return self.split_bounds(self._places(count))

    def split(self, places: list[int]) -> tuple[tuple[int, ...], ...]:
        """Cut the order at these places, the first 0 and the last N."""
        return tuple(self.order[a:b] for a, b in itertools.pairwise(places))

    def split_bounds(self, places: list[int]) -> tuple[float, ...]:
        """Sample bounds of the groups between these places."""
        if self.weights is None:
            return tuple(place / self.workers for place in places)
        sums = np.minimum(np.concatenate([[0.0], np.cumsum(self.weights)]), 1.0)
        sums[-1] = 1.0
        return tuple(sums[places].tolist())

    def _places(self, count: int) -> list[int]:
        return [-(-k * self.workers // count) for k in range(count + 1)]


def bounds_within(bounds: tuple[float, ...], most: float) -> tuple[float, ...]:
    """Sample bounds with no share above `most`: what is cut off goes to the others, in proportion.

    Unchanged where all fit; where there is no room for all the shares are equal, above `most`.
    """
    shares = np.diff(bounds)
    if (shares <= most * (1 + 1e-9)).all():
        return bounds
    count = len(shares)
    full = np.zeros(count, dtype=np.bool_)
    while True:
        full |= shares > most
        rest = 1.0 - most * np.count_nonzero(full)
        if full.all() or rest <= 0.0 or not shares[~full].any():
            return tuple(k / count for k in range(count + 1))
        shares = np.where(full, most, shares * rest / shares[~full].sum())
        if (shares[~full] <= most).all():
            cuts = np.minimum(np.cumsum(shares), 1.0)
            return (0.0, *cuts[:-1].tolist(), 1.0)


def mean_rates(times: Array) -> Array:
    """Mean rate (N,) of workers with draws (S, N): 1 / T, never answering counts as 0."""
    with np.errstate(divide="ignore"):
        rates = np.mean(1.0 / times, axis=0)
    # Free workers get all that they can be given.
    return np.asarray(np.where(np.isinf(rates), 1e6 * np.max(rates[np.isfinite(rates)], initial=1.0), rates))


def balanced_order(rates: Array) -> tuple[int, ...]:
    """An order whose runs of 2, 4, 8, ... have nearly equal rates: fast with slow, again and again."""
    runs = [([int(w)], float(rates[w])) for w in range(len(rates))]
    while len(runs) > 1:
        runs.sort(key=lambda run: -run[1])
        half = len(runs) // 2
        merged = [(runs[i][0] + runs[-1 - i][0], runs[i][1] + runs[-1 - i][1]) for i in range(half)]
        if len(runs) % 2:
            merged.append(runs[half])
        runs = merged
    return tuple(runs[0][0])


def in_order(workers: int) -> Composition:
    """As they are numbered, with equal weights: right where all have the same law."""
    return Composition("in order", tuple(range(workers)), None)


def by_speed(times: Array) -> tuple[Composition, Composition, Composition]:
    """Fast with slow, with equal weights, and with weights by mean rate; and the latter in plain order."""
    rates = mean_rates(times)
    order = balanced_order(rates)
    share = rates / rates.sum() if rates.sum() > 0.0 else np.full(len(rates), 1.0 / len(rates))
    return (
        Composition("fast with slow", order, None),
        Composition("fast with slow, samples by speed", order, tuple(share[list(order)].tolist())),
        Composition("in order, samples by speed", tuple(range(len(rates))), tuple(share.tolist())),
    )
