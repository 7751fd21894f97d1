"""A problem of one's own, in NumPy: Huber regression.

It lives in a module, not in the script that runs it, because worker processes import it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cgc_fast.problems import HeldSamples


class HuberRegression:
    """f_i(theta) = huber(x_i · theta - y_i): quadratic up to `delta`, linear beyond, so outliers pull little.

    Parameters
    ----------
    features : ndarray of float64, shape (M, D)
    targets : ndarray of float64, shape (M,)
    delta : float
        Where the loss turns linear.
    """

    sliceable = True  # after the forward pass, a narrow range of coordinates costs proportionally less

    def __init__(self, features: NDArray[np.float64], targets: NDArray[np.float64], delta: float) -> None:
        self.samples, self.coordinates = features.shape
        self.forward_cycles = float(self.coordinates)  # the forward pass reads each feature once
        self.delta = delta
        self._hold(features, targets, HeldSamples([(0, self.samples)]))

    def _hold(self, features: NDArray[np.float64], targets: NDArray[np.float64], held: HeldSamples) -> None:
        self.features, self.targets, self.held = features, targets, held
        self._slopes = np.zeros(held.count)  # d f_i / d (x_i · theta) ...
        self._known = np.zeros(held.count, dtype=bool)  # ... where this iteration has computed it

    def shard(self, ranges: NDArray[np.int64]) -> HuberRegression:
        """Hold only the samples of `ranges`; they keep their indices."""
        part = HuberRegression.__new__(HuberRegression)
        part.samples, part.coordinates = self.samples, self.coordinates
        part.forward_cycles, part.delta = self.forward_cycles, self.delta
        part._hold(
            self.held.take(self.features, ranges), self.held.take(self.targets, ranges), HeldSamples(ranges)
        )
        return part

    def begin(self, theta: NDArray[np.float64], iteration: int) -> None:
        """Start an iteration: forget the slopes of the last one."""
        self._theta = theta
        self._known[:] = False

    def forward(self, ranges: NDArray[np.int64]) -> None:
        """Compute the slopes of these samples, once an iteration."""
        for low, high in ranges:
            rows = self.held.rows(low, high)
            if not self._known[rows].all():
                residuals = self.features[rows] @ self._theta - self.targets[rows]
                self._slopes[rows] = np.clip(residuals, -self.delta, self.delta)
                self._known[rows] = True

    def derivatives(
        self,
        start: int,
        stop: int,
        ranges: NDArray[np.int64],
        coefficients: NDArray[np.float64],
        out: NDArray[np.float64],
    ) -> None:
        """Write the coded partial derivatives of the coordinates [start, stop)."""
        self.forward(ranges)
        out[:] = 0.0
        for (low, high), coefficient in zip(ranges, coefficients, strict=True):
            rows = self.held.rows(low, high)
            out += coefficient * (self._slopes[rows] @ self.features[rows, start:stop])


def plain_gradient(problem: HuberRegression, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gradient (L,) in two lines, to compare with."""
    residuals = problem.features @ theta - problem.targets
    return np.clip(residuals, -problem.delta, problem.delta) @ problem.features
