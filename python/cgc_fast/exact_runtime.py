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
from cgc_fast.mixtures import has_density, has_smooth_quantiles
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
# Step in log a of the difference quotient of F'(a) a.
_STEP = 1e-4


def exactly_solvable(model: StragglerModel) -> TypeGuard[IdenticalLaw]:
    """Whether the workers are i.i.d. with a continuous law, and not too many: the cost grows as N^1.5."""
    return (
        isinstance(model, IdenticalLaw) and has_smooth_quantiles(model.law) and model.workers <= MOST_WORKERS
    )


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
        self._crossing = BoundaryCrossing(model.workers)
        self._last_span: tuple[bytes, tuple[float, float, float]] = (b"", (0.0, 0.0, 0.0))

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
        until both integrands agree. A law on a bounded interval makes P kink where t / cycles_n passes
        the end, so there Gauss-Legendre panels between the kinks are used.

        Raises
        ------
        NumericalError
            The integrals disagree by more than 1e-7 (a law whose pdf, cdf and sf do not fit each other).
        """
        left, middle, right = self._span(cycles)
        nodes = _FIRST_NODES
        while True:
            if np.isfinite(self.high):
                times, weights, start = self._panels(cycles, left, right, nodes // 4)
            else:
                times, weights, start = self._trapezoid(cycles, left, middle, right, nodes)
            found = self._integrate(times, weights, start, cycles)
            if (
                found.error <= accuracy
                or 2 * nodes > _MOST_NODES
                or (np.isfinite(self.high) and nodes >= 256)
            ):
                break
            nodes *= 2
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
        left, middle, right = self._span(cycles)
        if np.isfinite(self.high):
            times, weights, _ = self._panels(cycles, left, right, 3)
        else:
            times, weights, _ = self._trapezoid(cycles, left, middle, right, _HESSIAN_NODES)
        asked, below, above = self._bounds(times, cycles)
        _, _, dropped, onward = self._crossing.evaluate(below, above, False, True)
        slope = self._slope(asked)
        used = int(np.count_nonzero(cycles))  # the bounds k = 1..used; the others are 1
        weights = workers**2 * weights
        pairs = self._crossing.coupling(below, dropped, onward, slope, weights, used)
        omega = np.zeros((workers, workers))
        omega[workers - used :, workers - used :] = (pairs + pairs.T)[::-1, ::-1]
        return omega

    def _bounds(self, times: Array, cycles: Array) -> tuple[Array, Array, Array]:
        """A (Q, N), F(a) and 1 - F(a), rising and falling along k; infinity where nothing is asked."""
        falling = cycles[::-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            # Finite, since a worker that never answers is late for any time that is asked for.
            finite = np.minimum(times[:, None] / falling, np.finfo(np.float64).max)
            asked = np.where(falling > 0, finite, np.inf)
        below = np.clip(self.law.cdf(asked), 0.0, 1.0)
        above = np.clip(self.law.sf(asked), 0.0, 1.0)
        return asked, np.maximum.accumulate(below, axis=1), np.minimum.accumulate(above, axis=1)

    def _slope(self, asked: Array) -> Array:
        """F'(a) a, 0 at infinity and where the density has a pole at the end of the support."""
        with np.errstate(all="ignore"):
            slope = self.law.pdf(asked) * asked
        return np.where(np.isfinite(slope), slope, 0.0)

    def _span(self, cycles: Array) -> tuple[float, float, float]:
        """Z = log(t - t_lo) where P[tau <= t] becomes more than nothing, 1/2, and all that counts."""
        key = cycles.tobytes()
        if self._last_span[0] == key:  # an expectation and its Hessian ask for the same
            return self._last_span[1]
        start = cycles[-1] * self.low
        centre = float(np.log(cycles[-1] * max(float(self.law.median()) - self.low, 1e-300)))
        reach = 40.0
        while True:
            grid = np.linspace(centre - reach, centre + reach, 97)
            ends = [0.0, 0.0, 0.0]
            inside, failure = self.probabilities(start + np.exp(grid), cycles)
            if failure[-1] * np.exp(grid[-1] - centre) < _NEGLIGIBLE or reach > 300.0:
                break
            reach *= 2.0
        for place in range(3):
            points, p, q = grid, inside, failure
            for _ in range(2):
                if place == 0:
                    passed = p > _NEGLIGIBLE
                elif place == 1:
                    passed = p >= q
                else:
                    passed = (p >= q) & (q * np.exp(points - centre) < _NEGLIGIBLE)
                after = int(np.argmax(passed)) if passed.any() else len(points) - 1
                points = np.linspace(points[max(after - 1, 0)], points[after], 9)
                p, q = self.probabilities(start + np.exp(points), cycles)
            ends[place] = float(points[0] if place == 0 else points[-1])
        self._last_span = (key, (ends[0], ends[1], ends[2]))
        return self._last_span[1]

    def _trapezoid(
        self, cycles: Array, left: float, middle: float, right: float, nodes: int
    ) -> tuple[Array, Array, float]:
        """Times, weights, and the integral of 1 up to the first of them: there P is nothing."""
        width = max(0.5 * (middle - left), 1e-6)
        first, last = np.arcsinh((left - middle) / width), np.arcsinh((right - middle) / width)
        step = (last - first) / nodes
        begin = np.arcsinh((left - 45.0 - middle) / width)
        before = int(np.ceil((first - begin) / step))
        v = first + step * np.arange(-before, nodes + 1)
        shifted = np.exp(middle + width * np.sinh(v))
        weights = step * shifted * width * np.cosh(v)
        start = cycles[-1] * self.low
        return start + shifted[before:], weights[before:], start + float(weights[:before].sum())

    def _panels(self, cycles: Array, left: float, right: float, nodes: int) -> tuple[Array, Array, float]:
        """The same with Gauss-Legendre panels between the kinks of P."""
        start = cycles[-1] * self.low
        low, high = start + float(np.exp(left)), start + float(np.exp(right))
        kinks = np.clip(cycles * self.high, low, high)
        cuts = np.unique(np.concatenate((kinks, np.linspace(low, high, 7))))
        x, w = np.polynomial.legendre.leggauss(nodes)
        half, centre = 0.5 * np.diff(cuts), 0.5 * (cuts[1:] + cuts[:-1])
        times = (centre[:, None] + half[:, None] * x).ravel()
        return times, (half[:, None] * w).ravel(), low

    def _integrate(self, times: Array, weights: Array, start: float, cycles: Array) -> ExactMean:
        asked, below, above = self._bounds(times, cycles)
        _, failure, dropped, onward = self._crossing.evaluate(below, above, False, True)
        slope = self.workers * dropped * onward * self._slope(asked)
        shares = (weights @ slope)[::-1]  # cycles_n dE/dcycles_n
        value = start + float(weights @ failure)
        gradient = np.divide(shares, cycles, out=np.zeros_like(shares), where=cycles > 0)
        return ExactMean(value, gradient, abs(float(shares.sum()) - value) / value)
