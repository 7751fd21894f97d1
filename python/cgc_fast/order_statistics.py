"""Means of the order statistics of the cycle times, t_n = E[T_(n)], and mean rates, E[1/T_(n)].

T_(1) <= ... <= T_(N), T_(1) the fastest. Either may be infinite, which decides which redundancy levels can be
used at all, so infinity is found out, never estimated.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from cgc_fast._core import group_times
from cgc_fast.errors import NumericalError
from cgc_fast.mixtures import Mixture, Never, bisect, has_smooth_quantiles, without_never
from cgc_fast.straggler_models import (
    AtMostNever,
    IdenticalLaw,
    LawPerWorker,
    StragglerModel,
    Trace,
    law_text,
)

__all__ = [
    "Means",
    "mean_group_statistics",
    "mean_order_statistics",
    "tail_indices",
]

Array = NDArray[np.float64]

# exp(-_NEGLIGIBLE) is below half a unit in the last place of anything it is added to.
_NEGLIGIBLE = 45.0
# Logits between which both u and 1 - u are normal numbers.
_LARGEST_LOGIT = 700.0


@dataclass(frozen=True, eq=False)
class Means:
    """Means of K statistics of the cycle times.

    Attributes
    ----------
    values : ndarray of float64 of shape (K,)
        Infinity where the mean does not exist.
    exact : bool
        Closed form, quadrature or mean over a trace's rows; False for sample means.
    """

    values: Array
    exact: bool


def mean_order_statistics(
    model: StragglerModel,
    *,
    rates: bool = False,
    draws: int = 20_000,
    generator: np.random.Generator | None = None,
) -> Means:
    """E[T_(n)], seconds per cycle, or with `rates` E[1/T_(n)], cycles per second; entry n - 1 for n = 1..N.

    The times of an exponential law (any loc and scale) have the closed form loc + scale (Harm_N -
    Harm_{N-n}). Other i.i.d. continuous laws are integrated numerically, with a relative error below 1e-10
    unless the mean hardly exists; a trace is averaged over its rows; for laws that differ, have atoms or are
    mixtures, sample means over `draws` draws from `generator`. Means given that at most d workers never
    answer are means over the number that do.

    Notes
    -----
    T_(n) > t needs N - n + 1 workers above t. So with P[T_w > t] ~ t^-alpha_w the mean time is finite if and
    only if the N - n + 1 smallest alpha_w sum to more than 1; with P[T_w < t] ~ t^beta_w the mean rate is
    finite if and only if the n smallest beta_w do (all are, if the laws are bounded away from 0). A sum of
    exactly 1, where slower factors decide, counts as infinite.

    O(N) for the exponential; the quadrature takes O(sqrt(N) log N) quantiles and about 100 N weights.
    """
    workers = model.workers
    if isinstance(model, Trace):
        return _sample_means(np.sort(model.times, axis=1), rates, None)
    if isinstance(model, AtMostNever):
        return _answered_means(model, rates, draws, generator)
    if isinstance(model, IdenticalLaw) and type(model.law.dist) is type(stats.expon) and not rates:
        low = float(model.law.support()[0])
        scale = float(model.law.mean()) - low
        # Harm_N - Harm_{N-n} = 1/N + ... + 1/(N-n+1)
        return Means(low + scale * np.cumsum(1.0 / np.arange(workers, 0, -1)), True)
    smallest = np.cumsum(np.sort(_indices(model, rates)))
    finite = (smallest if rates else smallest[::-1]) > _FINITE
    if not finite.any():
        return Means(np.full(workers, np.inf), True)
    if isinstance(model, IdenticalLaw) and has_smooth_quantiles(model.law):
        log_of = _log_rate if rates else np.log
        return Means(_order_quadrature(model.law, workers, finite, log_of), True)
    times = model.draw(np.random.default_rng(0) if generator is None else generator, draws)
    return _sample_means(np.sort(times, axis=1), rates, finite)


def mean_group_statistics(
    model: StragglerModel,
    groups: NDArray[np.int64],
    *,
    rates: bool = False,
    draws: int = 20_000,
    generator: np.random.Generator | None = None,
) -> Means:
    """E[R_k], or with `rates` E[1/R_k], R_k the largest of the fastest times in each of groups[k] groups.

    Worker w is in group floor(w g / N) of g. Methods as in `mean_order_statistics`; the quadrature takes
    O(sqrt(N) log N) weights for each entry of `groups`.
    """
    workers = model.workers
    ones = np.ones((len(groups), workers))
    if isinstance(model, Trace):
        return _sample_means(group_times(model.times, groups, ones), rates, None)
    if isinstance(model, AtMostNever):
        return _answered_group_means(model, groups, rates, draws, generator)
    indices = _indices(model, rates)
    finite = np.empty(len(groups), dtype=np.bool_)
    for k, count in enumerate(groups):
        # A group is slow if all its members are; the groups are all fast if each has a fast member.
        starts = -(-np.arange(count) * workers // count)
        if rates:
            finite[k] = np.minimum.reduceat(indices, starts).sum() > _FINITE
        else:
            finite[k] = np.add.reduceat(indices, starts).min() > _FINITE
    if not finite.any():
        return Means(np.full(len(groups), np.inf), True)
    if isinstance(model, IdenticalLaw) and has_smooth_quantiles(model.law):
        log_of = _log_rate if rates else np.log
        return Means(_group_quadrature(model.law, workers, groups, finite, log_of), True)
    times = model.draw(np.random.default_rng(0) if generator is None else generator, draws)
    return _sample_means(group_times(times, groups, ones), rates, finite)


# Sums of tail indices that count as more than 1.
_FINITE = 1.0 + 1e-6


def tail_indices(law: Any) -> tuple[float, float]:
    """Indices (alpha, beta) of a law: P[T > t] ~ t^-alpha for large t, P[T < t] ~ t^beta for small t.

    Infinite if the tail falls faster than any power, or there is none. Read off the slope of far quantiles;
    a law with a finite mean has alpha > 1 whatever the slope says. A discrete law is on positive integers, so
    that only its mean is asked: alpha is infinite or, if the mean is, 0.
    """
    if isinstance(law, Mixture):
        parts = [tail_indices(part) for part in law.laws]
        return min(alpha for alpha, _ in parts), min(beta for _, beta in parts)
    if isinstance(law, Never):
        alpha, beta = tail_indices(law.law)
        return (0.0 if law.probability else alpha), beta
    low, high = (float(end) for end in law.support())
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # a mean that does not exist
        finite_mean = bool(np.isfinite(law.mean()))
    if not isinstance(law.dist, stats.rv_continuous):  # atoms
        return (np.inf if finite_mean else 0.0), np.inf
    upper = np.inf if np.isfinite(high) else _slope(law, upper=True)
    lower = np.inf if low > 0.0 else _slope(law, upper=False)
    return (max(upper, 1.01) if finite_mean else upper), lower


def _answered_means(
    model: AtMostNever, rates: bool, draws: int, generator: np.random.Generator | None
) -> Means:
    """Means over the number k of workers that never answer: T_(n) is then that of the N - k others.

    Infinite for n > N - d, where T_(n) may be; there rates are of no use either.
    """
    values, exact = np.full(model.workers, np.inf), True
    values[: model.workers - model.most] = 0.0
    law = without_never(model.law)
    for silent, probability in enumerate(model.silent):
        answering = IdenticalLaw(law, model.workers - silent)
        means = mean_order_statistics(answering, rates=rates, draws=draws, generator=generator)
        if probability > 0:
            values[: model.workers - model.most] += probability * means.values[: model.workers - model.most]
        exact &= means.exact
    return Means(values, exact)


def _answered_group_means(
    model: AtMostNever,
    groups: NDArray[np.int64],
    rates: bool,
    draws: int,
    generator: np.random.Generator | None,
) -> Means:
    """Sample means; finite where the smallest group outnumbers the silent, by enough for the law's tail."""
    alpha, beta = tail_indices(without_never(model.law))
    answering = model.workers // groups - model.most
    if rates:
        # The groups are all fast if each has a fast member: one worker each is enough.
        finite = (answering > 0) & (groups * beta > _FINITE)
    else:
        finite = np.where(answering > 0, answering, 0) * min(alpha, 1e300) > _FINITE
    if not finite.any():
        return Means(np.full(len(groups), np.inf), True)
    times = model.draw(np.random.default_rng(0) if generator is None else generator, draws)
    statistics = group_times(times, groups, np.ones((len(groups), model.workers)))
    return _sample_means(statistics, rates, finite)


def _slope(law: Any, upper: bool) -> float:
    """Power of the tail, from the farthest two quantiles that can be trusted."""
    for exponent in (200.0, 100.0, 50.0, 25.0, 12.0, 6.0, 3.0):
        near, far = _quantiles(law, np.array([10.0**-exponent, 10.0 ** (-1.25 * exponent)]), upper)
        if all(np.isfinite(value) and value > 1e-300 for value in (near, far)):
            growth = abs(np.log10(far) - np.log10(near))
            decades = 0.25 * exponent
            # An index beyond 1e4 is as good as none.
            return np.inf if growth < 1e-4 * decades else float(decades / growth)
    return 0.0  # the quantiles leave the numbers at once: heavier than any power that matters


def _quantiles(law: Any, probability: Array, upper: bool) -> Array:
    """Quantiles t, P[T > t] = probability (`upper`) or P[T < t] = probability; NaN where SciPy's are wrong.

    Some laws' quantiles are off by any factor far out (invgauss, f, those without a formula), so they are put
    to the test. Where the answer is an end of the support up to rounding, the probability there says nothing.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # overflow far out
        values = np.asarray((law.isf if upper else law.ppf)(probability), dtype=np.float64)
        again = np.asarray((law.sf if upper else law.cdf)(values), dtype=np.float64)
        low, high = law.support()
        trusted = np.abs(again - probability) <= 0.01 * probability
        trusted |= np.abs(values - low) <= 1e-12 * np.abs(low)
        trusted |= bool(np.isfinite(high)) & (np.abs(values - high) <= 1e-12 * np.abs(high))
    return np.where(trusted, values, np.nan)


def _indices(model: StragglerModel, rates: bool) -> Array:
    """Tail index of every worker (N,): beta for rates, alpha for times."""
    if isinstance(model, IdenticalLaw):
        return np.full(model.workers, tail_indices(model.law)[rates])
    assert isinstance(model, LawPerWorker)
    known = {id(law): law for law in model.laws}  # one object often stands for many workers
    found = {key: tail_indices(law)[rates] for key, law in known.items()}
    return np.array([found[id(law)] for law in model.laws])


def _log_rate(times: Array) -> Array:
    return -np.log(times)


def _sample_means(statistics: Array, rates: bool, finite: NDArray[np.bool_] | None) -> Means:
    """Means over the rows; a trace (`finite` None) is its own distribution, so its means are exact."""
    values = (1.0 / statistics if rates else statistics).mean(axis=0)
    return Means(values if finite is None else np.where(finite, values, np.inf), finite is None)


class _Nodes:
    """Nodes of the trapezoidal rule in z = logit(u), and log g(Q(u)) there for a law with quantiles Q.

    The order statistics of uniforms have densities in z that are analytic in the strip |Im z| < pi and fall
    exponentially on both sides; so does the integrand for the usual laws, and the rule converges
    exponentially in 1 / step (Trefethen and Weideman 2014). The narrowest density has the width 2 /
    sqrt(N): half of it as the step leaves exp(-8 pi^2), and 1/8, where the strip is the limit, exp(-16
    pi^2): both far below rounding. A law with kinks (a histogram, say) converges as step^2 only.
    """

    def __init__(self, law: Any, workers: int, log_of: Callable[[Array], Array]) -> None:
        self.step = float(min(0.125, 1.0 / np.sqrt(workers)))
        # The weights outside are negligible, unless g grows like a power: then as far out as there are
        # numbers.
        for reach in (_NEGLIGIBLE + np.log(workers) + 5.0, _LARGEST_LOGIT):
            half = int(np.ceil(reach / self.step))
            self.z: Array = self.step * np.arange(-half, half + 1, dtype=np.float64)
            self.values = _log_values(law, self.z, log_of)
            if not any(abs(self.values[end] - self.values[half + end // 2]) > 8.0 for end in (half, -half)):
                break
        self.log_u, self.log_v = -np.logaddexp(0.0, -self.z), -np.logaddexp(0.0, self.z)


def _order_quadrature(
    law: Any, workers: int, finite: NDArray[np.bool_], log_of: Callable[[Array], Array]
) -> Array:
    """E[g(T_(n))] for all n with `finite`, log g(T) = log_of(T); infinity for the others.

    T_(n) = Q(U), U beta-distributed with (n, N - n + 1).
    """
    nodes = _Nodes(law, workers, log_of)
    n = np.arange(1.0, workers + 1)
    log_beta = special.betaln(n, workers - n + 1)
    result = np.full(workers, np.inf)
    wanted = np.flatnonzero(finite)
    for chunk in np.array_split(wanted, max(1, len(wanted) // 64)):
        if not len(chunk):
            continue
        inside = _window(chunk, workers, nodes)
        log_weight = np.multiply.outer(n[chunk], nodes.log_u[inside])
        log_weight += np.multiply.outer(workers + 1 - n[chunk], nodes.log_v[inside])
        log_weight += nodes.values[inside] - log_beta[chunk, None]
        result[chunk] = nodes.step * np.exp(log_weight).sum(axis=1)
    return result


def _group_quadrature(
    law: Any,
    workers: int,
    groups: NDArray[np.int64],
    finite: NDArray[np.bool_],
    log_of: Callable[[Array], Array],
) -> Array:
    """E[g(R)], R the largest of the groups' minima; with v = 1 - u, P[R <= Q(u)] = prod (1 - v^size)."""
    nodes = _Nodes(law, workers, log_of)
    result = np.full(len(groups), np.inf)
    for k in np.flatnonzero(finite):
        size, larger = divmod(workers, int(groups[k]))
        log_distribution, hazard = np.zeros(len(nodes.z)), np.zeros(len(nodes.z))
        for members, count in ((size, int(groups[k]) - larger), (size + 1, larger)):
            if count:
                log_minimum = np.log(-np.expm1(members * nodes.log_v))
                log_distribution += count * log_minimum
                hazard += count * members * np.exp(members * nodes.log_v - log_minimum)
        # d/dz of the distribution: du/dz = u v, and v^size gives the factor size v^(size - 1).
        with np.errstate(divide="ignore"):  # it underflows far out
            log_density = log_distribution + np.log(hazard) + nodes.log_u
        result[k] = nodes.step * np.exp(log_density + nodes.values).sum()
    return result


def _log_values(law: Any, z: Array, log_of: Callable[[Array], Array]) -> Array:
    """Log of g(Q(u)) at the nodes; -infinity so far out that the quantile is no number to be trusted."""
    left = z < 0.0
    quantiles = np.concatenate(
        (
            _quantiles(law, special.expit(z[left]), upper=False),
            _quantiles(law, special.expit(-z[~left]), upper=True),
        )
    )
    usable = (quantiles > 0.0) & (quantiles < np.inf)
    lost = ~usable & (np.abs(z) < 25.0)
    if lost.any() and usable.any():  # SciPy's beta law far down, for one
        quantiles[lost] = _searched(law, z[lost])
        usable = (quantiles > 0.0) & (quantiles < np.inf)
    # What is dropped beyond has at most N e^-25 of the weight; quantiles that draws could hit must be right.
    if not usable[np.abs(z) < 25.0].all():
        raise NumericalError(
            f"cycle_time: the quantiles of {law_text(law)} (ppf, isf) do not fit its distribution function; "
            "give measured or drawn times as a cgc.Trace instead"
        )
    return np.where(usable, log_of(np.where(usable, quantiles, 1.0)), -np.inf)


def _searched(law: Any, z: Array) -> Array:
    """Quantiles at u = expit(z) by bisection; NaN where the distribution function itself jumps past u."""
    u, v = special.expit(z), special.expit(-z)

    def reached(t: Array) -> Any:
        return np.where(z < 0.0, law.cdf(t) >= u, law.sf(t) <= v)

    low, high = law.support()
    values = bisect(reached, np.full(len(z), float(low)), np.full(len(z), float(high)))
    found = np.where(z < 0.0, law.cdf(values) / u, law.sf(values) / v)
    return np.where(np.abs(found - 1.0) <= 0.01, values, np.nan)


def _window(chunk: NDArray[np.int64], workers: int, nodes: _Nodes) -> slice:
    """Nodes that matter to any n of the chunk.

    From the mode of the weight outward by doubling steps until the integrand is negligible: it falls on both
    sides, because the weight is log-concave and outweighs g wherever the mean is finite.
    """
    n = chunk + 1.0
    mode = np.searchsorted(nodes.z, special.logit(n / (workers + 1.0)))
    last = len(nodes.z) - 1

    def height(index: NDArray[np.int64]) -> Array:
        value = nodes.values[index]
        weight = n * nodes.log_u[index] + (workers + 1.0 - n) * nodes.log_v[index]
        return np.asarray(weight + np.where(value > -np.inf, value, 0.0))

    peak = height(mode)
    ends = []
    for direction in (-1, 1):
        stride = 1
        while True:
            index = np.clip(mode + direction * stride, 0, last)
            peak = np.maximum(peak, height(index))
            if not np.any((height(index) > peak - _NEGLIGIBLE) & (index > 0) & (index < last)):
                break
            stride *= 2
        ends.append(index)
    return slice(int(ends[0].min()), int(ends[1].max()) + 1)
