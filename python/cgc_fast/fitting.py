"""Laws fitted to measured cycle times: which family, how well, and a warning where none does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from cgc_fast.arguments import integer, numbers
from cgc_fast.errors import ArgumentValueError, PoorFitWarning
from cgc_fast.mixtures import Never
from cgc_fast.plotting import import_pyplot
from cgc_fast.straggler_models import Trace, law_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Candidate", "Fit", "fit"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SIGNIFICANCE = 0.01
CLOSE = 0.01  # a distance that no test may call a poor fit, however many entries there are
_REPLICA, _CENSORED_REPLICA = 1_000, 300  # entries of a replica for the p-value; censored ones take longer
_SHAPES = (1e-3, 1e3)  # of Weibull and gamma; beyond, the law is a point or nothing


@dataclass(frozen=True)
class Candidate:
    """One family, fitted.

    Attributes
    ----------
    name : str
        Family.
    law : frozen scipy.stats law
        With the fitted parameters.
    parameters : int
        How many were fitted.
    log_likelihood, aic, bic : float
        AIC = 2 parameters - 2 log-likelihood; BIC = parameters log(entries) - 2 log-likelihood.
    """

    name: str
    law: Any
    parameters: int
    log_likelihood: float
    aic: float
    bic: float


@dataclass(frozen=True, eq=False)
class Fit:
    """The best law for measured cycle times. Made by `fit`.

    Attributes
    ----------
    law : frozen law
        For `cgc_fast.plan`; a `Never` if some entries are infinite.
    name : str
        Family of the best candidate.
    log_likelihood : float
        Of the finite entries under it.
    candidates : tuple of Candidate
        All families, the best (lowest AIC) first.
    distance : float
        Kolmogorov-Smirnov distance: largest difference between the law's distribution function and that of
        the finite entries (Kaplan-Meier's with censored ones, up to the time that 5 % of all outlast).
    p_value : float
        Probability of a larger distance if the law were true, its parameters fitted alike.
    times, censored : ndarray of float64 and bool of shape (n,)
        The finite entries, sorted.
    never : float
        Fraction of entries that are infinite.
    """

    law: Any
    name: str
    log_likelihood: float
    candidates: tuple[Candidate, ...]
    distance: float
    p_value: float
    times: Array
    censored: Mask
    never: float

    @property
    def fits(self) -> bool:
        """Whether the law may be taken for the truth: p-value above 0.01, or distance at most 0.01."""
        return self.p_value > SIGNIFICANCE or self.distance <= CLOSE

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw how many entries are larger than t: measured, the best law, and the others; needs matplotlib.

        On logarithmic axes, because the tail decides about stragglers.
        """
        plt = import_pyplot()
        if ax is None:
            _, ax = plt.subplots(figsize=(7.0, 4.5), layout="constrained")
        at, distribution = _empirical(self.times, self.censored)
        ax.step(
            at, 1.0 - distribution, where="post", color="black", linewidth=2.0, label="measured", zorder=3
        )
        least = 0.4 / len(self.times)
        best = self.candidates[0]
        far = max(float(self.times[-1]), min(float(best.law.isf(least)), 2.0 * float(self.times[-1])))
        near = min(float(self.times[0]), max(float(best.law.ppf(least)), 0.5 * float(self.times[0])))
        grid = np.geomspace(near, far, 500)
        for index, candidate in enumerate(self.candidates):
            tail = candidate.law.sf(grid)
            if index == 0:
                label = f"{candidate.name} (best)"
                ax.plot(grid, tail, color="#b2182b", linewidth=2.0, label=label, zorder=4)
            else:
                shade = plt.get_cmap("viridis")((index - 1) / max(len(self.candidates) - 2, 1))
                ax.plot(grid, tail, color=shade, linewidth=0.9, label=candidate.name, zorder=2)
        if self.censored.any():
            marks = self.times[self.censored]
            height = 1.0 - np.interp(marks, at, distribution)
            ax.plot(marks, height, "|", color="black", markersize=7, label="stopped waiting")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_ylim(least, 1.4)
        ax.set_xlim(near, far)
        ax.xaxis.set_minor_formatter("{x:.3g}") if far < 10 * near else None
        ax.set_xlabel("cycle time t, seconds per cycle")
        ax.set_ylabel("fraction of entries larger than t")
        verdict = "" if self.fits else ": no family fits"
        ax.set_title(f"distance {self.distance:.3f}, p-value {self.p_value:.2g}{verdict}", fontsize=10)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small")
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        return ax

    def summary(self) -> str:
        """The candidates and the goodness of fit, in a few lines."""
        lines = [f"{len(self.times)} finite entries, {np.count_nonzero(self.censored)} censored"]
        lines += [
            f"{c.name:<20} log-likelihood {c.log_likelihood:12.2f}  AIC {c.aic:12.2f}  {law_text(c.law)}"
            for c in self.candidates
        ]
        lines.append(f"{self.name}: distance {self.distance:.4f}, p-value {self.p_value:.3g}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Fit({law_text(self.law)}, distance={self.distance:.4f}, p_value={self.p_value:.3g})"


def fit(trace: Trace | ArrayLike, *, replicas: int = 99, seed: int = 0) -> Fit:
    """Fit the best of several families to all entries of a trace, taken as i.i.d.

    Families: exponential (shifted), Pareto, and log-normal, Weibull and gamma, each unshifted and shifted.

    Parameters
    ----------
    trace : Trace or array-like of shape (I, N) or (n,)
        Measured cycle times. Censored entries are lower bounds. Infinite entries, unless censored, count as
        never answered: their fraction becomes the probability of a `Never`.
    replicas : int
        Sets of times drawn from the fitted law, for the p-value, whose smallest value is 1/(replicas + 1);
        at least 99.
    seed : int
        Of these.

    Returns
    -------
    Fit

    Warns
    -----
    PoorFitWarning
        No family fits: the best one is rejected at the level 0.01 and more than 0.01 from the data.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        No trace; fewer than 10 different observed times, which leave nothing to choose a family by.

    Notes
    -----
    Parameters maximise the likelihood, censored entries counting with their survival function, except for
    the location of the shifted families. There the likelihood of the exponential and Pareto is highest at the
    smallest observed time T_(1), which is taken; that of the other three is unbounded as the location
    approaches T_(1), where a density becomes infinite, so it is maximised over locations in
    [0, T_(1) - (mean - T_(1)) / n] only: no closer to T_(1) than an exponential law would on average leave
    it. The family is the one with the lowest AIC.

    The p-value is a parametric bootstrap: distances of replicas, refitted within the same family, with
    censoring times drawn from their own Kaplan-Meier estimate. Replicas have at most 1,000 entries (300 with
    censoring), and sqrt(n) distance is compared, whose law hardly depends on n. Entries of a real trace are
    seldom independent, so that the p-value is, if anything, too small.

    O(replicas) fits of replicas, and one of each family to the n entries: a second or two, up to ten
    with censoring.
    """
    measured = trace if isinstance(trace, Trace) else Trace(_as_columns(trace))
    replicas = integer("replicas", replicas, round(1 / SIGNIFICANCE) - 1)
    generator = np.random.default_rng(integer("seed", seed, 0))
    all_times, all_censored = measured.times.ravel(), measured.censored.ravel()
    finite = np.isfinite(all_times)
    never = float(np.mean(~finite & ~all_censored))
    order = np.argsort(all_times[finite], kind="stable")
    times, censored = all_times[finite][order], all_censored[finite][order]
    different = len(np.unique(times[~censored]))
    if different < 10:
        raise ArgumentValueError(
            f"trace: expected at least 10 different finite, uncensored times, got {different}; plan with the "
            "trace itself"
        )
    data = _Data(times, censored)
    candidates = tuple(sorted((family(data) for family in _FAMILIES.values()), key=lambda c: c.aic))
    best = candidates[0]
    distance = _distance(best.law, times, censored)
    p_value = _p_value(best, data, distance, replicas, generator)
    law = Never(best.law, never) if never else best.law
    made = Fit(law, best.name, best.log_likelihood, candidates, distance, p_value, times, censored, never)
    if not made.fits:
        warnings.warn(_poor_fit(made, measured), PoorFitWarning, stacklevel=2)
    return made


def _as_columns(times: ArrayLike) -> Any:
    values = numbers("trace", times)
    return values[:, None] if values.ndim == 1 else values


def _poor_fit(made: Fit, measured: Trace) -> str:
    message = (
        f"no family of laws fits: the best, {made.name}, is {made.distance:.3f} from the measured "
        f"distribution function (p-value {made.p_value:.2g}); use the trace itself: cgc.plan(..., "
        "cycle_time=trace)"
    )
    finite = np.where(np.isfinite(measured.times), measured.times, np.nan)
    answered = finite[:, np.isfinite(finite).any(axis=0)]
    typical = np.nanmedian(answered, axis=0)
    if typical.max() > 1.5 * typical.min():
        message += (
            f". Workers differ: their medians range from {typical.min():.3g} to {typical.max():.3g}, which "
            "one law for all cannot describe"
        )
    return message


class _Data:
    """Sorted finite entries, and what all families need of them."""

    def __init__(self, times: Array, censored: Mask) -> None:
        self.times, self.censored = times, censored
        self.observed = times[~censored]
        self.bounds = times[censored]
        self.least = float(self.observed[0])
        # What an exponential law would leave between its location and the smallest time, on average.
        self.nearest = self.least - float(np.mean(np.maximum(times - self.least, 0.0))) / len(times)

    def log_likelihood(self, law: Any) -> float:
        total = float(law.logpdf(self.observed).sum())
        return total + float(law.logsf(self.bounds).sum()) if len(self.bounds) else total


def _candidate(name: str, data: _Data, law: Any, parameters: int) -> Candidate:
    value = data.log_likelihood(law)
    aic = 2.0 * parameters - 2.0 * value
    return Candidate(name, law, parameters, value, aic, aic + parameters * (np.log(len(data.times)) - 2.0))


def _exponential(data: _Data) -> Candidate:
    waited = np.maximum(data.times - data.least, 0.0).sum()
    law = stats.expon(loc=data.least, scale=float(waited) / len(data.observed))
    return _candidate("exponential", data, law, 2)


def _pareto(data: _Data) -> Candidate:
    growth = np.log(np.maximum(data.times / data.least, 1.0)).sum()
    law = stats.pareto(b=len(data.observed) / float(growth), scale=data.least)
    return _candidate("pareto", data, law, 2)


def _unshifted(name: str, of_location: Callable[[_Data, float], Any]) -> Callable[[_Data], Candidate]:
    def family(data: _Data) -> Candidate:
        return _candidate(name, data, of_location(data, 0.0), 2)

    return family


def _shifted(name: str, of_location: Callable[[_Data, float], Any]) -> Callable[[_Data], Candidate]:
    def family(data: _Data) -> Candidate:
        if data.nearest <= 0:  # the smallest time is 0 but for noise: no room for a location
            return _candidate(f"shifted {name}", data, of_location(data, 0.0), 3)

        # The likelihood changes with the logarithm of the distance to the smallest time.
        def loss(log_gap: float) -> float:
            location = max(data.least - np.exp(log_gap), 0.0)
            return -data.log_likelihood(of_location(data, location))

        narrow, wide = np.log(data.least - data.nearest), np.log(data.least)
        grid = np.linspace(narrow, wide, 7)
        losses = [loss(g) for g in grid]
        k = int(np.argmin(losses))
        span = (grid[max(k - 1, 0)], grid[min(k + 1, 6)])
        found = optimize.minimize_scalar(loss, bounds=span, method="bounded", options={"xatol": 1e-2})
        log_gap = found.x if found.fun < losses[k] else grid[k]
        location = max(data.least - float(np.exp(log_gap)), 0.0)
        return _candidate(f"shifted {name}", data, of_location(data, location), 3)

    return family


def _lognormal(data: _Data, location: float) -> Any:
    log_times = np.log(data.observed - location)
    mean, spread = float(log_times.mean()), float(log_times.std())
    if len(data.bounds):
        bounds = np.log(np.maximum(data.bounds - location, np.finfo(float).tiny))

        def loss(parameters: Array) -> float:
            centre, log_scale = parameters
            scale = np.exp(log_scale)
            observed = 0.5 * np.square((log_times - centre) / scale).sum() + len(log_times) * log_scale
            return float(observed - special.log_ndtr((centre - bounds) / scale).sum())

        def standardised(parameters: Array) -> float:
            return loss(np.array([mean + spread * parameters[0], np.log(spread) + parameters[1]])) / len(
                data.times
            )

        found = _minimise(standardised, [0.1, 0.1])
        mean, spread = mean + spread * float(found[0]), spread * float(np.exp(found[1]))
    return stats.lognorm(s=spread, loc=location, scale=float(np.exp(mean)))


def _weibull(data: _Data, location: float) -> Any:
    """Solve the likelihood equation for the shape; the scale follows. Censored entries only add to sums."""
    times = np.maximum(data.times - location, 0.0)
    logs = np.log(np.maximum(times, np.finfo(float).tiny) / times.max())
    observed_mean = float(logs[~data.censored].mean())

    def equation(log_shape: float) -> float:
        shape = np.exp(log_shape)
        powers = np.exp(shape * logs)
        return float((powers @ logs) / powers.sum() - 1.0 / shape - observed_mean)

    shape = float(np.exp(_root(equation)))
    scale = times.max() * (np.exp(shape * logs).sum() / len(data.observed)) ** (1.0 / shape)
    return stats.weibull_min(c=shape, loc=location, scale=float(scale))


def _gamma(data: _Data, location: float) -> Any:
    times = data.observed - location
    mean = float(times.mean())
    gap = np.log(mean) - float(np.log(times).mean())

    def equation(log_shape: float) -> float:
        shape = np.exp(log_shape)
        return float(gap - np.log(shape) + special.digamma(shape))

    shape = float(np.exp(_root(equation)))
    scale = mean / shape
    if len(data.bounds):
        bounds = np.maximum(data.bounds - location, 0.0)
        log_sum, count = float(np.log(times).sum()), len(times)

        def loss(parameters: Array) -> float:
            k, theta = np.exp(parameters)
            observed = (k - 1.0) * log_sum - count * mean / theta
            observed -= count * (special.gammaln(k) + k * parameters[1])
            tail = np.maximum(special.gammaincc(k, bounds / theta), np.finfo(float).tiny)
            return float(-observed - np.log(tail).sum()) / len(data.times)

        start = [np.log(shape), np.log(scale)]
        found = _minimise(loss, start)
        shape, scale = (float(value) for value in np.exp(found))
    return stats.gamma(a=shape, loc=location, scale=scale)


# In units of one standard deviation or factor e, and of the log-likelihood of one entry.
_NELDER_MEAD: Any = {"xatol": 1e-4, "fatol": 1e-8, "maxiter": 500}


def _minimise(loss: Callable[[Array], float], start: list[float]) -> Array:
    found = optimize.minimize(loss, np.array(start), method="Nelder-Mead", options=_NELDER_MEAD)
    return np.asarray(found.x)


def _root(equation: Callable[[float], float]) -> float:
    """Root of a rising function of the log of a shape, or the end of the range of shapes next to it."""
    low, high = (float(np.log(end)) for end in _SHAPES)
    if equation(low) >= 0:
        return low
    if equation(high) <= 0:
        return high
    return float(optimize.brentq(equation, low, high, xtol=1e-10))


_FAMILIES: dict[str, Callable[[_Data], Candidate]] = {
    "exponential": _exponential,
    "pareto": _pareto,
    "lognormal": _unshifted("lognormal", _lognormal),
    "weibull": _unshifted("weibull", _weibull),
    "gamma": _unshifted("gamma", _gamma),
    "shifted lognormal": _shifted("lognormal", _lognormal),
    "shifted weibull": _shifted("weibull", _weibull),
    "shifted gamma": _shifted("gamma", _gamma),
}


def _empirical(times: Array, events: Mask, *, of_censoring: bool = False) -> tuple[Array, Array]:
    """Kaplan-Meier distribution function of sorted times: where it jumps, and its values from there on.

    `events` marks the censored entries; with `of_censoring`, the estimate is that of the censoring times.
    """
    happened = events if of_censoring else ~events
    at_risk = len(times) - np.arange(len(times))
    survival = np.cumprod(1.0 - happened / at_risk)
    last = np.append(np.flatnonzero(np.diff(times)), len(times) - 1)  # of equal times, all have happened
    return times[last], 1.0 - survival[last]


def _distance(law: Any, times: Array, censored: Mask) -> float:
    at, distribution = _empirical(times, censored)
    if censored.any():  # the last few entries at risk say hardly anything
        known = at <= times[int(0.95 * (len(times) - 1))]
        at, distribution = at[known], distribution[known]
    before = np.concatenate(([0.0], distribution[:-1]))
    values = law.cdf(at)
    return float(max(np.max(np.abs(values - distribution)), np.max(np.abs(values - before))))


def _p_value(
    best: Candidate, data: _Data, distance: float, replicas: int, generator: np.random.Generator
) -> float:
    count = min(len(data.times), _CENSORED_REPLICA if data.censored.any() else _REPLICA)
    wanted = distance * np.sqrt(len(data.times))
    limits, stopped = _empirical(data.times, data.censored, of_censoring=True)
    larger = 0
    for _ in range(replicas):
        times = np.asarray(best.law.rvs(size=count, random_state=generator), dtype=np.float64)
        censored = np.zeros(count, dtype=np.bool_)
        if data.censored.any():
            # Beyond the last jump nobody was stopped.
            index = np.searchsorted(stopped, generator.uniform(size=count))
            limit = np.append(limits, np.inf)[index]
            censored = times > limit
            times = np.minimum(times, limit)
        order = np.argsort(times, kind="stable")
        times, censored = np.maximum(times[order], np.finfo(float).tiny), censored[order]
        if len(np.unique(times[~censored])) < 3:
            larger += 1  # says nothing against the law
            continue
        refitted = _FAMILIES[best.name](_Data(times, censored))
        larger += _distance(refitted.law, times, censored) * np.sqrt(count) >= wanted
    return (larger + 1) / (replicas + 1)
