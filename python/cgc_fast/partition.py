"""Two views of a code assignment: the coordinates' redundancies s (L,) and the block sizes x (N,).

Sorting s ascending never increases the runtime [WANG22], so a block of x_n neighbouring coordinates for every
redundancy n = 0..N-1, in rising order, loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgc_fast.arguments import numbers
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError

__all__ = [
    "as_block_sizes",
    "block_sizes_from_redundancy",
    "check_boundaries",
    "redundancy_from_block_sizes",
    "round_block_sizes",
]


def as_block_sizes(
    block_sizes: ArrayLike, workers: int | None = None, coordinates: int | None = None
) -> NDArray[np.int64]:
    """Check block sizes x and return them as int64 (N,).

    Parameters
    ----------
    block_sizes : array-like of int of shape (N,)
        x_n coordinates of redundancy n. Floats are taken if they are whole numbers.
    workers, coordinates : int, optional
        N and L that x must fit; not checked if None.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        Wrong dtype or shape, NaN, fractions, negative entries, or a sum other than L (at least 1).
    """
    values = as_real_block_sizes(block_sizes, workers)
    fractional = np.flatnonzero(values != np.floor(values))
    if len(fractional):
        n = int(fractional[0])
        raise ArgumentValueError(
            f"block_sizes: expected whole numbers, got {values[n]} at level {n}; round_block_sizes rounds"
        )
    total = int(values.sum())
    if coordinates is not None and total != coordinates:
        raise ArgumentValueError(f"block_sizes: expected the sum {coordinates} (coordinates), got {total}")
    return values.astype(np.int64)


def as_real_block_sizes(block_sizes: ArrayLike, workers: int | None = None) -> NDArray[np.float64]:
    """Check block sizes of the relaxation, real and >= 0, and return them as float64 (N,)."""
    values = numbers("block_sizes", block_sizes)
    if values.ndim != 1 or len(values) == 0 or (workers is not None and len(values) != workers):
        expected = "(workers,)" if workers is None else f"({workers},), one per level"
        raise ArgumentValueError(f"block_sizes: expected shape {expected}, got {values.shape}")
    real = values.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(real) & (real >= 0)))
    if len(bad):
        n = int(bad[0])
        raise ArgumentValueError(f"block_sizes: expected numbers >= 0, got {values[n]} at level {n}")
    if not real.any():
        raise ArgumentValueError("block_sizes: expected at least one coordinate, got only zeros")
    return real


def block_sizes_from_redundancy(redundancy: ArrayLike, workers: int) -> NDArray[np.int64]:
    """Block sizes x (N,) of coordinate redundancies s (L,) in any order: x_n = #{l : s_l = n}; O(L + N).

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        Not integers, no coordinates, or an entry outside 0..N-1.
    """
    values = numbers("redundancy", redundancy, "integers", "iu")
    if values.ndim != 1 or len(values) == 0:
        raise ArgumentValueError(f"redundancy: expected shape (coordinates,), got {values.shape}")
    if values.min() < 0 or values.max() >= workers:
        raise ArgumentValueError(
            f"redundancy: expected 0 to {workers - 1}, got {values.min()} to {values.max()}"
        )
    return np.bincount(values.astype(np.int64), minlength=workers).astype(np.int64)


def redundancy_from_block_sizes(block_sizes: ArrayLike) -> NDArray[np.int64]:
    """Coordinate redundancies s (L,), ascending, of block sizes x (N,); O(L + N)."""
    sizes = as_block_sizes(block_sizes)
    return np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)


def check_boundaries(boundaries: Sequence[int] | NDArray[np.int64], coordinates: int) -> NDArray[np.int64]:
    """Check the positions where blocks may be cut; returns them with 0 and L, ascending.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        Not integers, not strictly ascending, or outside 0..L.
    """
    values = numbers("boundaries", boundaries, "integers")
    if values.dtype.kind == "f" and values.size:
        raise ArgumentTypeError(f"boundaries: expected integers, got dtype {values.dtype}")
    if values.ndim != 1:
        raise ArgumentValueError(f"boundaries: expected one dimension, got shape {values.shape}")
    cuts = values.astype(np.int64)
    if len(cuts) and (cuts[0] < 0 or cuts[-1] > coordinates or np.any(np.diff(cuts) <= 0)):
        raise ArgumentValueError(
            f"boundaries: expected strictly ascending positions in 0..{coordinates}, got {cuts.tolist()}"
        )
    return np.unique(np.concatenate(([0], cuts, [coordinates]))).astype(np.int64)


def round_block_sizes(
    block_sizes: ArrayLike, coordinates: int, boundaries: Sequence[int] | NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Round block sizes to integers that sum to L: x_n = round(X_n) - round(X_{n-1}), X the partial sums.

    Each partial sum moves by at most 1/2 (with `boundaries`: to the nearest allowed position), so W_N changes
    by O(N) only, and an empty block stays empty. O(N).

    Parameters
    ----------
    block_sizes : array-like of shape (K,)
        Real, >= 0, with sum L up to rounding errors.
    coordinates : int
        L.
    boundaries : sequence of int, optional
        Where blocks may be cut, strictly ascending in 0..L; 0 and L are always allowed.

    Returns
    -------
    ndarray of int64 of shape (K,)
    """
    sizes = as_real_block_sizes(block_sizes)
    sums = np.cumsum(sizes)
    # Partial sums carry at most K roundings of relative size 2^-53; 1e-9 leaves room for what made x.
    if abs(sums[-1] - coordinates) > 1e-9 * coordinates * max(1.0, len(sizes) / 1e6):
        raise ArgumentValueError(f"block_sizes: expected the sum {coordinates}, got {sums[-1]}")
    sums *= coordinates / sums[-1]
    if boundaries is None:
        cuts = np.minimum(np.floor(sums + 0.5).astype(np.int64), coordinates)
    else:
        allowed = check_boundaries(boundaries, coordinates)
        above = np.clip(np.searchsorted(allowed, sums), 1, len(allowed) - 1)
        lower, upper = allowed[above - 1], allowed[above]
        cuts = np.where(sums - lower < upper - sums, lower, upper)
    cuts[-1] = coordinates
    return np.diff(cuts, prepend=0)
