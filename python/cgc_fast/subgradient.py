"""Stochastic projected subgradient method for the expected runtime [WANG22]; the iterations run in C++."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import SubgradientIterations

__all__ = ["SubgradientResult", "minimise_by_subgradient"]

Array = NDArray[np.float64]

BATCH = 50  # draws per iteration
STEP = 0.2  # length of the first step in units of L; the simplex has the diameter sqrt(2) L
PASSES = 50  # over the draws; the iterates of the second half are averaged


@dataclass(frozen=True, eq=False)
class SubgradientResult:
    """What the iterations gave.

    Attributes
    ----------
    block_sizes : ndarray of float64 of shape (K,)
        Average of the later iterates, sum L.
    history : ndarray of float64 of shape (iterations,)
        Mean of max_k R_k W_k over each iteration's batch, before its step.
    """

    block_sizes: Array
    history: Array


def minimise_by_subgradient(
    statistics: Array,
    work: Array,
    start: Array,
    *,
    batch: int = BATCH,
    step: float = STEP,
    passes: int = PASSES,
) -> SubgradientResult:
    """Minimise the mean of max_k R_k W_k over {x >= 0, sum x = L} by projected stochastic subgradient steps.

    Parameters
    ----------
    statistics : ndarray of float64 of shape (S, K)
        Draws of the time statistics R, finite, in random order. S >= batch; a last incomplete batch is left
        out.
    work : ndarray of float64 of shape (K,)
        Parts per coordinate.
    start : ndarray of float64 of shape (K,)
        Where to start; its sum is L.
    batch, step, passes : int, float, int
        Draws per iteration; length of the first step in units of L; passes over all draws.

    Notes
    -----
    As in [WANG22]: subgradients from a batch of draws, exact projection on the simplex. Ours: the step is
    step * L / sqrt(sum of all squared subgradient norms so far), which needs no tuning to the units of L
    and T (AdaGrad with one common step size), the draws are used several times, and the result is the
    average over the second half of the iterations instead of the last iterate. O(passes S (K + K log K /
    batch)).
    """
    iterations = SubgradientIterations(work, start)
    batch = min(batch, len(statistics))
    history = [iterations.run(statistics, batch, step, done >= passes // 2) for done in range(passes)]
    return SubgradientResult(iterations.average, np.concatenate(history))
