"""The optimum of the expected runtime for i.i.d. workers with a continuous law, with a proof.

E[tau] is convex in the block sizes x and homogeneous of degree 1, so with its gradient g at any x, L min_i
g_i over the allowed levels bounds the optimum from below. Newton's method closes the gap in a few steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import minimise_on_simplex
from cgc_fast.arguments import Cost
from cgc_fast.exact_runtime import ExactMean, ExactRuntime, level_cycles

__all__ = ["ExactOptimum", "better_rounding", "minimise_exactly", "model_minimum", "relaxed_gap_target"]

Array = NDArray[np.float64]

_MOST_STEPS = 60
# Least fraction of its size that a step leaves a level.
_SHRINK = 0.1
_INTEGRAL_ACCURACY = 1e-9
# The Newton model is minimised to this fraction of the runtime, far below the gaps that are asked for.
_MODEL_ACCURACY = 1e-11


@dataclass(frozen=True, eq=False)
class ExactOptimum:
    """Real block sizes and their certificate.

    Attributes
    ----------
    block_sizes : ndarray of float64 of shape (N,)
        x, sum L.
    value : float
        E[tau], seconds.
    lower_bound : float
        No x over the allowed levels has a smaller expected runtime.
    gap : float
        value / lower_bound - 1.
    steps : int
        Newton steps taken.
    gradient : ndarray of shape (N,)
        dE/dx there.
    hessian : ndarray of shape (N, N)
        d2E/dx2 there, or where the last step began.
    """

    block_sizes: Array
    value: float
    lower_bound: float
    gap: float
    steps: int
    gradient: Array
    hessian: Array


def relaxed_gap_target(workers: int) -> float:
    """Gap that the method promises: 1e-6, above 200 workers 1e-5."""
    return 1e-6 if workers <= 200 else 1e-5


def minimise_exactly(
    distribution: ExactRuntime, start: Array, allowed: NDArray[np.bool_], cost: Cost
) -> ExactOptimum:
    """Minimise E[tau] over {x >= 0, sum x = L, x_n = 0 unless allowed}; c is taken as 0.

    Parameters
    ----------
    distribution : ExactRuntime
    start : ndarray of shape (N,)
        Feasible, sum L, with a finite expected runtime.
    allowed : ndarray of bool of shape (N,)
        Levels that may be used; their expected times must be finite.
    cost : Cost
        M and b.

    Notes
    -----
    Newton steps with the exact Hessian: each minimises the quadratic model over the simplex by an
    interior-point method (`_core.minimise_on_simplex`) and searches along the way there. Some ten
    expectations and Hessians, O(N^3) each; deterministic.
    """
    work = np.arange(1.0, len(start) + 1)
    total = float(start.sum())
    cost = Cost(cost.samples, cost.cycles_per_derivative)
    scale = cost.samples * cost.cycles_per_derivative / len(start)

    def evaluate(sizes: Array) -> tuple[ExactMean, Array]:
        mean = distribution.mean(level_cycles(sizes, cost), _INTEGRAL_ACCURACY)
        # x_i enters W_n for n >= i with i + 1.
        return mean, scale * work * np.cumsum(mean.gradient[::-1])[::-1]

    sizes = start.copy()
    mean, gradient = evaluate(sizes)
    best, value, best_gradient = sizes, mean.value, gradient
    curvature = None
    bound, steps = total * gradient[allowed].min(), 0
    target = 0.02 * relaxed_gap_target(len(start))
    while value > bound * (1.0 + target) and steps < _MOST_STEPS:
        steps += 1
        curvature = _hessian(distribution, sizes, cost, scale, work)
        hessian = curvature[np.ix_(allowed, allowed)]
        aim = np.zeros_like(sizes)
        unit = total / mean.value
        aim[allowed] = total * model_minimum(
            gradient[allowed] * unit, hessian * (unit * total), sizes[allowed] / total
        )
        # Levels may be tiny at the optimum: find their order of magnitude step by step.
        aim = np.maximum(aim, _SHRINK * sizes)
        aim *= total / aim.sum()
        slope = float(gradient @ (aim - sizes))
        length, improved = 1.0, False
        while length > 1e-3:
            trial = sizes + length * (aim - sizes)
            trial *= total / trial.sum()
            there, gradient_there = evaluate(trial)
            bound = max(bound, total * gradient_there[allowed].min())
            # Below the accuracy of the quadrature nothing can be told; near the optimum full steps are right.
            if there.value <= mean.value + 1e-4 * length * slope + 1e-9 * mean.value:
                improved = True
                break
            length *= 0.5
        if not improved:
            break
        sizes, mean, gradient = trial, there, gradient_there
        if mean.value < value:
            best, value, best_gradient = sizes, mean.value, gradient
    if curvature is None:
        curvature = _hessian(distribution, best, cost, scale, work)
    bound = min(bound, value)
    return ExactOptimum(best, value, bound, value / bound - 1.0, steps, best_gradient, curvature)


def better_rounding(optimum: ExactOptimum, rounded: Array, allowed: NDArray[np.bool_]) -> Array:
    """Move single coordinates between levels as long as the quadratic model of E[tau] falls.

    Parameters
    ----------
    optimum : ExactOptimum
        Real block sizes x and the derivatives there.
    rounded : ndarray of shape (N,)
        Integers near x with the same sum.
    allowed : ndarray of bool of shape (N,)
        Levels that may be used.

    Notes
    -----
    Best move first, O(N^2) each; a handful of them, as rounding cumulatively is nearly the best already
    unless the coordinates are few.
    """
    hessian = optimum.hessian
    sizes: Array = rounded.copy()
    slope = optimum.gradient + hessian @ (sizes - optimum.block_sizes)
    diagonal = np.diag(hessian)
    twice = 0.5 * (diagonal[:, None] + diagonal) - hessian
    least = 1e-12 * optimum.value
    for _ in range(2 * len(sizes)):
        change = slope - slope[:, None] + twice  # of a coordinate from level i (row) to level j (column)
        change[sizes < 1.0] = np.inf
        change[:, ~allowed] = np.inf
        np.fill_diagonal(change, np.inf)
        i, j = divmod(int(change.argmin()), len(sizes))
        if not change[i, j] < -least:
            break
        sizes[i] -= 1.0
        sizes[j] += 1.0
        slope += hessian[:, j] - hessian[:, i]
    return sizes


def _hessian(distribution: ExactRuntime, sizes: Array, cost: Cost, scale: float, work: Array) -> Array:
    """d2E / dx2 (N, N), positive semidefinite, with x in its null space."""
    cycles = level_cycles(sizes, cost)
    omega = distribution.coupling(cycles)
    laplacian = np.diag(omega.sum(axis=1)) - omega
    inverse = np.divide(1.0, cycles, out=np.zeros_like(cycles), where=cycles > 0)
    by_cycles = laplacian * inverse[:, None] * inverse
    # Sums over n >= i and m >= j.
    sums = np.cumsum(np.cumsum(by_cycles[::-1, ::-1], axis=0), axis=1)[::-1, ::-1]
    return np.asarray(sums * (scale * work)[:, None] * (scale * work))


def model_minimum(gradient: Array, hessian: Array, start: Array) -> Array:
    """Minimise g y + y H y / 2 over {y >= 0, sum y = 1}, from `start`; all of shape (K,) or (K, K).

    If H has the current point x in its null space, g (y - x) + (y - x) H (y - x) / 2 differs from it by a
    constant.
    """
    point: Array = start.copy()
    minimise_on_simplex(gradient, hessian, _MODEL_ACCURACY, point)
    return point
