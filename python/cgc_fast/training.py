"""Full-batch training: what to do with an exact gradient, wherever it comes from."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgc_fast.errors import ArgumentValueError

__all__ = ["accelerated_gradient", "softmax_accuracy"]


def accelerated_gradient(
    gradient: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    theta0: ArrayLike,
    step: float,
    iterations: int,
    callback: Callable[[int, NDArray[np.float64]], None] | None = None,
) -> NDArray[np.float64]:
    """Minimise a smooth convex f by Nesterov's accelerated gradient descent.

    Parameters
    ----------
    gradient : callable
        theta (L,) -> gradient of f (L,), say `problem.gradient` or `cluster.gradient`; called once an
        iteration. What it returns is not kept.
    theta0 : array-like of float, shape (L,)
        Where to start; copied.
    step : float
        Step size; at most 1 / (largest eigenvalue of the Hessian), say 1 / `problem.smoothness_bound()`.
    iterations : int
        How many steps.
    callback : callable, optional
        Called with the number of the step, from 0, and the theta (L,) after it, which later steps leave
        alone.

    Returns
    -------
    ndarray of float64, shape (L,)
        theta after the last step.

    Raises
    ------
    ArgumentValueError
        A step that is not positive and finite, a negative number of iterations.

    Notes
    -----
    f(theta_k) - f* <= 2 |theta_0 - theta*|² / (step (k + 1)²) after k steps [NESTEROV83], with the momentum
    (t_k - 1) / t_{k+1}, t_{k+1} = (1 + sqrt(1 + 4 t_k²)) / 2, t_1 = 1 [BECK09, with no second term].
    """
    if not (math.isfinite(step) and step > 0):
        raise ArgumentValueError(f"step: expected positive and finite, got {step}")
    iterations = operator.index(iterations)
    if iterations < 0:
        raise ArgumentValueError(f"iterations: expected at least 0, got {iterations}")
    theta = np.array(theta0, dtype=np.float64)
    ahead, t = theta, 1.0
    for iteration in range(iterations):
        previous, theta = theta, ahead - step * gradient(ahead)
        t_next = (1.0 + math.sqrt(1.0 + 4.0 * t * t)) / 2.0
        ahead = theta + ((t - 1.0) / t_next) * (theta - previous)
        t = t_next
        if callback is not None:
            callback(iteration, theta)
    return theta


def softmax_accuracy(
    theta: NDArray[np.float64], features: NDArray[np.float64], labels: NDArray[np.int64]
) -> float:
    """Fraction of samples whose largest logit is that of their label.

    Parameters
    ----------
    theta : ndarray of float64, shape (K * D,)
        Parameters of a `SoftmaxRegression`.
    features : ndarray of float64, shape (n, D)
    labels : ndarray of int, shape (n,)
    """
    logits = features @ theta.reshape(-1, features.shape[1]).T
    return float(np.mean(np.argmax(logits, axis=1) == labels))
