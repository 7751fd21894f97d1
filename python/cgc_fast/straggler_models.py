"""Models of the workers' cycle times: where the draws T (S, N) come from.

A cycle time is the seconds that a worker takes for one cycle of computation, constant within an iteration and
drawn anew in each. The master knows only its distribution: one law for all workers (i.i.d.), one law per
worker (independent), or a trace of measured times, whose rows keep whatever dependence the workers have.
"""

from __future__ import annotations

import ast
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.stats.distributions import rv_frozen

from cgc_fast.arguments import numbers
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError, unknown_name
from cgc_fast.mixtures import Mixture, Never, check_frozen, law_text, never_probability, without_never

__all__ = [
    "AtMostNever",
    "IdenticalLaw",
    "LawPerWorker",
    "StragglerModel",
    "Trace",
    "as_straggler_model",
    "law_text",
    "parse_law",
    "straggler_model_from_dict",
]

_EXPECTED = (
    "cycle_time: expected a frozen scipy.stats law such as stats.expon(loc=50, scale=1000), a sequence of "
    "one such law per worker, or a cgc.Trace"
)


class StragglerModel(ABC):
    """Distribution of the cycle times of N workers.

    Attributes
    ----------
    workers : int
        N.
    condition : str
        What the draws are conditioned on, as part of a sentence; empty if on nothing.
    """

    workers: int
    condition: str = ""

    @abstractmethod
    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Cycle times (count, N) in seconds per cycle, a row an iteration; infinity: never answers."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any] | None:
        """JSON form, for `straggler_model_from_dict`; None for a law that SciPy does not know by name."""


class IdenticalLaw(StragglerModel):
    """Cycle times of all workers independent, from one law.

    Parameters
    ----------
    law : frozen scipy.stats law
        On the positive half-line, seconds per cycle.
    workers : int
        N.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        `law` is not a frozen law, or has mass at or below 0.
    """

    def __init__(self, law: Any, workers: int) -> None:
        _check_law(law, "cycle_time")
        self.law = law
        self.workers = workers

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Draw (count, N) independent cycle times."""
        times = self.law.rvs(size=(count, self.workers), random_state=generator)
        return _positive_draws(np.ascontiguousarray(times, dtype=np.float64), law_text(self.law))

    def to_dict(self) -> dict[str, Any] | None:
        """Name and parameters of the law."""
        law = _law_to_dict(self.law)
        return None if law is None else {"kind": "law", "workers": self.workers, "law": law}

    def __repr__(self) -> str:
        return f"{law_text(self.law)}, {self.workers} workers"


class AtMostNever(StragglerModel):
    """Independent cycle times of one law, given that at most `most` of the workers never answer.

    If every worker may never answer, so may all of them, and every unconditional mean runtime is infinite.
    Under this condition, redundancy levels n >= most have finite ones.

    Parameters
    ----------
    law : frozen law
        With a probability of never answering, `Never` or a mixture with one.
    workers : int
        N.
    most : int
        d, 0..N-1.

    Attributes
    ----------
    law, most
        As given.
    silent : ndarray of float64 of shape (d+1,)
        Probability that exactly k = 0..d workers never answer, given that at most d do: binomial, cut off.
    """

    def __init__(self, law: Any, workers: int, most: int) -> None:
        _check_law(law, "cycle_time")
        self.law = law
        self.workers = workers
        self.most = most
        log_silent = stats.binom.logpmf(np.arange(most + 1), workers, never_probability(law))
        self.silent: NDArray[np.float64] = np.exp(log_silent - log_silent.max())
        self.silent /= self.silent.sum()
        self.condition = f"given that at most {most} of {workers} workers never answer"

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Draw (count, N): how many never answer, which these are, and the times of the others."""
        times = IdenticalLaw(without_never(self.law), self.workers).draw(generator, count)
        silent = generator.choice(self.most + 1, size=count, p=self.silent)
        rank = np.argsort(generator.random((count, self.workers)), axis=1)
        times[rank < silent[:, None]] = np.inf
        return times

    def to_dict(self) -> dict[str, Any] | None:
        """Law and condition."""
        law = _law_to_dict(self.law)
        if law is None:
            return None
        return {"kind": "at_most_never", "workers": self.workers, "law": law, "most": self.most}

    def __repr__(self) -> str:
        return f"{law_text(self.law)}, {self.workers} workers, {self.condition}"


class LawPerWorker(StragglerModel):
    """Cycle times independent, worker w's from `laws[w]`; parameters as in `IdenticalLaw`."""

    def __init__(self, laws: Sequence[Any]) -> None:
        for worker, law in enumerate(laws):
            _check_law(law, f"cycle_time[{worker}]")
        self.laws = tuple(laws)
        self.workers = len(self.laws)

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Draw (count, N) independent cycle times."""
        times = np.empty((count, self.workers))
        for worker, law in enumerate(self.laws):
            times[:, worker] = law.rvs(size=count, random_state=generator)
        return _positive_draws(times, "the laws of cycle_time")

    def to_dict(self) -> dict[str, Any] | None:
        """Names and parameters of the laws; None if one of them has no name."""
        laws = [_law_to_dict(law) for law in self.laws]
        return None if None in laws else {"kind": "laws", "laws": laws}

    def __repr__(self) -> str:
        return f"{len(self.laws)} laws, {law_text(self.laws[0])} to {law_text(self.laws[-1])}"


class Trace(StragglerModel):
    """Measured cycle times: every iteration is one of its rows, with equal probability.

    Parameters
    ----------
    times : array-like of shape (I, N)
        Seconds per cycle of N workers in I iterations, positive; infinity where a worker never answered.
        Copied.
    censored : array-like of bool of shape (I, N), optional
        True where the entry is only a lower bound, because the worker was stopped then; plans are made for
        imputed times (`censoring.impute`).

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        Wrong type or shape, no entries, NaN, or an entry at or below 0.
    """

    def __init__(self, times: ArrayLike, censored: ArrayLike | None = None) -> None:
        values = np.array(numbers("times", times, "numbers of shape (I, N)"), dtype=np.float64, order="C")
        if values.ndim != 2 or values.size == 0:
            raise ArgumentValueError(
                f"times: expected shape (iterations, workers), at least (1, 1), got {values.shape}"
            )
        bad = np.argwhere(~(values > 0))
        if len(bad):
            row, worker = (int(i) for i in bad[0])
            raise ArgumentValueError(
                f"times: expected positive cycle times (infinity: never answered), got {values[row, worker]} "
                f"at row {row}, worker {worker} ({len(bad)} such entries)"
            )
        if censored is None:
            censored = np.zeros(values.shape, dtype=bool)
        mask = np.array(numbers("censored", censored, "booleans", "b"))
        if mask.shape != values.shape:
            raise ArgumentValueError(
                f"censored: expected the shape of times {values.shape}, got {mask.shape}"
            )
        values.flags.writeable = mask.flags.writeable = False
        self.times: NDArray[np.float64] = values
        self.censored: NDArray[np.bool_] = mask
        self.workers = values.shape[1]

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> Trace:
        """Read comma-separated times, a row an iteration, a column a worker; lines with # are comments."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # an empty file: refused below with our words
                times = np.loadtxt(path, delimiter=",", comments="#", ndmin=2, dtype=np.float64)
        except ValueError as error:
            raise ArgumentValueError(f"{os.fspath(path)}: expected rows of numbers; {error}") from error
        return cls(times)

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Draw `count` rows (count, N) with replacement."""
        return self.times[generator.integers(len(self.times), size=count)]

    def to_dict(self) -> dict[str, Any]:
        """All values; infinity as the string "inf", which strict JSON readers accept."""
        times = [[value if np.isfinite(value) else "inf" for value in row] for row in self.times.tolist()]
        form: dict[str, Any] = {"kind": "trace", "times": times}
        if self.censored.any():
            form["censored"] = self.censored.tolist()
        return form

    def __repr__(self) -> str:
        return f"trace of {self.times.shape[0]} iterations, {self.workers} workers"


def as_straggler_model(cycle_time: object, workers: int) -> StragglerModel:
    """Turn what a user gives as `cycle_time` into a model for `workers` workers.

    Parameters
    ----------
    cycle_time : frozen scipy.stats law, sequence of such laws, Trace or StragglerModel
        One law: i.i.d. workers. A sequence: one law per worker.
    workers : int
        N, which the sequence or trace must fit.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        Anything else, an unfrozen distribution, mass at or below 0, or another number of workers.
    """
    if isinstance(cycle_time, StragglerModel):
        model = cycle_time
    elif isinstance(cycle_time, rv_frozen):
        return IdenticalLaw(cycle_time, workers)
    elif isinstance(cycle_time, stats.rv_histogram):  # has no parameters to freeze
        return IdenticalLaw(cycle_time(), workers)
    elif isinstance(cycle_time, stats.rv_continuous | stats.rv_discrete):
        raise ArgumentTypeError(f"{_EXPECTED}; got the distribution {cycle_time.name} without parameters")
    elif isinstance(cycle_time, Sequence) and not isinstance(cycle_time, str | bytes):
        model = LawPerWorker(cycle_time)
    elif isinstance(cycle_time, np.ndarray):
        raise ArgumentTypeError(f"{_EXPECTED}; got an array: wrap measured times as cgc.Trace(times)")
    else:
        raise ArgumentTypeError(f"{_EXPECTED}; got {type(cycle_time).__name__}")
    if model.workers != workers:
        noun = "columns" if isinstance(model, Trace) else "laws"
        raise ArgumentValueError(
            f"cycle_time: expected {workers} {noun}, one per worker, got {model.workers}"
        )
    return model


def straggler_model_from_dict(form: Mapping[str, Any] | None) -> StragglerModel | None:
    """Inverse of `StragglerModel.to_dict`; None for None.

    Raises
    ------
    ArgumentValueError
        The form is of an unknown kind, or names an unknown law.
    """
    if form is None:
        return None
    kind = form.get("kind")
    if kind == "law":
        return IdenticalLaw(_law_from_dict(form["law"]), form["workers"])
    if kind == "at_most_never":
        return AtMostNever(_law_from_dict(form["law"]), form["workers"], form["most"])
    if kind == "laws":
        return LawPerWorker([_law_from_dict(law) for law in form["laws"]])
    if kind == "trace":
        return Trace(np.array(form["times"], dtype=np.float64), form.get("censored"))  # "inf" among them
    raise unknown_name("kind of straggler model", kind, ["at_most_never", "law", "laws", "trace"])


def parse_law(text: str) -> Any:
    """Make a frozen law from text such as ``expon(loc=50, scale=1000)``.

    Nothing is evaluated. A law is one of

    - the name of a continuous scipy.stats law (``stats.`` before it is allowed), called with numbers;
    - ``Mixture(0.9*expon(loc=1), 0.1*expon(loc=10))``: laws with their weights, of sum 1;
    - ``Never(expon(loc=50, scale=1000), 0.05)``: a law, and the probability of never answering;
    - ``atoms({1: 0.75, 3: 0.25})``: values with their probabilities.

    These are the texts that `law_text` writes. The last three names may be in lower case.

    Raises
    ------
    ArgumentValueError
        The text is not of that form, the law is unknown, or SciPy refuses the parameters.

    Examples
    --------
    >>> parse_law("never(mixture(0.9*expon(loc=1), 0.1*expon(loc=10)), 0.05)")
    Never(Mixture(0.9*expon(loc=1), 0.1*expon(loc=10)), 0.05)
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise _unreadable(text) from error
    law = _law_of(node, text)
    _check_law(law, "law")
    return law


def _law_of(node: ast.expr, text: str) -> Any:
    """Law of a part of the text."""
    if not isinstance(node, ast.Call) or any(keyword.arg is None for keyword in node.keywords):
        raise _unreadable(text)
    if isinstance(node.func, ast.Name):
        name = node.func.id
    elif (
        isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "stats"
    ):
        name = node.func.attr
    else:
        raise _unreadable(text)
    composed = {"mixture": _mixture_of, "never": _never_of, "atoms": _atoms_of}.get(name.lower())
    if composed is not None:
        if node.keywords:
            raise _unreadable(text)
        return composed(node.args, text)
    distribution = getattr(stats, name, None)
    if not isinstance(distribution, stats.rv_continuous):
        raise unknown_name("law", name, ["Mixture", "Never", "atoms", *_continuous_laws()])
    args = [_number_of(argument, text) for argument in node.args]
    keywords = {str(keyword.arg): _number_of(keyword.value, text) for keyword in node.keywords}
    try:
        return distribution(*args, **keywords)
    except TypeError as error:
        raise ArgumentValueError(
            f"law: {name} does not take these parameters ({error}); it has "
            f"{distribution.shapes or 'no shape parameters'}, loc and scale"
        ) from error


def _mixture_of(args: list[ast.expr], text: str) -> Any:
    weights, laws = [], []
    for part in args:
        if not isinstance(part, ast.BinOp) or not isinstance(part.op, ast.Mult):
            raise _unreadable(text)
        weights.append(_number_of(part.left, text))
        laws.append(_law_of(part.right, text))
    if not laws:
        raise _unreadable(text)
    return Mixture(laws, weights)


def _never_of(args: list[ast.expr], text: str) -> Any:
    if len(args) != 2:
        raise _unreadable(text)
    return Never(_law_of(args[0], text), _number_of(args[1], text))


def _atoms_of(args: list[ast.expr], text: str) -> Any:
    if len(args) != 1 or not isinstance(args[0], ast.Dict) or not args[0].keys:
        raise _unreadable(text)
    values = [_number_of(key, text) for key in args[0].keys]
    probabilities = [_number_of(value, text) for value in args[0].values]
    # Like the weights of a mixture: somebody typed them.
    if min(probabilities) <= 0 or abs(sum(probabilities) - 1.0) > 1e-5 or len(set(values)) < len(values):
        raise ArgumentValueError(
            f"law: atoms: expected distinct values with positive probabilities of the sum 1, got {text!r}"
        )
    return stats.rv_discrete(values=(values, np.divide(probabilities, sum(probabilities))))()


def _number_of(node: ast.expr | None, text: str) -> float:
    try:
        value = ast.literal_eval(node)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise _unreadable(text) from error
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unreadable(text)
    return float(value)


def _unreadable(text: str) -> ArgumentValueError:
    return ArgumentValueError(
        "law: expected text like 'expon(loc=50, scale=1000)', 'Mixture(0.9*expon(loc=1), 0.1*expon(loc=9))', "
        f"'Never(expon(loc=50, scale=1000), 0.05)' or 'atoms({{1: 0.75, 3: 0.25}})', got {text!r}"
    )


def _continuous_laws() -> list[str]:
    return [name for name in dir(stats) if isinstance(getattr(stats, name), stats.rv_continuous)]


def _check_law(law: Any, what: str) -> None:
    """Refuse what is not a frozen law of one positive variable."""
    check_frozen(law, what, "; give one law per worker as a sequence of laws")
    with np.errstate(invalid="ignore"):
        low, high = law.support()
    if np.isnan(low) or np.isnan(high) or low == np.inf:
        raise ArgumentValueError(f"{what}: {law_text(law)} has impossible parameters")
    mass = float(law.cdf(0.0))
    if not mass == 0.0:
        raise ArgumentValueError(
            f"{what}: expected a law on the positive half-line, but {law_text(law)} is at or below 0 with "
            f"probability {mass:.3g}"
        )


def _positive_draws(times: NDArray[np.float64], source: str) -> NDArray[np.float64]:
    if np.isnan(times).any():
        raise ArgumentValueError(f"cycle_time: {source} gave NaN as a draw")
    # A law on (0, inf) can still underflow; the smallest positive number keeps the draw a cycle time.
    np.maximum(times, np.finfo(np.float64).tiny, out=times)
    return times


def _law_to_dict(law: Any) -> dict[str, Any] | None:
    if isinstance(law, Mixture):
        parts = [_law_to_dict(part) for part in law.laws]
        return None if None in parts else {"mixture": parts, "weights": law.weights.tolist()}
    if isinstance(law, Never):
        answered = _law_to_dict(law.law)
        return None if answered is None else {"never": law.probability, "law": answered}
    if hasattr(law.dist, "xk") and not law.args and not law.kwds:  # rv_discrete(values=...)
        return {"values": np.asarray(law.dist.xk).tolist(), "probabilities": np.asarray(law.dist.pk).tolist()}
    name = str(law.dist.name)
    if type(getattr(stats, name, None)) is not type(law.dist):
        return None
    try:
        args = [float(value) for value in law.args]
        keywords = {key: float(value) for key, value in law.kwds.items()}
    except (TypeError, ValueError):
        return None  # parameters that are not numbers, such as the histogram of rv_histogram
    return {"name": name, "args": args, "keywords": keywords}


def _law_from_dict(form: Mapping[str, Any]) -> Any:
    if "mixture" in form:
        return Mixture([_law_from_dict(part) for part in form["mixture"]], form["weights"])
    if "never" in form:
        return Never(_law_from_dict(form["law"]), form["never"])
    if "values" in form:
        return stats.rv_discrete(values=(form["values"], form["probabilities"]))()
    distribution = getattr(stats, form["name"], None)
    if not isinstance(distribution, stats.rv_continuous | stats.rv_discrete):
        raise unknown_name("law", form["name"], _continuous_laws())
    return distribution(*form["args"], **form["keywords"])
