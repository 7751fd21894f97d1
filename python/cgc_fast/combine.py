"""Weighted sums of rows that lie in separate buffers: what decoding a block costs. Thin over `_core`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast import _core

__all__ = ["all_finite", "weighted_sum"]


def weighted_sum(
    rows: Sequence[NDArray[Any]],
    coefficients: NDArray[np.float64],
    out: NDArray[Any],
    accumulate: bool = False,
) -> None:
    """Compute ``out = Σ_i coefficients[i] * rows[i]``, or add the sum to `out`.

    Values are summed in the order of the rows, with one rounding an operation: the bits are those of the same
    loop in NumPy. Nothing is stacked or allocated, and the GIL is released.

    Parameters
    ----------
    rows : sequence of k arrays (n,)
        All float64 or all float32, contiguous and aligned; read-only views are fine. They must not overlap
        `out`. None at all leave zeros (or `out` as it is).
    coefficients : float64 array (k,)
        Rounded to float32 first if the rows are.
    out : array (n,)
        The caller's, of the data type of the rows, contiguous and writable.
    accumulate : bool
        Add to what `out` holds.

    Raises
    ------
    TypeError
        A data type is not as above.
    ValueError
        A length, layout or overlap is not as above, or `out` is read-only.
    """
    _core.weighted_sum(rows, coefficients, out, accumulate)


def all_finite(values: NDArray[Any]) -> bool:
    """Whether no value of a contiguous float64 or float32 array, of any shape, is NaN or infinite."""
    return _core.all_finite(values)
