"""Laws made of laws: mixtures, and workers that may never answer. Both are frozen laws like SciPy's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.stats.distributions import rv_frozen

from cgc_fast.arguments import quantity
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError

__all__ = [
    "Mixture",
    "Never",
    "check_frozen",
    "has_density",
    "has_smooth_quantiles",
    "kinks",
    "law_text",
    "never_probability",
    "without_never",
]

if TYPE_CHECKING:  # their methods are overridden with fewer arguments than the stubs know
    from typing import Any as _Continuous
    from typing import Any as _Frozen
else:
    _Continuous, _Frozen = stats.rv_continuous, rv_frozen

Array = NDArray[np.float64]


class Mixture(_Frozen):  # type: ignore[misc]
    """A draw comes from law k with probability weights[k].

    Parameters
    ----------
    laws : sequence of frozen laws
        Continuous, discrete, `Mixture` or `Never`, in any combination.
    weights : sequence of float
        Positive, as many as laws, with sum 1 up to rounding.

    Attributes
    ----------
    laws : tuple
        As given.
    weights : ndarray of float64 of shape (K,)
        Scaled to the sum 1. Read-only.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        Something else than frozen laws of one variable, or weights that are none.

    Notes
    -----
    All methods of a frozen `scipy.stats` law work. Quantiles are found by bisection between the smallest
    and the largest quantile of the laws, to the last place, at up to about 60 evaluations of every
    distribution function.

    Examples
    --------
    >>> from scipy import stats
    >>> law = Mixture([stats.expon(loc=1), stats.expon(loc=10)], [0.9, 0.1])
    >>> round(float(law.mean()), 6)
    2.9
    """

    def __init__(self, laws: Sequence[Any], weights: Sequence[float] | Array) -> None:
        if not isinstance(laws, Sequence) or isinstance(laws, str) or not len(laws):
            raise ArgumentTypeError(f"laws: expected a sequence of frozen laws, got {laws!r}")
        for k, law in enumerate(laws):
            _check(law, f"laws[{k}]")
        if not isinstance(weights, Sequence | np.ndarray) or isinstance(weights, str):
            raise ArgumentTypeError(f"weights: expected a sequence of numbers, got {weights!r}")
        shares = np.array([quantity(f"weights[{k}]", w, positive=True) for k, w in enumerate(weights)])
        if len(shares) != len(laws):
            raise ArgumentValueError(f"weights: expected {len(laws)}, one per law, got {len(shares)}")
        # Weights that somebody typed, such as 0.333333.
        if abs(shares.sum() - 1.0) > 1e-5:
            raise ArgumentValueError(f"weights: expected the sum 1, got {shares.sum():.12g}")
        shares /= shares.sum()
        shares.flags.writeable = False
        self.laws: tuple[Any, ...] = tuple(laws)
        self.weights: Array = shares
        super().__init__(_MixtureDistribution(self.laws, shares))

    # SciPy takes the distribution function to be 0 at the lower end of the support, where an atom may be.

    def cdf(self, x: ArrayLike) -> Any:
        """Distribution function at x."""
        return sum(w * law.cdf(x) for w, law in zip(self.weights, self.laws, strict=True))

    def sf(self, x: ArrayLike) -> Any:
        """Probability of more than x."""
        return sum(w * law.sf(x) for w, law in zip(self.weights, self.laws, strict=True))

    def pdf(self, x: ArrayLike) -> Any:
        """Density at x; a law with atoms has none."""
        return self.dist.pdf(x)

    def logpdf(self, x: ArrayLike) -> Any:
        """Log of the density at x."""
        return self.dist.logpdf(x)

    def __repr__(self) -> str:
        return law_text(self)


class Never(_Frozen):  # type: ignore[misc]
    """A worker that with some probability never answers: infinity then, otherwise a draw of `law`.

    Parameters
    ----------
    law : frozen law
        Of the cycle time if the worker answers.
    probability : float
        p, of never answering in an iteration, in [0, 1).

    Attributes
    ----------
    law, probability
        As given.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        No frozen law of one variable; p outside [0, 1).

    Notes
    -----
    The distribution function rises to 1 - p only, and jumps to 1 at infinity: quantiles beyond 1 - p are
    infinite, and so is the mean. The density integrates to 1 - p.
    """

    def __init__(self, law: Any, probability: float) -> None:
        _check(law, "law")
        p = quantity("probability", probability)
        if not p < 1:
            raise ArgumentValueError(f"probability: expected a number in [0, 1), got {p}")
        self.law = law
        self.probability = p
        super().__init__(_NeverDistribution(law, p))

    def cdf(self, x: ArrayLike) -> Any:
        """Distribution function at x; 1 at infinity only."""
        return (1.0 - self.probability) * self.law.cdf(x) + self.probability * (np.asarray(x) == np.inf)

    def sf(self, x: ArrayLike) -> Any:
        """Probability of more than x, never answering included."""
        return (1.0 - self.probability) * self.law.sf(x) + self.probability * ~(np.asarray(x) == np.inf)

    def pdf(self, x: ArrayLike) -> Any:
        """Density at x, (1 - p) times that of `law`."""
        return self.dist.pdf(x)

    def logpdf(self, x: ArrayLike) -> Any:
        """Log of the density at x."""
        return self.dist.logpdf(x)

    def __repr__(self) -> str:
        return law_text(self)


def law_text(law: Any) -> str:
    """Text of a frozen law to six digits, as `parse_law` reads it; SciPy's own discrete ones it does not."""
    if isinstance(law, Mixture):
        parts = ", ".join(f"{w:g}*{law_text(part)}" for part, w in zip(law.laws, law.weights, strict=True))
        return f"Mixture({parts})"
    if isinstance(law, Never):
        return f"Never({law_text(law.law)}, {law.probability:g})"
    if hasattr(law.dist, "xk"):  # rv_discrete(values=...)
        atoms = ", ".join(f"{x:g}: {p:g}" for x, p in zip(law.dist.xk, law.dist.pk, strict=True))
        return f"atoms({{{atoms}}})"
    parameters = [f"{value:g}" for value in law.args]
    parameters += [f"{name}={value:g}" for name, value in law.kwds.items()]
    return f"{law.dist.name}({', '.join(parameters)})"


def never_probability(law: Any) -> float:
    """Probability that a draw of the law is infinite; 0 for SciPy's laws."""
    if isinstance(law, Never):
        return law.probability + (1.0 - law.probability) * never_probability(law.law)
    if isinstance(law, Mixture):
        return float(sum(w * never_probability(part) for w, part in zip(law.weights, law.laws, strict=True)))
    return 0.0


def without_never(law: Any) -> Any:
    """The law of a draw given that it is finite."""
    if isinstance(law, Never):
        return without_never(law.law)
    if isinstance(law, Mixture) and never_probability(law) > 0:
        answering = [w * (1 - never_probability(part)) for w, part in zip(law.weights, law.laws, strict=True)]
        return Mixture([without_never(part) for part in law.laws], np.divide(answering, sum(answering)))
    return law


def has_smooth_quantiles(law: Any) -> bool:
    """Whether the quantile function is continuous, finite and, but for exotic laws, analytic inside (0, 1).

    Between the laws of a mixture it may all but jump.
    """
    return isinstance(law.dist, stats.rv_continuous) and not isinstance(law, Mixture | Never)


def has_density(law: Any) -> bool:
    """Whether finite draws have a density: no atoms, but perhaps a probability of never answering."""
    if isinstance(law, Never):
        return has_density(law.law)
    if isinstance(law, Mixture):
        return all(has_density(part) for part in law.laws)
    return isinstance(law.dist, stats.rv_continuous)


def kinks(law: Any) -> Array:
    """Places inside the support where the density is known to jump or to kink, ascending.

    Of mixtures, SciPy's histograms, triangles and trapezoids; other laws may have some that nobody tells.
    """
    if isinstance(law, Never):
        return kinks(law.law)
    low, high = law.support()
    found: list[float] = []
    if isinstance(law, Mixture):
        for part in law.laws:
            found += [*part.support(), *kinks(part)]
    elif isinstance(law.dist, stats.rv_continuous):
        distribution: Any = law.dist
        shapes, loc, scale = distribution._parse_args(*law.args, **law.kwds)
        if distribution.name in ("triang", "trapezoid"):
            found = [loc + scale * float(shape) for shape in shapes]
        elif (edges := getattr(distribution, "_hbins", None)) is not None:  # of a histogram
            found = (loc + scale * np.asarray(edges)).tolist()
    places = np.unique(np.array(found, dtype=np.float64))
    return np.asarray(places[(places > low) & (places < high)])


class _Composed(_Continuous):  # type: ignore[misc]
    """A law without parameters that knows its parts; SciPy makes copies of it by its constructor's names."""

    _names: tuple[str, ...] = ()

    def __init__(self, *parts: Any, **options: Any) -> None:
        for name in self._names:
            options.pop(name, None)
        super().__init__(**options)

    def _updated_ctor_param(self) -> dict[str, Any]:
        return {**super()._updated_ctor_param(), **{name: getattr(self, name) for name in self._names}}

    def _argcheck(self) -> bool:
        return True


class _MixtureDistribution(_Composed):
    _names = ("laws", "weights")

    def __init__(self, laws: Any, weights: Any, **options: Any) -> None:
        self.laws, self.weights = laws, weights
        ends = [law.support() for law in laws]
        options.update(a=min(float(low) for low, _ in ends), b=max(float(high) for _, high in ends))
        options.setdefault("name", "Mixture")
        super().__init__(**options)

    def _sum(self, method: str, x: Array) -> Array:
        parts = (getattr(law, method)(x) for law in self.laws)
        return np.asarray(sum(w * part for w, part in zip(self.weights, parts, strict=True)))

    def _pdf(self, x: Array) -> Array:
        return self._sum("pdf", x)

    def _cdf(self, x: Array) -> Array:
        return self._sum("cdf", x)

    def _sf(self, x: Array) -> Array:
        return self._sum("sf", x)

    def _ppf(self, q: Array) -> Array:
        ends = [np.asarray(law.ppf(q), dtype=np.float64) for law in self.laws]
        return bisect(lambda t: self._sum("cdf", t) >= q, np.minimum.reduce(ends), np.maximum.reduce(ends))

    def _isf(self, q: Array) -> Array:
        ends = [np.asarray(law.isf(q), dtype=np.float64) for law in self.laws]
        return bisect(lambda t: self._sum("sf", t) <= q, np.minimum.reduce(ends), np.maximum.reduce(ends))

    def _rvs(self, size: Any = None, random_state: Any = None) -> Any:
        chosen = random_state.choice(len(self.laws), size=size, p=self.weights)
        values = np.empty(np.shape(chosen))
        for k, law in enumerate(self.laws):
            mine = chosen == k
            values[mine] = law.rvs(size=int(mine.sum()), random_state=random_state)
        return values

    def _munp(self, n: Any, *_: Any) -> float:
        return float(sum(w * law.moment(int(n)) for w, law in zip(self.weights, self.laws, strict=True)))

    def _stats(self, *_: Any, **__: Any) -> tuple[Any, Any, None, None]:
        means = np.array([float(law.mean()) for law in self.laws])
        mean = float(self.weights @ means)
        if not np.isfinite(mean):
            return mean, np.nan, None, None
        spread = np.array([float(law.var()) for law in self.laws])
        return mean, float(self.weights @ (spread + (means - mean) ** 2)), None, None


class _NeverDistribution(_Composed):
    _names = ("law", "probability")

    def __init__(self, law: Any, probability: float, **options: Any) -> None:
        self.law, self.probability = law, probability
        options.update(a=float(law.support()[0]), b=np.inf if probability else float(law.support()[1]))
        options.setdefault("name", "Never")
        super().__init__(**options)

    def _pdf(self, x: Array) -> Array:
        return np.asarray((1.0 - self.probability) * self.law.pdf(x))

    def _cdf(self, x: Array) -> Array:
        return np.asarray((1.0 - self.probability) * self.law.cdf(x))

    def _sf(self, x: Array) -> Array:
        return np.asarray(self.probability + (1.0 - self.probability) * self.law.sf(x))

    def _ppf(self, q: Array) -> Array:
        answered = np.minimum(q / (1.0 - self.probability), 1.0)
        return np.where(q > 1.0 - self.probability, np.inf, self.law.ppf(answered))

    def _isf(self, q: Array) -> Array:
        answered = np.maximum((q - self.probability) / (1.0 - self.probability), 0.0)
        return np.where(q < self.probability, np.inf, self.law.isf(answered))

    def _rvs(self, size: Any = None, random_state: Any = None) -> Any:
        silent = random_state.uniform(size=size) < self.probability
        return np.where(silent, np.inf, self.law.rvs(size=size, random_state=random_state))

    def _munp(self, n: Any, *_: Any) -> float:
        return np.inf if self.probability else float(self.law.moment(int(n)))

    def _stats(self, *_: Any, **__: Any) -> tuple[Any, Any, None, None]:
        if self.probability:
            return np.inf, np.nan, None, None
        return float(self.law.mean()), float(self.law.var()), None, None


def bisect(reached: Any, low: Array, high: Array) -> Array:
    """Smallest t in [low, high] where the monotone predicate holds, to the last place."""
    low, high = np.array(low, dtype=np.float64), np.array(high, dtype=np.float64)
    # The lowest quantile may be the answer itself (laws that agree, or share an atom).
    at_low = reached(low)
    high = np.where(at_low, low, high)
    # An infinite upper end: first a finite one, if there is one at all.
    probe = np.maximum(np.where(np.isfinite(low), np.abs(low), 1.0), 1.0)
    while np.any(open_end := np.isinf(high) & (probe < 1e300)):
        found = open_end & reached(np.where(open_end, probe, low))
        high = np.where(found, probe, high)
        probe = np.where(open_end & ~found, probe * 16.0, np.where(found, np.inf, probe))
    solving = np.isfinite(low) & np.isfinite(high)
    while True:
        middle = np.where(solving, low + 0.5 * (high - low), low)
        geometric = solving & (low > 0) & (high > 4.0 * low)
        middle[geometric] = np.sqrt(low[geometric]) * np.sqrt(high[geometric])
        inside = solving & (low < middle) & (middle < high)
        if not inside.any():
            return high
        below = reached(middle)
        high = np.where(inside & below, middle, high)
        low = np.where(inside & ~below, middle, low)


def check_frozen(law: Any, what: str, instead_of_arrays: str = "") -> None:
    """Refuse what is not a frozen law of one variable with scalar parameters."""
    if isinstance(law, stats.rv_continuous | stats.rv_discrete):
        raise ArgumentTypeError(
            f"{what}: expected a frozen law; {law.name} has no parameters yet: call it, for example "
            f"{law.name}(..., loc=..., scale=...)"
        )
    if not isinstance(law, rv_frozen):
        raise ArgumentTypeError(f"{what}: expected a frozen scipy.stats law, got {type(law).__name__}")
    if any(np.ndim(value) for value in (*law.args, *law.kwds.values())):
        raise ArgumentValueError(f"{what}: expected scalar parameters, got arrays{instead_of_arrays}")


def _check(law: Any, what: str) -> None:
    """Refuse what is not a frozen law of one variable; that it is positive, a model checks."""
    check_frozen(law, what)
    if np.isnan(law.support()).any():
        raise ArgumentValueError(f"{what}: {law.dist.name} has impossible parameters")
