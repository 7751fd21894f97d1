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


def linear_model_logits(features: NDArray[np.float64], theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits (n, K) of features (n, D) and theta (K, D): twin of the `logits` kernel, to the bit.

    Lane j of four sums the terms j, j + 4, ...; what is left of a row that four does not divide comes last.
    """
    whole = features.shape[1] // 4 * 4
    terms = features[:, None, :] * theta[None, :, :]
    lanes = np.zeros((len(features), len(theta), 4))
    for j in range(0, whole, 4):
        lanes += terms[:, :, j : j + 4]
    logits = (lanes[:, :, 0] + lanes[:, :, 1]) + (lanes[:, :, 2] + lanes[:, :, 3])
    for j in range(whole, features.shape[1]):
        logits += terms[:, :, j]
    return logits


def linear_model_residuals(
    loss: str, logits: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Residuals d f_i / d z_i (n, K) and losses f_i (n,): twin of `LinearModel::apply_loss`."""
    if loss == "squares":
        residuals = logits - targets[:, None]
        return residuals, 0.5 * residuals[:, 0] ** 2
    if loss == "logistic":
        z = logits[:, 0]
        small = np.exp(-np.abs(z))
        probability = np.where(z >= 0, 1.0, small) / (1.0 + small)
        return (probability - targets)[:, None], np.maximum(z, 0.0) + np.log1p(small) - targets * z
    rows, labels = np.arange(len(targets)), targets.astype(np.int64)
    largest = logits.max(axis=1, keepdims=True)
    exponentials = np.exp(logits - largest)
    sums = exponentials.sum(axis=1, keepdims=True)
    residuals = exponentials / sums
    residuals[rows, labels] -= 1.0
    return residuals, np.log(sums[:, 0]) + (largest[:, 0] - logits[rows, labels])


def linear_model_derivatives(
    features: NDArray[np.float64],
    residuals: NDArray[np.float64],
    ranges: NDArray[np.int64],
    coefficients: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Coded partial derivatives of all coordinates (K * D,): twin of `LinearModel::derivatives`, to the bit.

    The sum over a range on its own, sample by sample; then times its coefficient; then over the ranges.
    """
    out = np.zeros((residuals.shape[1], features.shape[1]))
    for (low, high), coefficient in zip(ranges, coefficients, strict=True):
        part = np.zeros_like(out)
        for i in range(low, high):
            part += residuals[i][:, None] * features[i][None, :]
        out += coefficient * part
    return out.ravel()


# --- schedules and simulation -------------------------------------------------------------------------
