"""The largest completion probability for i.i.d. workers whose law has a density, with a proof for some laws.

The log odds, log P[tau <= t] - log P[tau > t], are maximised: near P = 0 they are log P, near P = 1 the order
of magnitude of the failure probability, which is known to its relative accuracy. Newton's method takes ten to
forty steps. Where the density of the rate 1/T is log-concave, log P is a concave function of the block sizes
[PREKOPA73], and its gradient h at any x bounds the optimum: log P* <= log P(x) + L max_i h_i - h x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cgc_fast.arguments import Cost
from cgc_fast.exact_method import model_minimum
from cgc_fast.exact_runtime import ExactRuntime, level_cycles
from cgc_fast.forward_search import neighbours

__all__ = [
    "ODDS_GAP",
    "Climb",
    "CompletionOptimum",
    "has_log_concave_rate",
    "log_odds",
    "maximise_completion",
]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# No first-order improvement of the log odds beyond this is left at the optimum: there, log P is within
# 1e-6 (1 - P) of its bound.
ODDS_GAP = 1e-6
_MOST_STEPS = 100
# Least fraction of its size that a step leaves a level.
_SHRINK = 0.1
# Share below which a level that should shrink is dropped.
_GONE = 1e-10
# Probabilities and failure probabilities below this are as good as 0.
_SMALLEST = 1e-280
# With forward passes: gap of a set that is only compared with others, gain in log odds that a move must
# bring, share that a new level starts with, sets looked at (fewer above 50 workers: a set costs O(N^3)).
_SEARCH_GAP, _GAIN, _NEW, _MOST_SETS = 1e-2, 1e-3, 0.02, 300


@dataclass(frozen=True, eq=False)
class CompletionOptimum:
    """Real block sizes of a largest completion probability.

    Attributes
    ----------
    block_sizes : ndarray of float64 of shape (N,)
        x, sum L.
    inside, failure : float
        P[tau <= t] and P[tau > t].
    odds_gap : float
        What first-order steps could still add to the log odds: L max_i g_i - g x, g their gradient. Times
        `failure`, the same for log P, and where log P is concave the distance from its bound.
    used : ndarray of bool of shape (N,)
        Levels that were free to be used.
    starts : int
        Ascents that this is the best of.
    """

    block_sizes: Array
    inside: float
    failure: float
    odds_gap: float
    used: Mask
    starts: int


def has_log_concave_rate(law: Any) -> bool:
    """Whether the density of 1/T is known to be log-concave, by the law's family.

    Shifted exponential with mu t0 >= 1; Pareto with index >= 1, inverse gamma and inverse Weibull with shape
    >= 1, all with loc=0. Not exponential, log-normal, gamma or Weibull laws; others are not looked into.
    """
    family = type(getattr(law, "dist", None))
    if family not in (type(stats.expon), type(stats.pareto), type(stats.invgamma), type(stats.invweibull)):
        return False
    *shapes, loc, scale = _parameters(law)
    if family is type(stats.expon):
        return loc >= scale
    return loc == 0.0 and shapes[0] >= 1.0


def log_odds(inside: float, failure: float) -> float:
    """Log of P[tau <= t] / P[tau > t]; both infinities are possible."""
    with np.errstate(divide="ignore"):
        return float(np.log(inside) - np.log(failure))


def maximise_completion(
    distribution: ExactRuntime, threshold: float, starts: list[Array], allowed: Mask, cost: Cost
) -> CompletionOptimum:
    """Maximise P[tau <= threshold] over {x >= 0, sum x = L, x_n = 0 unless allowed}.

    Parameters
    ----------
    distribution : ExactRuntime
    threshold : float
        Seconds.
    starts : list of ndarray of shape (N,)
        Feasible, sum L; the best of the ascents from them is returned. One with P = 0 is drawn towards the
        lowest level until P > 0.
    allowed : ndarray of bool of shape (N,)
        Levels that may be used.
    cost : Cost
        M, b and c.

    Notes
    -----
    Newton steps for the log odds: each minimises the quadratic model over the simplex by an interior-point
    method, its Hessian made positive definite by taking absolute eigenvalues [NOCEDAL06], and searches along
    the way there. O(N^3) a step; deterministic. With heavy tails the slope at an empty level may be
    infinite: such levels are dropped once they are tiny, and what is left is a local optimum.

    With a forward pass (c > 0) probabilities are smooth on a fixed set of levels only. From the optimum
    for c = 0 its largest levels, and from the best single level, sets are searched as by `search_levels`.
    """
    climb = Climb(distribution, threshold, float(starts[0].sum()), cost)
    lowest = int(np.argmax(allowed))
    if climb.inside(climb.one_level(lowest)) < _SMALLEST:
        probabilities = [climb.inside(start) for start in starts]
        if max(probabilities) < _SMALLEST:
            sizes = climb.one_level(lowest)
            inside, failure = climb.probabilities(sizes, sizes > 0)
            return CompletionOptimum(sizes, inside, failure, 0.0, allowed, 1)
    if cost.forward_cycles > 0:
        ends = climb.over_sets(starts, allowed)
    else:
        ends = [climb.ascend(start, allowed) for start in starts]
    best = max(ends, key=lambda end: log_odds(end.inside, end.failure))
    return CompletionOptimum(best.block_sizes, best.inside, best.failure, best.odds_gap, best.used, len(ends))


class Climb:
    """Ascents of the log odds for one threshold."""

    def __init__(self, distribution: ExactRuntime, threshold: float, total: float, cost: Cost) -> None:
        self.distribution = distribution
        self.threshold = threshold
        self.total = total
        self.cost = cost
        # Where log P is concave slopes at 0 are finite, and the bound needs the gradient of every level.
        self._drops = cost.forward_cycles == 0 and not has_log_concave_rate(distribution.law)
        self.work = np.arange(1.0, distribution.workers + 1)

    def one_level(self, level: int) -> Array:
        """All coordinates at one level."""
        sizes = np.zeros(len(self.work))
        sizes[level] = self.total
        return sizes

    def cycles(self, sizes: Array, used: Mask) -> Array:
        """As `level_cycles`, but a level that may be used costs its forward pass even if it is empty."""
        if self.cost.forward_cycles == 0:
            return level_cycles(sizes, self.cost)
        return level_cycles(np.where(used, np.maximum(sizes, 1e-300), 0.0), self.cost)

    def probabilities(self, sizes: Array, used: Mask) -> tuple[float, float]:
        """P[tau <= t] and P[tau > t]."""
        cycles = self.cycles(sizes, used)
        inside, failure = self.distribution.probabilities(np.array([self.threshold]), cycles)
        return float(inside[0]), float(failure[0])

    def inside(self, sizes: Array) -> float:
        """P[tau <= t], the levels used being those of positive size."""
        return self.probabilities(sizes, sizes > 0)[0]

    def ascend(self, start: Array, used: Mask, gap: float = 0.3 * ODDS_GAP) -> CompletionOptimum:
        """Climb on the set of levels `used` until no first-order step promises more than `gap`."""
        sizes = self._feasible(start, used)
        value = log_odds(*self.probabilities(sizes, used))
        free, odds_gap, step = used, np.inf, 0
        while True:
            inside, failure, gradient, hessian = self._derivatives(sizes, used)
            if min(inside, failure) < _SMALLEST:
                odds_gap = 0.0 if failure < _SMALLEST else np.inf
                break
            shares = sizes / self.total
            mean = float(gradient @ shares)
            odds_gap = mean - float(gradient[used].min())
            # With heavy tails a level that is not worth its first coordinate loses ever less by shrinking.
            gone = free & (shares < _GONE) & (gradient > mean)
            if self._drops and gone.any():
                free = free & ~gone
                sizes = np.where(free, sizes, 0.0)
                value = log_odds(*self.probabilities(sizes, used))
                continue
            if mean - float(gradient[free].min()) <= gap or step == _MOST_STEPS:
                break
            step += 1
            shares, hessian = shares[free], hessian[np.ix_(free, free)]
            model = _convex(hessian, shares)
            aim = np.zeros_like(sizes)
            aim[free] = self.total * model_minimum(gradient[free] - model @ shares, model, shares)
            # Levels may be tiny at the optimum: find their order of magnitude step by step.
            aim = np.maximum(aim, _SHRINK * sizes)
            aim *= self.total / aim.sum()
            slope = float(gradient @ (aim - sizes)) / self.total
            length = 1.0
            while length > 1e-6:
                trial = sizes + length * (aim - sizes)
                trial *= self.total / trial.sum()
                there = log_odds(*self.probabilities(trial, used))
                # The probabilities have about twelve digits.
                if -there <= -value + 1e-4 * length * slope + 1e-12 * (1.0 + abs(value)):
                    break
                length *= 0.5
            else:
                break
            sizes, value = trial, there
        inside, failure = self.probabilities(sizes, used)
        return CompletionOptimum(sizes, inside, failure, odds_gap, used, 1)

    def over_sets(self, starts: list[Array], allowed: Mask) -> list[CompletionOptimum]:
        """With forward passes: where local searches over the sets of levels end."""
        free = Climb(
            self.distribution,
            self.threshold,
            self.total,
            Cost(self.cost.samples, self.cost.cycles_per_derivative),
        ).ascend(starts[0], allowed, _SEARCH_GAP)
        order = np.argsort(-np.where(allowed, free.block_sizes, -1.0), kind="stable")
        singles = [self.inside(self.one_level(int(level))) for level in np.flatnonzero(allowed)]
        best_single = int(np.flatnonzero(allowed)[int(np.argmax(singles))])
        sets: dict[bytes, Mask] = {}
        members: list[Any] = [[best_single], [int(np.argmax(allowed))]]
        members += [order[:count] for count in (2, 3, 5, 8, len(order)) if count <= np.count_nonzero(allowed)]
        members.append(np.flatnonzero(allowed))
        for levels in members:
            used = np.zeros(len(allowed), dtype=np.bool_)
            used[levels] = True
            sets[used.tobytes()] = used
        ends = [self.ascend(free.block_sizes, used, _SEARCH_GAP) for used in sets.values()]
        ends.sort(key=lambda end: -log_odds(end.inside, end.failure))
        left = int(np.clip(_MOST_SETS * (50.0 / len(allowed)) ** 2, 20, _MOST_SETS))
        found = [self._search(end, allowed, left) for end in ends[:2]]
        return [self.ascend(end.block_sizes, end.used) for end in found]

    def _search(self, here: CompletionOptimum, allowed: Mask, left: int) -> CompletionOptimum:
        """Take the first neighbour that improves, until none does."""
        improved = True
        while improved:
            improved = False
            value = log_odds(here.inside, here.failure)
            for used in neighbours(here.used):
                if np.any(used & ~allowed):
                    continue
                left -= 1
                if left < 0:
                    return here
                carried = np.where(used, np.maximum(here.block_sizes, _NEW * self.total), 0.0)
                found = self.ascend(carried, used, _SEARCH_GAP)
                if log_odds(found.inside, found.failure) > value + _GAIN:
                    here, improved = found, True
                    break
        return here

    def _feasible(self, start: Array, used: Mask) -> Array:
        """The start with all levels used and none else, near enough to the lowest one that P > 0."""
        spread = np.where(used, np.maximum(start, 1e-4 * self.total / np.count_nonzero(used)), 0.0)
        spread *= self.total / spread.sum()
        base = self.one_level(int(np.argmax(used)))
        for halvings in range(60):
            part = 0.5**halvings
            sizes = (1.0 - part) * base + part * spread
            if self.probabilities(sizes, used)[0] >= _SMALLEST:
                break
        return np.asarray(sizes)

    def _derivatives(self, sizes: Array, used: Mask) -> tuple[float, float, Array, Array]:
        """P, 1 - P, and gradient and Hessian of -log odds in the shares x / L; 0 at levels not used."""
        cycles = self.cycles(sizes, used)
        found = self.distribution.completion(self.threshold, cycles)
        both = found.inside * found.failure
        if not both > 0.0:
            return found.inside, found.failure, np.empty(0), np.empty((0, 0))
        # dlog cycles_n / dx_i = (M/N) b (i + 1) / cycles_n for i <= n.
        scale = self.total * self.cost.samples * self.cost.cycles_per_derivative / len(sizes)
        inverse = np.divide(scale, cycles, out=np.zeros_like(cycles), where=cycles > 0)
        jacobian = np.tril(np.ones((len(sizes), len(sizes)))) * self.work * inverse[:, None] * used
        by_sizes = jacobian.T @ (found.hessian - np.diag(found.gradient)) @ jacobian
        gradient = -(jacobian.T @ found.gradient) / both
        hessian = -by_sizes / both + (found.failure - found.inside) * np.outer(gradient, gradient)
        return found.inside, found.failure, gradient, hessian


def _convex(hessian: Array, shares: Array) -> Array:
    """The Hessian along the simplex with absolute eigenvalues, in the metric of relative changes."""
    metric = shares + 1e-4 / len(shares)
    scaled = hessian * metric[:, None] * metric
    normal = metric / np.linalg.norm(metric)
    along = scaled - np.outer(normal, normal @ scaled)
    along -= np.outer(along @ normal, normal)
    values, vectors = np.linalg.eigh(0.5 * (along + along.T))
    values = np.abs(values)
    largest = float(values.max())
    values = np.maximum(values, 1e-9 * largest + 1e-12)
    model = (vectors * values) @ vectors.T + largest * np.outer(normal, normal)
    return np.asarray(model / metric[:, None] / metric)


def _parameters(law: Any) -> tuple[float, ...]:
    """Shapes, loc and scale of a frozen law."""
    shapes, loc, scale = law.dist._parse_args(*law.args, **law.kwds)
    return (*(float(shape) for shape in shapes), float(loc), float(scale))
