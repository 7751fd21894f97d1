"""The optimum of the expected runtime for i.i.d. workers with a continuous law, with a proof.

E[tau] is convex in the block sizes x and homogeneous of degree 1, so with its gradient g at any x, L min_i
g_i over the allowed levels bounds the optimum from below. Newton's method closes the gap in a few steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from cgc_fast.arguments import Cost
from cgc_fast.exact_runtime import ExactMean, ExactRuntime, level_cycles

__all__ = ["ExactOptimum", "minimise_exactly", "model_minimum", "relaxed_gap_target"]

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
    """

    block_sizes: Array
    value: float
    lower_bound: float
    gap: float
    steps: int


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
    interior-point method and searches along the way there. Some ten expectations and Hessians, O(N^3) each;
    deterministic.
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
    best, value = sizes, mean.value
    bound, steps = total * gradient[allowed].min(), 0
    target = 0.3 * relaxed_gap_target(len(start))
    while value > bound * (1.0 + target) and steps < _MOST_STEPS:
        steps += 1
        hessian = _hessian(distribution, sizes, cost, scale, work)[np.ix_(allowed, allowed)]
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
            best, value = sizes, mean.value
    bound = min(bound, value)
    return ExactOptimum(best, value, bound, value / bound - 1.0, steps)


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
    """Minimise g y + y H y / 2 over {y >= 0, sum y = 1} by a primal-dual interior-point method.

    H has the current point in its null space, so that g (y - x) + (y - x) H (y - x) / 2 differs from it by a
    constant.
    """
    count = len(gradient)
    if count == 1:
        return np.ones(1)
    y = 0.99 * np.maximum(start, 0.0) + 0.01 / count
    y /= y.sum()
    slack = gradient + hessian @ y
    nu = float(slack.min()) - 1e-3
    z = slack - nu
    ones = np.ones(count)
    for _ in range(80):
        mu = float(y @ z) / count
        if mu * count < _MODEL_ACCURACY:
            break
        residual = gradient + hessian @ y - nu - z
        factor = linalg.cho_factor(hessian + np.diag(z / y), check_finite=False, overwrite_a=True)
        solved_ones = linalg.cho_solve(factor, ones, check_finite=False)
        change = z_change = y
        goal = 0.0
        for centred in (False, True):
            # Predictor with goal 0, then corrector with the goal that it earns (Mehrotra 1992).
            correction = change * z_change if centred else 0.0
            right = -residual + (goal - correction) / y - z
            solved = linalg.cho_solve(factor, right, check_finite=False)
            nu_change = -solved.sum() / solved_ones.sum()
            change = solved + nu_change * solved_ones
            z_change = (goal - correction) / y - z - z / y * change
            primal, dual = _step_length(y, change), _step_length(z, z_change)
            goal = mu * (float((y + primal * change) @ (z + dual * z_change)) / count / mu) ** 3
        step = 0.995 * min(primal, dual)
        y = y + step * change
        y /= y.sum()
        z, nu = z + step * z_change, nu + step * float(nu_change)
    return y


def _step_length(values: Array, change: Array) -> float:
    """Largest step <= 1 that keeps the values >= 0."""
    falling = change < 0
    return min(1.0, float((-values[falling] / change[falling]).min(initial=np.inf)))
