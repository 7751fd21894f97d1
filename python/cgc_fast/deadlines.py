"""The smallest threshold by which any block sizes can complete an iteration at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cgc_fast.arguments import Cost
from cgc_fast.levels import Levels
from cgc_fast.straggler_models import AtMostNever, IdenticalLaw, LawPerWorker, StragglerModel, Trace

__all__ = ["smallest_threshold"]

Array = NDArray[np.float64]


def smallest_threshold(levels: Levels, model: StragglerModel, coordinates: int, cost: Cost) -> float:
    """Infimum of the thresholds t with max_x P[tau(x, T) <= t] > 0, in seconds.

    All workers are as fast as they ever are (of a trace: in its fastest iteration), and the real block sizes
    are the best for just these times. i.i.d. workers are then all alike, all coordinates are at the
    lowest level allowed, and t = (M/N) (n + 1) (b L + c) ess inf T. For fractional repetition with forward
    passes and workers that differ, a lower bound.

    Notes
    -----
    With given times, level n allows W_n <= (t / R_n - (M/N) c (n+1)) / (M/N) b, and taking every level that
    allows more than those below it fits the most coordinates. For c = 0 these are proportional to t;
    otherwise t is bisected for. O(I K).
    """
    if isinstance(model, Trace):
        times = model.times
    elif isinstance(model, LawPerWorker):
        times = np.array([[float(law.support()[0]) for law in model.laws]])
    else:
        assert isinstance(model, IdenticalLaw | AtMostNever)
        return float(levels.single_level_cycles(coordinates, cost)[0] * model.law.support()[0])
    if not np.all(times > 0):  # a law that comes as close to 0 as it likes
        finite = np.maximum(times, np.finfo(np.float64).tiny)
        if np.any(levels.statistics(finite) <= np.finfo(np.float64).tiny):
            return 0.0
        times = finite
    statistics = levels.statistics(times)
    unit = cost.samples / levels.workers
    rates = 1.0 / (statistics * unit)
    least = coordinates / _fit(rates, levels.work) * cost.cycles_per_derivative
    if cost.forward_cycles == 0:
        return float(least.min())
    singles = statistics * levels.single_level_cycles(coordinates, cost)
    above = np.min(singles, axis=1)
    rows = least < above.min()
    low, high = float(least.min()), float(above.min())
    rates, forward = rates[rows], cost.forward_cycles * levels.work
    while high - low > 1e-14 * high:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        allowed = np.maximum(middle * rates - forward, 0.0) / cost.cycles_per_derivative
        low, high = (low, middle) if np.any(_fit(allowed, levels.work) >= coordinates) else (middle, high)
    return high


def _fit(loads: Array, work: Array) -> Array:
    """Most coordinates (S,) with W_k <= loads (S, K) at every level k that is used."""
    rising = np.maximum.accumulate(loads, axis=1)
    fitted: Array = rising @ (1.0 / work)
    fitted -= rising[:, :-1] @ (1.0 / work[1:])
    with np.errstate(divide="ignore"):
        return fitted
