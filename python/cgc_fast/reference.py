"""Slow NumPy twins of the compiled kernels: the specification in executable form.

Used by tests and benches only; nothing in the package imports this module. Each function says which kernel
it is the twin of, and is written for reading, not for speed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# --- block sizes: projection, rounding, runtimes, subgradient -----------------------------------------

# --- codes and weighted sums --------------------------------------------------------------------------


def cyclic_matrix(null_matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Encoding matrix B (N, N) that H (s, N) determines: twin of `_core.cyclic_coefficients`.

    Row w is the right singular vector of H[:, w..w+s] that belongs to no singular value, non-negative on w.
    """
    redundancy, workers = null_matrix.shape
    matrix = np.zeros((workers, workers))
    for w in range(workers):
        parts = (w + np.arange(redundancy + 1)) % workers
        null_vector = np.linalg.svd(null_matrix[:, parts])[2][-1] if redundancy else np.ones(1)
        matrix[w, parts] = np.copysign(1.0, null_vector[0]) * null_vector
    return matrix


def decoding_vector(matrix: NDArray[np.float64], rows: NDArray[np.int64], rank: int) -> NDArray[np.float64]:
    """Shortest a (k,) with aᵀ B[rows] = 1ᵀ, B (N, N) of the given rank: twin of `_core.CyclicDecoder.decode`.

    Only the leading singular directions of B are solved for: rounding errors of B do not count as rank.
    """
    row_space = np.linalg.svd(matrix)[2][:rank]
    system = (matrix[rows] @ row_space.T).T
    solution: NDArray[np.float64] = np.linalg.lstsq(system, row_space.sum(axis=1), rcond=None)[0]
    return solution


def predicted_error(matrix: NDArray[np.float64], vector: NDArray[np.float64], redundancy: int) -> float:
    """Twin of `_core.CyclicDecoder.predicted_error`, for the rows `matrix` (k, N) and `vector` (k,)."""
    terms = vector[:, None] * matrix
    partial_sums = np.cumsum(terms, axis=0)
    variance = (redundancy + 3) * (terms**2).sum(axis=0) + 2 * (partial_sums[1:] ** 2).sum(axis=0)
    residual = np.abs(partial_sums[-1] - 1.0).max()
    return float(residual + 6 * np.finfo(np.float64).eps / 2 * np.sqrt(variance.max()))


def weighted_sum(
    rows: list[NDArray[Any]], coefficients: NDArray[np.float64], out: NDArray[Any], accumulate: bool = False
) -> None:
    """Twin of `_core.weighted_sum`, to the last bit: rows are added one after the other."""
    terms = [out.dtype.type(a) * row for a, row in zip(coefficients, rows, strict=True)]
    if not accumulate:
        out[:] = terms.pop(0) if terms else 0
    for term in terms:
        out += term


def all_finite(values: NDArray[Any]) -> bool:
    """Twin of `_core.all_finite`."""
    return bool(np.isfinite(values).all())


# --- generalised linear models ------------------------------------------------------------------------

# --- schedules and simulation -------------------------------------------------------------------------
