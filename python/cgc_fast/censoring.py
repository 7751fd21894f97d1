"""Censored cycle times: what a worker that was stopped would have taken, drawn from what the others took.

A master that stops waiting knows of the rest only that they took longer. Taken as observed, such entries make
stragglers look fast, and the plan trusts them too much; left out with their rows, they bias it the same way.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cgc_fast.errors import ArgumentValueError
from cgc_fast.straggler_models import StragglerModel, Trace

__all__ = ["SurvivalCurve", "complete", "impute", "survival_curve"]

Array = NDArray[np.float64]

log = logging.getLogger("cgc_fast")

# Rows that imputations of a trace should add up to, and bounds on the number of imputations.
_ROWS = 20_000
_FEWEST, _MOST = 2, 20
# Largest observed times whose mean excess gives the tail beyond the last one.
_TAIL_EVENTS = 50


@dataclass(frozen=True, eq=False)
class SurvivalCurve:
    """Product-limit estimate of P[T > t], with an exponential tail where observations end.

    Attributes
    ----------
    times : ndarray of float64 of shape (J,)
        Observed cycle times, distinct, ascending; infinity if workers were seen never to answer.
    survival : ndarray of float64 of shape (J,)
        P[T > times], not rising.
    tail_scale : float
        Mean of T - t given T > t beyond the last of `times`; used only where its survival is positive.
    """

    times: Array
    survival: Array
    tail_scale: float

    def draw_beyond(self, bounds: Array, generator: np.random.Generator) -> Array:
        """Draw cycle times, each given that it is larger than its bound; O(log J) each."""
        at = np.concatenate(([1.0], self.survival))
        beyond = at[np.searchsorted(self.times, bounds, side="right")]
        target = beyond * (1.0 - generator.random(len(bounds)))  # in (0, beyond]
        # The first time at which P[T > t] < target: the inverse of the distribution given T > bound.
        index = np.searchsorted(-self.survival, -target, side="right")
        inside = index < len(self.times)
        last = np.maximum(bounds, self.times[-1])
        tail = last + self.tail_scale * generator.standard_exponential(len(bounds))
        return np.where(inside, self.times[np.minimum(index, len(self.times) - 1)], tail)


def survival_curve(times: Array, censored: NDArray[np.bool_]) -> SurvivalCurve:
    """Product-limit estimate [KAPLAN58] of the survival function, all entries pooled.

    Parameters
    ----------
    times, censored : ndarray of float64 and of bool, of the same shape
        Cycle times, and which are only lower bounds. An entry censored at t counts as longer than events
        at t.

    Raises
    ------
    ArgumentValueError
        Every entry is censored.

    Notes
    -----
    Beyond the last observed time the tail is exponential; its mean is the exposure above a threshold per
    observation above it, the maximum-likelihood estimate, with the threshold below the largest 50
    observations (half of them if there are fewer than 100). O(S log S) for S entries.
    """
    values, stopped = times.ravel(), censored.ravel()
    events = np.sort(values[~stopped])
    if not len(events):
        raise ArgumentValueError(
            "cycle_time: every entry of the trace is censored; at least one observed cycle time is needed"
        )
    distinct, counts = np.unique(events, return_counts=True)
    at_risk = len(values) - np.searchsorted(np.sort(values), distinct, side="left")
    survival: Array = np.cumprod(1.0 - counts / at_risk, dtype=np.float64)
    finite = events[np.isfinite(events)]
    scale = np.inf
    if len(finite):
        threshold = finite[max(0, len(finite) - min(_TAIL_EVENTS, (len(finite) + 1) // 2) - 1)]
        exposed = values[np.isfinite(values)]
        exposure = float(np.maximum(exposed - threshold, 0.0).sum())
        scale = exposure / max(1, int(np.count_nonzero(finite > threshold)))
    return SurvivalCurve(distinct, survival, scale)


def impute(trace: Trace, generator: np.random.Generator, imputations: int) -> Trace:
    """Multiple imputation of the censored entries of a trace.

    Every row is repeated `imputations` times, the repeats next to each other; its observed entries stay, a
    censored entry is drawn from the pooled survival curve given that it is longer than its bound. Entries
    censored at infinity are workers that never answered.

    Returns
    -------
    Trace
        Of shape (imputations I, N), nothing censored.

    Notes
    -----
    Assumes that, given its bound, how long a stopped worker would have taken is independent of the others in
    its row, and distributed as for the average worker (censoring at random; a master that stops when it can
    decode does this). In a row stopped at one time, all order statistics below it are known and stay exact.
    Where workers differ persistently, a slow worker's stopped times are drawn too short.
    """
    curve = survival_curve(trace.times, trace.censored)
    times = np.repeat(trace.times, imputations, axis=0)
    entries = np.repeat(trace.censored, imputations, axis=0) & np.isfinite(times)
    bounds = times[entries]
    times[entries] = curve.draw_beyond(bounds, generator)
    last = float(curve.times[-1])
    if curve.survival[-1] > 0.0:
        log.info(
            "censored trace: %.2g of the probability lies beyond the longest observed cycle time, %g; an "
            "exponential tail of mean excess %g is assumed there",
            curve.survival[-1],
            last,
            curve.tail_scale,
        )
    return Trace(times)


def complete(
    model: StragglerModel, generator: np.random.Generator, imputations: int | None = None
) -> tuple[StragglerModel, int]:
    """The model with nothing censored, and how many neighbouring rows of it stand for one iteration.

    Models without censored entries come back as they are, with 1. By default as many imputations as give
    20,000 rows, 2 to 20.
    """
    if not (isinstance(model, Trace) and model.censored.any()):
        return model, 1
    if imputations is None:
        imputations = int(np.clip(_ROWS // len(model.times), _FEWEST, _MOST))
    return impute(model, generator, imputations), imputations
