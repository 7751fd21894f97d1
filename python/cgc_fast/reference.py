"""Slow NumPy twins of the compiled kernels: the specification in executable form.

Used by tests and benches only; nothing in the package imports this module. Each function says which kernel
it is the twin of, and is written for reading, not for speed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# --- block sizes: projection, rounding, runtimes, subgradient -----------------------------------------


def project_onto_simplex(point: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    """Twin of `_core.project_onto_simplex`: max(0, v - threshold) for the threshold that gives the sum."""
    descending = np.sort(point)[::-1]
    candidates = (np.cumsum(descending) - total) / np.arange(1, len(point) + 1)
    threshold = candidates[np.flatnonzero(descending > candidates)[-1]]
    projected: NDArray[np.float64] = np.maximum(point - threshold, 0.0)
    return projected


def level_runtimes(times: NDArray[np.float64], cycles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twin of `_core.level_runtimes`: levels with 0 cycles are done at 0, whatever their time."""
    used = cycles > 0
    latest: NDArray[np.float64] = (times[:, used] * cycles[used]).max(axis=1, initial=0.0)
    return latest


def group_times(
    times: NDArray[np.float64], groups: NDArray[np.int64], cycles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Twin of `_core.group_times`: the slowest group's fastest member, per draw and level."""
    workers = times.shape[1]
    done = np.zeros((len(times), len(groups)))
    for k, count in enumerate(groups):
        spent = np.where(cycles[k] > 0, times, 1.0) * cycles[k]
        group_of = [worker * int(count) // workers for worker in range(workers)]
        for group in range(int(count)):
            members = [worker for worker in range(workers) if group_of[worker] == group]
            done[:, k] = np.maximum(done[:, k], spent[:, members].min(axis=1))
    return done


def subgradient_iterations(
    times: NDArray[np.float64], work: NDArray[np.float64], start: NDArray[np.float64], batch: int, step: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Twin of one `_core.SubgradientIterations.run` with averaging: last iterate, average, history."""
    total, iterate, squared_norms = start.sum(), start, 0.0
    iterates, history = [], []
    for first in range(0, len(times) - batch + 1, batch):
        draws = times[first : first + batch]
        level_times = draws * np.cumsum(work * iterate)
        last = level_times.argmax(axis=1)
        history.append(level_times.max(axis=1).mean())
        subgradients = [
            draw[k] * work * (np.arange(len(work)) <= k) for draw, k in zip(draws, last, strict=True)
        ]
        centred = np.mean(subgradients, axis=0)
        centred -= centred.mean()
        squared_norms += centred @ centred
        if squared_norms > 0:
            iterate = project_onto_simplex(iterate - step * total / np.sqrt(squared_norms) * centred, total)
        iterates.append(iterate)
    return iterate, np.mean(iterates, axis=0), np.array(history)


def coordinate_runtime(
    redundancy: NDArray[np.int64],
    times: NDArray[np.float64],
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
) -> NDArray[np.float64]:
    """Runtime (S,) in the coordinate view: coordinates one by one, in the order given [WANG22].

    Coordinate l is there when N - s_l workers have delivered it; each has by then computed
    sum_{i <= l} (s_i + 1) parts of partial derivatives and touched max_{i <= l} (s_i + 1) parts (cyclic
    supports are nested).
    """
    workers = times.shape[1]
    ordered = np.sort(times, axis=1)
    parts, touched, latest = 0, 0, np.zeros(len(times))
    for s in redundancy:
        parts += s + 1
        touched = max(touched, s + 1)
        cycles = samples / workers * (cycles_per_derivative * parts + forward_cycles * touched)
        latest = np.maximum(latest, ordered[:, workers - 1 - s] * cycles)
    return latest


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
