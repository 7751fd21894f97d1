"""Arguments, checked once at the edge: integers, quantities, arrays, and the numbers of the cost model."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["Cost", "integer", "numbers", "quantity"]


def integer(name: str, value: object, least: int | None = None, most: int | None = None) -> int:
    """Check a whole number in least..most; booleans are none."""
    span = "an integer"
    if least is not None:
        span = f"an integer >= {least}" if most is None else f"an integer in {least}..{most}"
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ArgumentTypeError(f"{name}: expected {span}, got {value!r}") from None
    if (least is not None and number < least) or (most is not None and number > most):
        raise ArgumentValueError(f"{name}: expected {span}, got {number}")
    return number


def quantity(name: str, value: object, *, positive: bool = False) -> float:
    """Check a finite number >= 0, or > 0."""
    span = f"a finite number {'>' if positive else '>='} 0"
    try:
        if isinstance(value, (bool, np.bool_, str)):
            raise TypeError
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"{name}: expected {span}, got {value!r}") from None
    if not 0 <= number < math.inf or (positive and number == 0):
        raise ArgumentValueError(f"{name}: expected {span}, got {value!r}")
    return number


def numbers(name: str, value: object, expected: str = "numbers", kinds: str = "iuf") -> NDArray[Any]:
    """Check an array of real numbers, or of the dtype kinds given, of any shape; not copied."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ArgumentTypeError(f"{name}: expected {expected}, got rows of different lengths") from None
    if array.dtype.kind not in kinds:
        raise ArgumentTypeError(f"{name}: expected {expected}, got dtype {array.dtype}")
    return array


@dataclass(frozen=True)
class Cost:
    """What computing costs: M samples, b cycles a partial derivative, c cycles a forward pass of a sample.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        Not numbers; M or b not positive, c negative, or not finite.
    """

    samples: float = 1
    cycles_per_derivative: float = 1.0
    forward_cycles: float = 0.0

    def __post_init__(self) -> None:
        # As Python's floats: arithmetic with float32 scalars would round everything to float32.
        for name in ("samples", "cycles_per_derivative", "forward_cycles"):
            positive = name != "forward_cycles"
            object.__setattr__(self, name, quantity(name, getattr(self, name), positive=positive))
