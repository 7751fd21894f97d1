"""Stochastic projected subgradient method for the expected runtime [WANG22]; the iterations run in C++."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import SubgradientIterations
from cgc_fast.plotting import import_pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SubgradientResult", "minimise_by_subgradient", "plot_history"]

Array = NDArray[np.float64]

BATCH = 50  # draws per iteration
STEP = 0.2  # length of the first step, in units of L^2 / (mean runtime of the first batch)
POWER = 0.75  # the steps fall as 1 / k^0.75: their sum is infinite, that of their squares finite
PASSES = 50  # over the draws


@dataclass(frozen=True, eq=False)
class SubgradientResult:
    """What the iterations gave.

    Attributes
    ----------
    block_sizes : ndarray of float64 of shape (K,)
        The last iterate, or the average of the later ones; sum L.
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
    power: float = POWER,
    passes: int = PASSES,
    averaging: bool = False,
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
    batch : int
        Draws per iteration.
    step, power : float
        Iteration k = 1, 2, ... steps by step * (L^2 / f_1) / k^power times the subgradient, f_1 the mean of
        max_k R_k W_k over the first batch; 1/2 < power <= 1.
    passes : int
        Over all draws.
    averaging : bool
        Whether to return the average of the iterates of the second half of the passes (all, if there is one)
        instead of the last iterate.

    Raises
    ------
    ValueError
        Shapes that do not fit, a step or power out of range.

    Notes
    -----
    The method of [WANG22]: for each draw of a batch the level that ends last, k* = argmax R_k W_k, gives the
    subgradient R_k* (work_1, ..., work_k*, 0, ...); their mean, a diminishing step with infinite sum and
    finite sum of squares, the exact projection on the simplex; the result is the last iterate. The constants
    are ours: batch 50, power 3/4, step 0.2. The unit L^2 / f_1 makes the rule independent of the units of L
    and of the cycle times: the gradient g of the mean f has g^T x = f, so f / L is the size of its entries.
    The batches run through the given draws in their order, `passes` times.

    O(passes S (K + K log K / batch)).
    """
    iterations = SubgradientIterations(work, start, step, power)
    batch = min(batch, len(statistics))
    history = [iterations.run(statistics, batch, averaging and done >= passes // 2) for done in range(passes)]
    sizes = iterations.average if averaging else iterations.iterate
    return SubgradientResult(sizes, np.concatenate(history))


def plot_history(history: Array, expected_runtime: float | None = None, ax: Axes | None = None) -> Axes:
    """Draw the runtimes (iterations,) of the batches against the iteration; needs matplotlib.

    Dots are batches; the line is their mean over stretches of iterations, each twice as long as the one
    before. The expected runtime of the result, if given, is a dashed line.
    """
    if ax is None:
        _, ax = import_pyplot().subplots(layout="constrained")
    iterations = np.arange(1, len(history) + 1)
    starts = 2 ** np.arange(len(history).bit_length()) - 1  # 0, 1, 3, 7, ...
    means = np.add.reduceat(history, starts) / np.diff(starts, append=len(history))
    centres = np.sqrt(iterations[starts] * np.append(starts[1:], len(history)))
    ax.plot(
        iterations, history, ".", color="#a9bccb", markersize=2, rasterized=True, label="a batch of draws"
    )
    ax.plot(centres, means, "o-", color="#1b6ca8", markersize=4, label="mean of a stretch of batches")
    if expected_runtime is not None:
        ax.axhline(expected_runtime, color="#b2182b", linestyle="--", label="expected runtime of the plan")
    ax.set_xscale("log")
    ax.set_xlabel("iteration")
    ax.set_ylabel("runtime, seconds")
    ax.legend()
    return ax
