"""Exact distribution of an iteration's runtime for i.i.d. workers with a continuous law and cyclic codes.

P[tau <= t] = P[T_(k) <= a_k for all k] with a_k = t / cycles_{N-k}: in terms of the law's distribution
function F, sorted uniforms stay below b_k = F(a_k), a boundary-crossing probability [MOSCOVICH17]. The
expectation is one integral over t more. Nothing is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import BoundaryCrossing
from cgc_fast.arguments import Cost
from cgc_fast.errors import NumericalError
from cgc_fast.mixtures import has_density, kinks, never_probability
from cgc_fast.straggler_models import IdenticalLaw, StragglerModel, law_text

__all__ = [
    "ExactCompletion",
    "ExactMean",
    "ExactRuntime",
    "completion_solvable",
    "exactly_solvable",
    "level_cycles",
]

Array = NDArray[np.float64]

# Beyond, where an expectation takes seconds, Monte Carlo is used unless exactness is asked for.
MOST_WORKERS = 2000
# Probabilities that do not matter to an expectation.
_NEGLIGIBLE = 1e-17
# Relative accuracy of an expectation, and what is accepted where the law's kinks allow no better.
_ACCURACY = 1e-11
_ACCEPTED = 1e-7
_FIRST_NODES, _MOST_NODES = 32, 4096
_HESSIAN_NODES = 32
# Where the integrand has kinks: panels apart from those, and bounds of their refinement.
_PANELS = 6
_MOST_ROUNDS, _MOST_PANEL_NODES = 50, 40_000
_NARROWEST = 1e-14
_HESSIAN_PANEL_NODES = 3
_HESSIAN_SHARE = 1e-6
# Step in log a of the difference quotient of F'(a) a.
_STEP = 1e-4


def exactly_solvable(model: StragglerModel) -> TypeGuard[IdenticalLaw]:
    """Whether E[tau] is exact: i.i.d. workers, not too many, whose law has a density; all answer."""
    return completion_solvable(model) and not never_probability(model.law) > 0


def completion_solvable(model: StragglerModel) -> TypeGuard[IdenticalLaw]:
    """Whether P[tau <= t] is exact: i.i.d. workers, not too many, whose law has a density.

    Unlike for the expectation, that density may have gaps, and workers may never answer.
    """
    return isinstance(model, IdenticalLaw) and has_density(model.law) and model.workers <= MOST_WORKERS


def level_cycles(block_sizes: Array, cost: Cost) -> Array:
    """Cycles (N,) of a worker when it is done with level n, (M/N) (b W_n + c (n+1)), never falling.

    An empty level asks for nothing and has the cycles of the one below; 0 below the lowest used level.
    """
    work = np.arange(1.0, len(block_sizes) + 1)
    cycles = cost.cycles_per_derivative * np.cumsum(work * block_sizes) + cost.forward_cycles * work
    cycles = np.maximum.accumulate(np.where(block_sizes > 0, cycles, 0.0))
    return np.asarray(cycles * (cost.samples / len(block_sizes)))


@dataclass(frozen=True, eq=False)
class ExactMean:
    """Expected runtime and its derivatives.

    Attributes
    ----------
    value : float
        E[tau], seconds.
    gradient : ndarray of float64 of shape (N,)
        dE/dcycles_n, seconds per cycle. The cycles times it sum to E[tau].
    error : float
        Relative difference of E[tau] computed as the integral of 1 - P[tau <= t] and as cycles times
        gradient: two integrands, which agree only as far as the quadrature is right.
    """

    value: float
    gradient: Array
    error: float


@dataclass(frozen=True, eq=False)
class ExactCompletion:
    """Completion probability by a time, and its derivatives.

    Attributes
    ----------
    inside, failure : float
        P[tau <= t] and P[tau > t], each to its own relative accuracy.
    gradient : ndarray of float64 of shape (N,)
        dP / dlog cycles_n, <= 0.
    hessian : ndarray of float64 of shape (N, N)
        d2P / dlog cycles_n dlog cycles_m, to the few digits that a Newton step needs.
    """

    inside: float
    failure: float
    gradient: Array
    hessian: Array


class ExactRuntime:
    """Distribution of the runtime of N i.i.d. workers with a continuous law, for given cycles of the levels.

    Parameters
    ----------
    model : IdenticalLaw
        With a frozen scipy.stats.rv_continuous law.

    Notes
    -----
    One P[tau <= t] costs about O(N^1.5), an expectation some hundred of them.
    """

    def __init__(self, model: IdenticalLaw) -> None:
        self.law: Any = model.law
        self.workers = model.workers
        self.low, self.high = (float(end) for end in model.law.support())
        inside = kinks(model.law)
        self._kinks = inside if np.isinf(self.high) else np.append(inside, self.high)
        self._crossing = BoundaryCrossing(model.workers)
        self._last_panels: tuple[bytes, Array, Array] = (b"", np.empty(0), np.empty(0))
        self._last: tuple[bytes, _Variable] = (b"", _Variable(0.0, 0.0, 1.0, 0.0, 1.0))

    def probabilities(self, times: Array, cycles: Array, *, tail: bool = True) -> tuple[Array, Array]:
        """P[tau <= t] and P[tau > t] for times t (Q,); cycles (N,) as from `level_cycles`.

        With `tail` P[tau > t] has six digits however small it is, if the law's survival function has them;
        otherwise an absolute accuracy of 1e-17 at least.
        """
        _, below, above = self._bounds(times, cycles)
        inside, failure, _, _ = self._crossing.evaluate(below, above, tail, False)
        if tail:  # the smaller of the two has more digits
            return np.where(failure < 0.5, 1.0 - failure, inside), np.where(
                inside < 0.5, 1.0 - inside, failure
            )
        return inside, failure

    def completion(self, time: float, cycles: Array) -> ExactCompletion:
        """P[tau <= t] with its first and second derivatives in the logarithms of the cycles; about O(N^3)."""
        asked, below, above = self._bounds(np.array([time]), cycles)
        inside, failure, first, second = self._crossing.second_order(below[0], above[0])
        slope = self._slope(asked)[0]
        with np.errstate(invalid="ignore"):
            curve = self._slope(asked * np.exp(_STEP)) - self._slope(asked * np.exp(-_STEP))
        # b_k = F(t / cycles): a higher log cycles_n is a lower log a_k.
        hessian = second * slope[:, None] * slope + np.diag(first * curve[0] / (2.0 * _STEP))
        return ExactCompletion(inside, failure, -(first * slope)[::-1], hessian[::-1, ::-1])

    def mean(self, cycles: Array, accuracy: float = _ACCURACY) -> ExactMean:
        """E[tau] and its derivatives; the cycles' expectations must exist.

        `accuracy` is the relative difference between two integrals that ends the refinement.

        With z = log(t - t_lo), t_lo the least possible runtime, the bulk of the runtimes is a few units wide;
        z = middle + width sinh(v) also reaches the far end of heavy tails in few steps. In v the trapezoidal
        rule converges exponentially in 1 / step (Trefethen and Weideman 2014); the number of nodes is doubled
        until both integrands agree. Where the density of the law jumps or ends, P kinks whenever t / cycles_n
        passes that place: then, and if the doubling does not get there, the integral is cut at the kinks that
        are known and its panels are halved where they are not yet accurate. As the two integrands differ by
        d(t (1 - P)) / dt, every panel tells its own error.

        Raises
        ------
        NumericalError
            The integrals disagree by more than 1e-7 (a law whose pdf, cdf and sf do not fit each other, or
            with more kinks than can be resolved).
        """
        variable = self._variable(cycles)
        if len(self._kinks):
            found = self._by_panels(variable, cycles, accuracy)
        else:
            found = self._by_trapezoids(variable, cycles, accuracy)
            if not found.error <= _ACCEPTED:
                found = self._by_panels(variable, cycles, accuracy)
        if not found.error <= _ACCEPTED:
            raise NumericalError(
                f"cycle_time: two ways to the expected runtime for {law_text(self.law)} differ by a fraction "
                f"{found.error:.1e}; its pdf, cdf and sf may not fit each other: give measured or drawn "
                "times as a cgc.Trace instead"
            )
        return found

    def coupling(self, cycles: Array) -> Array:
        """Weights omega (N, N), symmetric, >= 0, zero diagonal: -cycles_n cycles_m d2E / dcycles_n dcycles_m.

        E is homogeneous of degree 1, so that its Hessian in log cycles, without the gradient's part, is the
        graph Laplacian of these weights. A few digits, as a Newton step needs; O(N^3) for each of a few
        nodes.
        """
        workers = self.workers
        variable = self._variable(cycles)
        if len(self._kinks):
            v, weights = _gauss_legendre(*self._panels(variable, cycles), _HESSIAN_PANEL_NODES)
        else:
            v = np.linspace(variable.first, variable.last, _HESSIAN_NODES + 1)
            weights = np.full(len(v), v[1] - v[0])
        weights = weights * variable.derivative(v)
        asked, below, above = self._bounds(variable.times(v), cycles)
        _, _, dropped, onward = self._crossing.evaluate(below, above, False, True)
        slope = self._slope(asked)
        # Far out nodes matter to no level.
        shares = weights[:, None] * dropped * onward * slope
        matter = (shares > _HESSIAN_SHARE * shares.sum(axis=0)).any(axis=1)
        used = int(np.count_nonzero(cycles))  # the bounds k = 1..used; the others are 1
        pairs = self._crossing.coupling(
            below[matter],
            dropped[matter],
            onward[matter],
            slope[matter],
            workers**2 * weights[matter],
            used,
        )
        omega = np.zeros((workers, workers))
        omega[workers - used :, workers - used :] = (pairs + pairs.T)[::-1, ::-1]
        return omega

    def _bounds(self, times: Array, cycles: Array) -> tuple[Array, Array, Array]:
        """A (Q, N), F(a) and 1 - F(a), rising and falling along k; infinity where nothing is asked."""
        falling = cycles[::-1]
        with np.errstate(all="ignore"):  # SciPy's functions overflow far out, too
            # Finite, since a worker that never answers is late for any time that is asked for.
            finite = np.minimum(times[:, None] / falling, np.finfo(np.float64).max)
            asked = np.where(falling > 0, finite, np.inf)
            below = np.clip(self.law.cdf(asked), 0.0, 1.0)
            above = np.clip(self.law.sf(asked), 0.0, 1.0)
        above = np.where(np.isnan(above), 1.0 - below, above)  # some survival functions end in NaN far out
        return asked, np.maximum.accumulate(below, axis=1), np.minimum.accumulate(above, axis=1)

    def _slope(self, asked: Array) -> Array:
        """F'(a) a, 0 at infinity and where the density has a pole at the end of the support."""
        with np.errstate(all="ignore"):
            slope = self.law.pdf(asked) * asked
        return np.where(np.isfinite(slope), slope, 0.0)

    def _variable(self, cycles: Array) -> _Variable:
        """Where P[tau <= t] becomes more than nothing, 1/2, and all that counts, as a change of variable."""
        key = cycles.tobytes()
        if self._last[0] == key:  # an expectation and its Hessian ask for the same
            return self._last[1]
        start = cycles[-1] * self.low
        centre = float(np.log(cycles[-1] * max(float(self.law.median()) - self.low, 1e-300)))
        reach = 40.0
        while True:
            grid = np.linspace(centre - reach, centre + reach, 33)
            inside, failure = self.probabilities(start + np.exp(grid), cycles)
            if failure[-1] * np.exp(grid[-1] - centre) < _NEGLIGIBLE or reach > 300.0:
                break
            reach *= 2.0
        points = np.broadcast_to(grid, (3, len(grid)))
        p, q = np.broadcast_to(inside, points.shape), np.broadcast_to(failure, points.shape)
        for _ in range(2):
            passed = np.array(
                (
                    p[0] > _NEGLIGIBLE,
                    p[1] >= q[1],
                    (p[2] >= q[2]) & (q[2] * np.exp(points[2] - centre) < _NEGLIGIBLE),
                )
            )
            after = np.where(passed.any(axis=1), passed.argmax(axis=1), points.shape[1] - 1)
            each = np.arange(3)
            points = np.linspace(points[each, np.maximum(after - 1, 0)], points[each, after], 9, axis=1)
            p, q = (
                found.reshape(points.shape)
                for found in self.probabilities(start + np.exp(points.ravel()), cycles)
            )
        left, middle, right = float(points[0, 0]), float(points[1, -1]), float(points[2, -1])
        width = max(0.5 * (middle - left), 1e-6)
        first, last = (float(np.arcsinh((end - middle) / width)) for end in (left, right))
        self._last = (key, _Variable(start, middle, width, first, last))
        return self._last[1]

    def _integrands(self, variable: _Variable, v: Array, cycles: Array) -> tuple[Array, Array]:
        """1 - P (Q,) and t dP/dt by level k (Q, N) at t(v), both times dt/dv."""
        asked, below, above = self._bounds(variable.times(v), cycles)
        _, failure, dropped, onward = self._crossing.evaluate(below, above, False, True)
        slope = self.workers * dropped * onward * self._slope(asked)
        derivative = variable.derivative(v)
        return failure * derivative, slope * derivative[:, None]

    def _by_trapezoids(self, variable: _Variable, cycles: Array, accuracy: float) -> ExactMean:
        nodes = _FIRST_NODES
        v = np.linspace(variable.first, variable.last, nodes + 1)
        failures, shares = 0.0, np.zeros(self.workers)
        # Before the first node P is nothing.
        begin = np.arcsinh(np.sinh(variable.first) - 45.0 / variable.width)
        while True:
            failure, slope = self._integrands(variable, v, cycles)
            failures, shares = failures + float(failure.sum()), shares + slope.sum(axis=0)
            step = (variable.last - variable.first) / nodes
            before = variable.first - step * np.arange(1.0, np.ceil((variable.first - begin) / step) + 1)
            value = variable.start + step * (failures + float(variable.derivative(before).sum()))
            found = _mean(value, step * shares, cycles)
            if found.error <= accuracy or 2 * nodes > _MOST_NODES:
                return found
            v = variable.first + step * np.arange(0.5, nodes)
            nodes *= 2

    def _cuts(self, variable: _Variable, cycles: Array) -> Array:
        """Ends of panels, in v: some, and where t / cycles_n passes a kink of the law."""
        used = np.unique(cycles[cycles > 0])
        kinks = variable.inverse(np.multiply.outer(used, self._kinks).ravel())
        cuts = np.concatenate((np.linspace(variable.first, variable.last, _PANELS + 1), kinks))
        cuts = np.unique(np.clip(cuts, variable.first, variable.last))
        return np.asarray(cuts[np.append(np.diff(cuts) > _NARROWEST * (cuts[-1] - cuts[0]), True)])

    def _panels(self, variable: _Variable, cycles: Array) -> tuple[Array, Array]:
        """Ends of the panels on which the expectation is accurate."""
        if self._last_panels[0] != cycles.tobytes():
            self._by_panels(variable, cycles, _ACCEPTED)
        return self._last_panels[1:]

    def _by_panels(self, variable: _Variable, cycles: Array, accuracy: float) -> ExactMean:
        cuts = self._cuts(variable, cycles)
        nodes = 8 if len(cuts) <= 40 else 4 if len(cuts) <= 200 else 2

        def mass(ends: Array) -> Array:
            """T (1 - P)."""
            times = variable.times(ends)
            return times * self.probabilities(times, cycles, tail=False)[1]

        low, high = cuts[:-1], cuts[1:]
        ends = mass(cuts)
        mass_low, mass_high = ends[:-1], ends[1:]
        value = float(variable.times(cuts[:1])[0])  # until there 1 - P = 1
        shares = np.zeros(self.workers)
        spent, accepted = 0, []
        for _ in range(_MOST_ROUNDS):
            v, weights = _gauss_legendre(low, high, nodes)
            failure, slope = self._integrands(variable, v, cycles)
            failures = (weights * failure).reshape(-1, nodes).sum(axis=1)
            slopes = np.einsum("pq,pqk->pk", weights.reshape(-1, nodes), slope.reshape(len(low), nodes, -1))
            defect = np.abs(failures - slopes.sum(axis=1) - (mass_high - mass_low))
            # The roundings of t (1 - P) are not to be refined away.
            tolerance = max(accuracy / len(cuts), 1e-14) * (value + float(failures.sum()))
            spent += len(v)
            coarse = (defect > tolerance) & (high - low > _NARROWEST * (cuts[-1] - cuts[0]))
            if 2 * nodes * int(coarse.sum()) + spent > _MOST_PANEL_NODES:
                coarse[:] = False
            accepted.append((low[~coarse], high[~coarse]))
            value += float(failures[~coarse].sum())
            shares += slopes[~coarse].sum(axis=0)
            if not coarse.any():
                break
            low, high, mass_low, mass_high = low[coarse], high[coarse], mass_low[coarse], mass_high[coarse]
            middle = 0.5 * (low + high)
            ends = mass(middle)
            low, high = np.concatenate((low, middle)), np.concatenate((middle, high))
            mass_low, mass_high = np.concatenate((mass_low, ends)), np.concatenate((ends, mass_high))
            nodes = 8
        lows, highs = zip(*accepted, strict=True)
        self._last_panels = (cycles.tobytes(), np.concatenate(lows), np.concatenate(highs))
        return _mean(value, shares, cycles)


@dataclass(frozen=True)
class _Variable:
    """The change of variable t = start + exp(middle + width sinh(v)), first <= v <= last."""

    start: float
    middle: float
    width: float
    first: float
    last: float

    def times(self, v: Array) -> Array:
        """The times t(v)."""
        return np.asarray(self.start + np.exp(self.middle + self.width * np.sinh(v)))

    def derivative(self, v: Array) -> Array:
        """The derivative dt/dv."""
        return np.asarray(np.exp(self.middle + self.width * np.sinh(v)) * self.width * np.cosh(v))

    def inverse(self, times: Array) -> Array:
        """The v of times; -infinity up to `start`."""
        with np.errstate(divide="ignore"):
            z = np.log(np.maximum(times - self.start, 0.0))
        return np.asarray(np.arcsinh((z - self.middle) / self.width))


def _gauss_legendre(low: Array, high: Array, nodes: int) -> tuple[Array, Array]:
    """Nodes and weights of panels (P,), panel by panel: both (P nodes,)."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    half, centre = 0.5 * (high - low), 0.5 * (high + low)
    return (centre[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()


def _mean(value: float, shares: Array, cycles: Array) -> ExactMean:
    """E[tau], and its gradient from cycles_n dE/dcycles_n, given by k = N - n."""
    shares = shares[::-1]
    gradient = np.divide(shares, cycles, out=np.zeros_like(shares), where=cycles > 0)
    return ExactMean(value, gradient, abs(float(shares.sum()) - value) / value)
