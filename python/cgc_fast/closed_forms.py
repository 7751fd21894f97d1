"""Closed-form block sizes [WANG22]: put numbers for the random times, then finish all levels at once.

With deterministic level times r_k the best block sizes make r_k W_k the same at every level that they use.
The *mean-time* approximation takes r_k = E[R_k], the *mean-rate* approximation 1/r_k = E[1/R_k].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "equalised_block_sizes",
    "large_threshold_block_sizes",
    "mean_rate_block_sizes",
    "mean_time_block_sizes",
]

Array = NDArray[np.float64]


def equalised_block_sizes(rates: Array, work: Array, coordinates: int) -> Array:
    """Block sizes x (K,), real, sum L, that minimise max W_k / rates_k over the levels of positive size.

    Parameters
    ----------
    rates : ndarray of float64 of shape (K,)
        1 / r_k, finite, >= 0 and not all 0. A level that is no faster than a lower one stays empty, since
        it only costs more (for cyclic codes the rates rise by themselves); so does a level of rate 0.
    work : ndarray of float64 of shape (K,)
        Parts per coordinate, rising.
    coordinates : int
        L.

    Notes
    -----
    For the value 1 of the maximum, W_k <= max_{j <= k} rates_j, and L = sum (W_k - W_{k-1}) / work_k rises
    with every W_k: so W_k is that maximum, and x is scaled to the sum L. O(K).
    """
    loads = np.maximum.accumulate(rates)
    sizes = np.empty_like(loads)
    sizes[0] = loads[0]
    np.subtract(loads[1:], loads[:-1], out=sizes[1:])
    sizes /= work
    sizes *= coordinates / sizes.sum()
    return sizes


def mean_time_block_sizes(mean_times: Array, work: Array, coordinates: int) -> Array:
    """Mean-time approximation x^(t) [WANG22] (K,) from E[R_k] (K,); a level of infinite mean stays empty.

    For cyclic codes: x_0 = k / t_N, x_n = k/(n+1) (1/t_{N-n} - 1/t_{N-n+1}). O(K).
    """
    return equalised_block_sizes(1.0 / mean_times, work, coordinates)


def mean_rate_block_sizes(mean_rates: Array, work: Array, coordinates: int) -> Array:
    """Mean-rate approximation x^(f) [WANG22] (K,) from E[1/R_k] (K,), which must be finite. O(K)."""
    return equalised_block_sizes(mean_rates, work, coordinates)


def large_threshold_block_sizes(workers: int, coordinates: int, tail_power: float = 1.0) -> Array:
    """Large-threshold approximation of the largest completion probability [WANG22], (N,), real, sum L.

    Level n fails if n + 1 workers are slower than about t / W_n. With tails P[T > t] ~ exp(-(t/scale)^k) the
    exponent of that is (n + 1) / W_n^k: equal exponents at all levels make the likeliest failure least
    likely.

    Parameters
    ----------
    workers, coordinates : int
        N and L.
    tail_power : float
        k > 0: 1 for exponential tails (exponential, gamma), where x_n = L / ((n+1) Harm_N); the shape of a
        Weibull law. Log-normal laws and power tails have no such rule.

    Notes
    -----
    W_n = (n+1)^(1/k) up to a factor, x_n = (W_n - W_{n-1}) / (n+1). O(N).
    """
    numbers = np.arange(1.0, workers + 1)
    loads = numbers ** (1.0 / tail_power)
    sizes = np.diff(loads, prepend=0.0) / numbers
    sizes *= coordinates / sizes.sum()
    return np.asarray(sizes)
