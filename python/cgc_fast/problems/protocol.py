"""What the library asks of a problem, and the check that refuses a bad one before any process starts."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cgc_fast.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["Problem", "ProblemTraits", "check_problem"]


@runtime_checkable
class Problem(Protocol):
    """f(theta) = sum over the samples of f_i(theta): a plain sum, never a mean.

    Ranges of samples are int64 arrays (R, 2) of pairs [low, high) in the indexing of the whole problem, on a
    shard too. Empty ranges and no range at all are legal. `cgc_fast.problems.HeldSamples` does the
    bookkeeping of a shard.

    A worker process receives a pickled shard, so the class must live in a module that the worker can import:
    not in `__main__` and not in a notebook.

    Attributes
    ----------
    coordinates : int
        L, the length of theta and of the gradient.
    samples : int
        M, of the whole problem, on a shard too.

    Notes
    -----
    Optional attributes and methods:

    forward(ranges)
        Do the forward pass of these samples now and keep its result until the next `begin`. A worker that has
        it does the pass in small pieces and can abandon it in the middle.
    value(ranges, coefficients) -> float
        sum_r coefficients[r] * sum_{i in ranges[r]} f_i(theta): the loss, coded like the derivatives.
    sliceable : bool, default False
        The cost of `derivatives` is proportional to samples times width, so a worker may ask for a cell's
        coordinates in narrow slices and can abandon it between two of them. Otherwise one call a cell.
    compiled_kernel() -> object of the compiled core, or None
        Of the built-in problems: what a worker computes ordinary iterations with, without the interpreter.
    boundaries : sequence of int, default None
        Where the coordinates may be cut: ascending, from 0 to L (the layers of a network, say). None:
        anywhere.
    sequential : bool, default False
        `derivatives` may only be called in rising order of coordinates.
    forward_cycles : float, default 0
        c: what the first touch of a sample in an iteration costs, in cycles; one partial derivative of one
        sample costs 1. A generalised linear model has c ≈ L.
    """

    @property
    def coordinates(self) -> int:
        """L, the length of theta."""

    @property
    def samples(self) -> int:
        """M, of the whole problem."""

    def shard(self, ranges: NDArray[np.int64]) -> Problem:
        """Make the problem that holds only these samples; it is pickled to one worker.

        `coordinates`, `samples` and the meaning of `ranges` stay those of the whole problem.
        """

    def begin(self, theta: NDArray[np.float64], iteration: int) -> None:
        """Start an iteration at theta (L,): drop what was kept of the last one.

        theta is read-only and may be kept without copying: it stays unchanged until the next `begin`.
        """

    def derivatives(
        self,
        start: int,
        stop: int,
        ranges: NDArray[np.int64],
        coefficients: NDArray[np.float64],
        out: NDArray[np.float64],
    ) -> None:
        """Write coded partial derivatives of the coordinates [start, stop) into `out` (stop - start,).

        out[k] = sum_r coefficients[r] * sum_{i in ranges[r]} d f_i / d theta_{start + k}, all of them
        overwritten; no range: zeros. The result may depend on theta and the arguments only: workers that send
        different numbers for the same sum cannot be decoded.
        """


@dataclass(frozen=True)
class ProblemTraits:
    """The attributes of a checked problem, optional ones filled in; see `Problem` for their meaning."""

    coordinates: int
    samples: int
    boundaries: NDArray[np.int64] | None
    sequential: bool
    sliceable: bool
    forward_cycles: float
    has_forward: bool
    has_value: bool


def check_problem(problem: object) -> ProblemTraits:
    """Refuse what is not a problem, and say what it lacks.

    Looks at attributes only; computes nothing.

    Returns
    -------
    ProblemTraits
        Its attributes, with the defaults of the optional ones.

    Raises
    ------
    ArgumentTypeError
        A missing method or attribute, or one of the wrong type.
    ArgumentValueError
        A count below 1, boundaries that do not ascend from 0 to L, a negative or infinite cost.
    """
    name = type(problem).__name__
    if isinstance(problem, type):
        raise ArgumentTypeError(f"problem: expected an instance, got the class {problem.__name__} itself")
    for method in ("shard", "begin", "derivatives"):
        if not callable(getattr(problem, method, None)):
            raise ArgumentTypeError(
                f"problem: expected a method {method} (see cgc_fast.problems.Problem); {name} has none"
            )
    coordinates = _count(problem, "coordinates")
    return ProblemTraits(
        coordinates=coordinates,
        samples=_count(problem, "samples"),
        boundaries=_boundaries(problem, coordinates),
        sequential=_flag(problem, "sequential"),
        sliceable=_flag(problem, "sliceable"),
        forward_cycles=_cycles(problem),
        has_forward=_optional_method(problem, "forward"),
        has_value=_optional_method(problem, "value"),
    )


def _describe(problem: object, attribute: str) -> str:
    return f"{type(problem).__name__}.{attribute}"


def _count(problem: object, attribute: str) -> int:
    if not hasattr(problem, attribute):
        raise ArgumentTypeError(
            f"problem: expected an attribute {attribute} (see cgc_fast.problems.Problem); "
            f"{type(problem).__name__} has none"
        )
    value = getattr(problem, attribute)
    try:
        count = operator.index(value)
    except TypeError:
        count = None
    if count is None or isinstance(value, bool):
        raise ArgumentTypeError(f"{_describe(problem, attribute)}: expected an int, got {value!r}")
    if count < 1:
        raise ArgumentValueError(f"{_describe(problem, attribute)}: expected at least 1, got {count}")
    return count


def _flag(problem: object, attribute: str) -> bool:
    value = getattr(problem, attribute, False)
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentTypeError(f"{_describe(problem, attribute)}: expected True or False, got {value!r}")
    return bool(value)


def _optional_method(problem: object, attribute: str) -> bool:
    value: Any = getattr(problem, attribute, None)
    if value is not None and not callable(value):
        raise ArgumentTypeError(f"{_describe(problem, attribute)}: expected a method, got {value!r}")
    return value is not None


def _cycles(problem: object) -> float:
    value: Any = getattr(problem, "forward_cycles", 0.0)
    try:
        cycles = float(value)
    except (TypeError, ValueError):
        raise ArgumentTypeError(
            f"{_describe(problem, 'forward_cycles')}: expected a number of cycles, got {value!r}"
        ) from None
    if not (math.isfinite(cycles) and cycles >= 0):
        raise ArgumentValueError(
            f"{_describe(problem, 'forward_cycles')}: expected finite and >= 0, got {cycles}"
        )
    return cycles


def _boundaries(problem: object, coordinates: int) -> NDArray[np.int64] | None:
    value: Any = getattr(problem, "boundaries", None)
    if value is None:
        return None
    what = _describe(problem, "boundaries")
    array = np.asarray(value)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise ArgumentTypeError(
            f"{what}: expected a sequence of int, got {array.dtype} of shape {array.shape}"
        )
    array = array.astype(np.int64)
    if len(array) < 2 or array[0] != 0 or array[-1] != coordinates or (np.diff(array) <= 0).any():
        shown = array.tolist() if len(array) <= 10 else [*array[:5].tolist(), "...", *array[-4:].tolist()]
        raise ArgumentValueError(
            f"{what}: expected strictly ascending from 0 to coordinates = {coordinates}, got {shown}"
        )
    array.setflags(write=False)
    return array
