"""Minimisation of the sample average of the runtime, with a certificate; the sums over draws run in C++.

For draws R (S, K) of the time statistics the sample average of an iteration is

    f(x) = (1/S) sum over the draws of max over k in U of R_k (W_k + phi L work_k),

W_k = sum_{i <= k} work_i x_i, where U are the levels used and phi = c / (b L) is the price of a forward pass.
On a fixed set U it is convex and piecewise linear in x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from cgc_fast._core import mean_maximum

__all__ = ["GAP", "Minimum", "SampleAverage", "moved"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

GAP = 1e-4  # relative distance between value and bound at which a minimisation ends
ITERATIONS = 500  # of the level method, at most
LEVEL = 0.6  # the next point's place between the bound (0) and the best value (1)

# Levels whose bound "all draws at this level" starts the model: at most so many, evenly spread.
_FIRST_CUTS = 64
# Weight in the bound from which a cut's point is worth remembering.
_ACTIVE = 1e-3
# Weight of an empty level in the metric, as a share of all coordinates.
_EMPTY = 1e-3


@dataclass(frozen=True, eq=False)
class Minimum:
    """What a minimisation reached.

    Attributes
    ----------
    shares : ndarray of float64 of shape (K,)
        x / L: sum 1, positive only in the levels used.
    used : ndarray of bool of shape (K,)
        U.
    value, lower_bound : float
        f at `shares` and a lower bound on its minimum over U, in seconds per cycle of a coordinate: times
        (M/N) b L they are seconds.
    support : ndarray of float64 of shape (J, K)
        Shares where the cuts were made that give the bound; a start for the minimisation on a similar set.
    """

    shares: Array
    used: Mask
    value: float
    lower_bound: float
    support: Array

    @property
    def gap(self) -> float:
        """Relative distance of the value from the bound."""
        return self.value / self.lower_bound - 1.0 if self.lower_bound > 0.0 else np.inf


class SampleAverage:
    """The sampled problem, and every linear lower bound of it that has been found so far.

    Parameters
    ----------
    statistics : ndarray of float64 of shape (S, K)
        Draws of the time statistics R, finite and positive.
    work : ndarray of float64 of shape (K,)
        Parts per coordinate, rising.
    forward : float
        phi = c / (b L) >= 0.

    Notes
    -----
    Which level is the last one in each draw, at some point, fixes a linear function of x: a *cut*. It lies
    below f for every set U that contains its levels. So cuts found for one set serve others.
    """

    def __init__(self, statistics: Array, work: Array, forward: float = 0.0) -> None:
        self.statistics = statistics
        self.work = work
        self.forward = forward
        levels = len(work)
        self._mass = np.empty(levels)
        self._slopes: list[Array] = []
        self._constants: list[float] = []
        self._supports: list[Mask] = []
        self._points: list[Array | None] = []
        means = statistics.mean(axis=0)
        for level in np.unique(np.linspace(0, levels - 1, min(levels, _FIRST_CUTS)).round().astype(int)):
            self._add(np.where(np.arange(levels) == level, means, 0.0), None)

    def value(self, shares: Array, used: Mask) -> float:
        """F at `shares` (K,); O(S K)."""
        cycles = np.cumsum(self.work * shares) + self.forward * self.work
        return float(mean_maximum(self.statistics, np.where(used, cycles, 0.0), self._mass))

    def evaluate(self, shares: Array, used: Mask) -> float:
        """F at `shares` (K,), and its cut there is kept; O(S K)."""
        value = self.value(shares, used)
        self._add(self._mass, shares)
        return value

    def minimise(
        self,
        used: Mask | None = None,
        start: Array | None = None,
        *,
        least: float = 0.0,
        gap: float = GAP,
        enough: float = np.inf,
        support: Array | None = None,
    ) -> Minimum:
        """Minimise f over {x >= least in U, 0 elsewhere, sum 1} by a level method.

        Parameters
        ----------
        used : ndarray of bool of shape (K,), optional
            U, not empty; all levels by default.
        start : ndarray of float64 of shape (K,), optional
            Shares to start from; moved into the feasible set.
        least : float
            Smallest share of a level in U; at most 1 / |U|.
        gap : float
            Ends when value <= (1 + gap) lower_bound, or after `ITERATIONS`.
        enough : float
            Ends as soon as the bound reaches this: the set cannot be better.
        support : ndarray of float64 of shape (J, K), optional
            Shares to make cuts at first: the `support` of the minimum on a similar set.

        Notes
        -----
        A level bundle method [LEMARECHAL95]: the maximum of the cuts is a model
        of f. Its minimum, a linear program (HiGHS), is the lower bound; the bound is computed again from the
        program's multipliers lambda, as the minimum of sum_j lambda_j cut_j, so that it holds whatever the
        solver's tolerances. The next point is the one nearest to the best so far at which the model is LEVEL
        of the way up from the bound to the best value: a least-distance problem, solved as non-negative least
        squares [LAWSON74], in the metric that weighs a step at level k by 1 / x_k. At N =
        50 about 60 iterations to 1e-4, each O(S K) and a linear program of K variables.
        """
        if used is None:
            used = np.ones(len(self.work), dtype=np.bool_)
        levels = np.flatnonzero(used)
        count = len(levels)
        if count == 1 or least * count >= 1.0:
            shares = np.where(used, 1.0 / count, 0.0)
            value = self.evaluate(shares, used)
            return Minimum(shares, used, value, value, shares[None])
        shares = _feasible(start, used, least)
        value = self.evaluate(shares, used)
        for other in () if support is None else support:
            trial = _feasible(moved(other, used), used, least)
            new_value = self.evaluate(trial, used)
            if new_value < value:
                value, shares = new_value, trial
        slopes, constants, points = self._cuts(used, levels, shares)
        bound, best_weights = 0.0, np.zeros(len(points))
        for _ in range(ITERATIONS):
            found = _lowest(slopes, constants, least, value)
            if found is None:
                break
            corner, new_bound, weights = found
            if new_bound > bound:
                bound, best_weights = new_bound, weights
            if value <= (1.0 + gap) * bound or bound >= enough:
                break
            target = bound + LEVEL * (value - bound)
            point = _nearest(slopes, constants, target, shares[levels], least)
            if point is None:
                point = 0.5 * (shares[levels] + corner)
            trial = np.zeros(len(self.work))
            trial[levels] = point
            new_value = self.evaluate(trial, used)
            slopes = np.vstack((slopes, self._slopes[-1][levels]))
            constants = np.append(constants, self._constants[-1])
            points.append(trial)
            if new_value < value:
                value, shares = new_value, trial
        active = [points[cut] for cut in np.flatnonzero(best_weights > _ACTIVE)]
        kept = [point for point in active if point is not None] or [shares]
        return Minimum(shares, used, value, bound, np.array(kept))

    def _add(self, mass: Array, point: Array | None) -> None:
        """Keep the cut of the mean maxima `mass` (K,)."""
        self._slopes.append(self.work * np.cumsum(mass[::-1])[::-1])
        self._constants.append(self.forward * float(self.work @ mass))
        self._supports.append(mass > 0.0)
        self._points.append(point)

    def _cuts(
        self, used: Mask, levels: NDArray[np.intp], shares: Array
    ) -> tuple[Array, Array, list[Array | None]]:
        """Slopes (J, |U|), constants (J,) and points of cuts that hold on U, the highest at `shares`."""
        holds = ~(np.array(self._supports) & ~used).any(axis=1)
        slopes, constants = np.array(self._slopes)[holds], np.array(self._constants)[holds]
        highest = np.argsort(-(slopes @ shares + constants), kind="stable")[: 2 * len(levels) + _FIRST_CUTS]
        points = [self._points[cut] for cut in np.flatnonzero(holds)[highest]]
        return slopes[np.ix_(highest, levels)], constants[highest], points


def moved(shares: Array, used: Mask) -> Array:
    """Shares (K,) where what was at levels that are not used has moved to the nearest one that is."""
    levels = np.flatnonzero(used)
    nearest = levels[np.abs(np.arange(len(used))[:, None] - levels).argmin(axis=1)]
    return np.bincount(nearest, weights=shares, minlength=len(used)).astype(np.float64)


def _feasible(start: Array | None, used: Mask, least: float) -> Array:
    """Shares with sum 1, at least `least` in each level used, 0 elsewhere; proportional to `start` above."""
    free = 1.0 - least * np.count_nonzero(used)
    above = np.where(used, 1.0 if start is None else np.maximum(start - least, 0.0), 0.0)
    if not above.any():
        above = used.astype(np.float64)
    return np.where(used, least + free * above / above.sum(), 0.0)


def _lowest(slopes: Array, constants: Array, least: float, scale: float) -> tuple[Array, float, Array] | None:
    """Where the largest cut is least, a lower bound on that minimum, and the weights of the cuts in it.

    None if the solver gives up.
    """
    cuts, levels = slopes.shape
    result = optimize.linprog(
        np.append(np.zeros(levels), 1.0),
        A_ub=np.column_stack((slopes / scale, np.full(cuts, -1.0))),
        b_ub=-constants / scale,
        A_eq=np.append(np.ones(levels), 0.0)[None],
        b_eq=[1.0],
        bounds=[(least, None)] * levels + [(None, None)],
        method="highs",
    )
    if result.status != 0:
        return None
    weights = np.maximum(-np.asarray(result.ineqlin.marginals), 0.0)
    if not weights.any():
        return None
    weights /= weights.sum()
    slope, constant = weights @ slopes, float(weights @ constants)
    bound = constant + least * float(slope.sum()) + (1.0 - least * levels) * float(slope.min())
    corner: Array = np.maximum(np.asarray(result.x)[:levels], least)
    return corner, bound, weights


def _nearest(slopes: Array, constants: Array, target: float, centre: Array, least: float) -> Array | None:
    """Point of the simplex nearest to `centre` where no cut is above `target`; None if none is found.

    The step is y = D u, D = diag(sqrt(centre)), among those with sum y = 0. The least |u| with G u >= h is
    -r / r_last, r the residual of the non-negative least squares problem for (G^T; h^T) and (0, ..., 0, 1).
    """
    levels = len(centre)
    metric = np.sqrt(centre + _EMPTY)
    basis = np.linalg.qr(np.column_stack((metric, np.eye(levels))))[0][:, 1:levels]
    rows = np.vstack((-slopes * metric / target, np.diag(metric))) @ basis
    sides = np.concatenate(((slopes @ centre + constants) / target - 1.0, least - centre))
    system = np.vstack((rows.T, sides))
    goal = np.append(np.zeros(levels - 1), 1.0)
    try:
        weights, _ = optimize.nnls(system, goal, maxiter=10 * system.shape[1])
    except RuntimeError:  # too many iterations
        return None
    residual = system @ weights - goal
    if not residual[-1] < -1e-12:
        return None
    step = metric * (basis @ (-residual[:-1] / residual[-1]))
    point: Array = np.maximum(centre + step, least)
    free = (point - least).sum()
    if not free > 0.0:
        return None
    return np.asarray(least + (1.0 - least * levels) * (point - least) / free)
