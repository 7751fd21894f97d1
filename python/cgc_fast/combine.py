"""Sums of rows that lie in separate buffers: what decoding a block costs. Thin over `_core`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast import _core

__all__ = ["all_finite", "largest_deviation", "plain_sum", "weighted_sum"]


def weighted_sum(
    rows: Sequence[NDArray[Any]],
    coefficients: NDArray[np.float64],
    out: NDArray[Any],
    accumulate: bool = False,
    threads: int = 1,
) -> None:
    """Compute ``out = Σ_i coefficients[i] * rows[i]``, or add the sum to `out`.

    Values are summed in the order of the rows, with one rounding an operation: the bits are those of the
    same loop in NumPy, on every instruction set and for every number of threads. Nothing is stacked, and the
    GIL is released.

    Parameters
    ----------
    rows : sequence of k arrays (n,)
        All float64 or all float32, contiguous and aligned; read-only views are fine. They must not overlap
        `out`, not even be it: to add to a row, `accumulate`. None at all leave zeros (or `out` as it is).
    coefficients : float64 array (k,)
        Rounded to float32 first if `out` is.
    out : array (n,)
        The caller's, contiguous and writable: of the data type of the rows, or float64 for float32 rows,
        which are then widened before anything is multiplied or added.
    accumulate : bool
        Add to what `out` holds.
    threads : int
        At most so many, this one included; 0: one a core.

    Raises
    ------
    TypeError
        A data type is not as above.
    ValueError
        A length, layout, overlap or number of threads is not as above, or `out` is read-only.
    """
    _core.weighted_sum(rows, coefficients, out, accumulate, threads)


def plain_sum(
    rows: Sequence[NDArray[Any]], out: NDArray[Any], accumulate: bool = False, threads: int = 1
) -> None:
    """Compute ``out = Σ_i rows[i]``, or add the sum to `out`: `weighted_sum` with all coefficients 1."""
    _core.plain_sum(rows, out, accumulate, threads)


def all_finite(values: NDArray[Any]) -> bool:
    """Whether no value of a contiguous float64 or float32 array, of any shape, is NaN or infinite."""
    return _core.all_finite(values)


def largest_deviation(values: NDArray[Any], expected: float) -> float:
    """max_i |values_i - expected|, infinity if a value is not finite, 0 if there is none.

    Of a contiguous float64 or float32 array, of any shape, in its own precision. With
    ``weighted_sum(B_F, a, out)`` before it, the residual of a decoding vector a: how far aᵀB_F is from 1ᵀ.
    """
    return _core.largest_deviation(values, expected)
