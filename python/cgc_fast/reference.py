"""Slow NumPy twins of the compiled kernels: the specification in executable form.

Used by tests and benches only; nothing in the package imports this module. Each function says which kernel
it is the twin of, and is written for reading, not for speed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# --- block sizes: projection, rounding, runtimes, subgradient -----------------------------------------

# --- codes and weighted sums --------------------------------------------------------------------------

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
