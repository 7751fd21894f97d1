"""Ranges of samples, and where a shard keeps the samples that it holds."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgc_fast.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["HeldSamples", "as_ranges", "merge_ranges"]

_Scalar = TypeVar("_Scalar", bound=np.generic)


def as_ranges(ranges: ArrayLike) -> NDArray[np.int64]:
    """Bring sample ranges into the form that every problem gets.

    Parameters
    ----------
    ranges : array-like of int, shape (R, 2)
        Half-open ranges [low, high), low <= high. An empty sequence is no range at all.

    Returns
    -------
    ndarray of int64, shape (R, 2)
        C-contiguous; `ranges` itself where it has this form already.

    Raises
    ------
    ArgumentTypeError
        Bounds that are not integers.
    ArgumentValueError
        Not pairs, or low > high.
    """
    array = np.asarray(ranges)
    if array.size == 0:
        return np.empty((0, 2), dtype=np.int64)
    if array.dtype.kind not in "iu":
        raise ArgumentTypeError(f"ranges: expected integer sample indices, got an array of {array.dtype}")
    if array.ndim != 2 or array.shape[1] != 2:
        raise ArgumentValueError(f"ranges: expected shape (R, 2), pairs (low, high); got shape {array.shape}")
    if (array[:, 0] > array[:, 1]).any():
        low, high = array[np.argmax(array[:, 0] > array[:, 1])]
        raise ArgumentValueError(f"ranges: expected low <= high, got [{low}, {high})")
    return np.ascontiguousarray(array, dtype=np.int64)


def merge_ranges(ranges: ArrayLike) -> NDArray[np.int64]:
    """Sort ranges (R, 2), drop empty ones and join those that touch or overlap. O(R log R)."""
    array = as_ranges(ranges)
    array = array[array[:, 0] < array[:, 1]]
    array = array[np.argsort(array[:, 0], kind="stable")]
    if len(array) == 0:
        return array
    reach = np.maximum.accumulate(array[:, 1])
    first = np.concatenate([[True], array[1:, 0] > reach[:-1]])  # starts behind all before it
    last = np.concatenate([first[1:], [True]])
    return np.column_stack([array[first, 0], reach[last]])


class HeldSamples:
    """The samples that a shard holds, kept as consecutive rows, and their indices in the whole problem.

    Parameters
    ----------
    ranges : array-like of int, shape (R, 2)
        Sample ranges in the indexing of the whole problem, in any order; merged.

    Attributes
    ----------
    ranges : ndarray of int64, shape (H, 2)
        The merged ranges, ascending. Row 0 is the first sample of the first of them, and so on.
    count : int
        How many samples are held.
    """

    def __init__(self, ranges: ArrayLike) -> None:
        self.ranges = merge_ranges(ranges)
        lengths = self.ranges[:, 1] - self.ranges[:, 0]
        self.count = int(lengths.sum())
        self._first_row = np.cumsum(lengths) - lengths

    def rows(self, low: int, high: int) -> slice:
        """Rows of the samples [low, high). O(log H).

        Raises
        ------
        ArgumentValueError
            Some of these samples are not held.
        """
        if low == high:
            return slice(0, 0)
        place = int(np.searchsorted(self.ranges[:, 0], low, side="right")) - 1
        if place < 0 or low > high or high > self.ranges[place, 1]:
            raise ArgumentValueError(
                f"samples [{low}, {high}) are not all held here; held: {self.ranges.tolist() or 'none'}"
            )
        first = int(self._first_row[place] + low - self.ranges[place, 0])
        return slice(first, first + int(high - low))

    def take(self, array: NDArray[_Scalar], ranges: ArrayLike) -> NDArray[_Scalar]:
        """Rows of `array` (count, ...) of the samples of `ranges`, merged: a view where they are one piece.

        Raises
        ------
        ArgumentValueError
            Some of these samples are not held.
        """
        pieces = [array[self.rows(low, high)] for low, high in merge_ranges(ranges)]
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else array[:0]

    def __repr__(self) -> str:
        return f"HeldSamples({self.ranges.tolist()})"
