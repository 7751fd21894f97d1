"""Generalised linear models with compiled kernels: least squares, logistic and softmax regression."""

from __future__ import annotations

import math
import operator
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgc_fast import _core
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError, CgcError
from cgc_fast.problems.sample_ranges import HeldSamples, as_ranges

__all__ = ["LeastSquares", "LinearModel", "LogisticRegression", "SoftmaxRegression"]

_Self = TypeVar("_Self", bound="LinearModel")


class LinearModel:
    """What the three models share; make one of them, not this.

    f_i depends on theta through the K logits z_i = Theta x_i, where Theta = theta.reshape(K, D); coordinate
    l = class * D + feature. With residuals r_i = d f_i / d z_i, the partial derivative is
    r_{i,class} * x_{i,feature}.

    The forward pass, x_i -> r_i, is done once a sample and iteration, on demand or by `forward`, and costs
    O(L); after it each partial derivative of a sample costs one multiplication and one addition.

    Sums are taken in a fixed order: over the samples of a range one by one, then times the coefficient, then
    over the ranges. So a sum over a range has the same bits on every worker (where the C library has the same
    `exp`), and a coordinate has the same bits wherever slices are cut.

    Attributes
    ----------
    features : ndarray of float64, shape (n, D)
        Of the samples held; the caller's array where it has this form already: it must not change.
    targets : ndarray of float64, shape (n,)
        Of the samples held; classes as their index.
    classes : int
        K; 1 but for softmax regression.
    samples, coordinates : int
        M and L = K * D of the whole problem, on a shard too.
    held : HeldSamples
        Which samples are here.
    forward_cycles : float
        c, in cycles; one partial derivative of one sample costs 1. The default, L, is what the kernels take:
        a forward pass is L multiplications and additions.

    Notes
    -----
    One object, one thread: the kernels release the GIL and keep residuals in the object. Pickles hold data
    and no residuals. theta is viewed, not copied, from one `begin` to the next.
    """

    sliceable = True
    _loss: ClassVar[str]
    _curvature: ClassVar[float]  # the largest eigenvalue that d² f_i / dz² can have

    features: NDArray[np.float64]
    targets: NDArray[np.float64]
    classes: int
    samples: int
    held: HeldSamples
    forward_cycles: float

    def __init__(
        self,
        features: NDArray[np.float64],
        targets: NDArray[np.float64],
        classes: int,
        forward_cycles: float | None,
    ) -> None:
        self.features = features
        self.targets = targets
        self.classes = classes
        self.samples = len(features)
        self.held = HeldSamples([(0, self.samples)])
        self.forward_cycles = _checked_cycles(forward_cycles, self.coordinates)
        self._kernel: _core.LinearModel | None = None

    @property
    def coordinates(self) -> int:
        """L = classes * features, the length of theta."""
        return self.classes * int(self.features.shape[1])

    def shard(self: _Self, ranges: ArrayLike) -> _Self:
        """Make the same problem with only the samples of `ranges` (R, 2), in the indexing of the whole.

        One piece is a view of this problem's arrays, several are copied.

        Raises
        ------
        ArgumentValueError
            Samples that are not held here.
        """
        ranges = as_ranges(ranges)
        part = object.__new__(type(self))
        part.__dict__.update(
            self.__dict__,
            features=self.held.take(self.features, ranges),
            targets=self.held.take(self.targets, ranges),
            held=HeldSamples(ranges),
            _kernel=None,
        )
        return part

    def begin(self, theta: NDArray[np.float64], iteration: int = 0) -> None:
        """Start an iteration at theta, float64 (L,), which is viewed and must not change until the next one.

        Raises
        ------
        ArgumentTypeError
            Not a C-contiguous float64 array: a silent copy would hide where theta lives.
        ArgumentValueError
            Wrong shape.
        """
        _check_vector("theta", theta, self.coordinates)
        if self._kernel is None:
            self._kernel = self._make_kernel()
        self._kernel.begin(theta)

    def forward(self, ranges: ArrayLike) -> None:
        """Do the forward pass of these samples now, unless this iteration has it already."""
        self._begun().forward(as_ranges(ranges))

    def derivatives(
        self, start: int, stop: int, ranges: ArrayLike, coefficients: ArrayLike, out: NDArray[np.float64]
    ) -> None:
        """Write coded partial derivatives of the coordinates [start, stop) into `out`.

        Parameters
        ----------
        start, stop : int
            0 <= start <= stop <= L.
        ranges : array-like of int, shape (R, 2)
            Sample ranges [low, high), all held here.
        coefficients : array-like of float, shape (R,)
            One a range.
        out : ndarray of float64, shape (stop - start,)
            C-contiguous; overwritten with sum_r coefficients[r] * sum_{i in ranges[r]} d f_i / d theta_l.

        Raises
        ------
        ValueError
            Coordinates outside 0..L, samples not held, lengths that do not match.
        ArgumentTypeError
            `out` is not a contiguous float64 array.
        CgcError
            No iteration has begun.

        Notes
        -----
        O(samples * (stop - start)), and O(L) for every sample touched for the first time in the iteration.
        """
        _check_vector("out", out, stop - start)
        if not (isinstance(ranges, np.ndarray) and ranges.dtype == np.int64):  # the kernel checks the rest
            ranges = as_ranges(ranges)
        self._begun().derivatives(
            start, stop, ranges, np.ascontiguousarray(coefficients, dtype=np.float64), out
        )

    def value(self, ranges: ArrayLike, coefficients: ArrayLike) -> float:
        """Coded loss: sum_r coefficients[r] * sum_{i in ranges[r]} f_i(theta)."""
        coefficients = np.ascontiguousarray(coefficients, dtype=np.float64)
        return float(self._begun().value(as_ranges(ranges), coefficients))

    def compiled_kernel(self) -> _core.LinearModel | None:
        """The kernel behind `begin`, `forward`, `derivatives` and `value`; None in a subclass of the user's.

        Whoever has it may call it in their place, as the loop of a worker does without the interpreter.
        """
        if type(self).__module__ != __name__:  # it may have changed them
            return None
        if self._kernel is None:
            self._kernel = self._make_kernel()
        return self._kernel

    def gradient(self, theta: ArrayLike) -> NDArray[np.float64]:
        """Plain gradient (L,) over the samples held here, in one call; leaves a begun iteration alone.

        Raises
        ------
        ArgumentValueError
            theta of the wrong length, or with NaN or infinity.
        """
        out = np.empty(self.coordinates)
        kernel = self._kernel_at(theta)
        kernel.derivatives(0, self.coordinates, self.held.ranges, np.ones(len(self.held.ranges)), out)
        return out

    def loss(self, theta: ArrayLike) -> float:
        """f(theta) over the samples held here: a sum; leaves a begun iteration alone.

        Raises
        ------
        ArgumentValueError
            theta of the wrong length, or with NaN or infinity.
        """
        kernel = self._kernel_at(theta)
        return float(kernel.value(self.held.ranges, np.ones(len(self.held.ranges))))

    def smoothness_bound(self) -> float:
        """Upper bound on the largest eigenvalue of the Hessian of f, at any theta.

        The largest eigenvalue of XᵀX times that of d² f_i / dz²: 1 for least squares, 1/4 for logistic and
        1/2 for softmax regression [BOHNING92]. Gradient descent with steps up to its inverse never
        overshoots. O(n D min(n, D)).
        """
        features = self.features
        gram = features @ features.T if features.shape[0] < features.shape[1] else features.T @ features
        return self._curvature * float(np.linalg.eigvalsh(gram)[-1]) if gram.size else 0.0

    def _make_kernel(self) -> _core.LinearModel:
        return _core.LinearModel(self._loss, self.classes, self.features, self.targets, self.held.ranges)

    def _kernel_at(self, theta: ArrayLike) -> _core.LinearModel:
        array = _finite("theta", theta, dimensions=1)
        _check_vector("theta", array, self.coordinates)
        kernel = self._make_kernel()
        kernel.begin(array)
        return kernel

    def _begun(self) -> _core.LinearModel:
        if self._kernel is None:
            raise CgcError("begin(theta, iteration) comes before forward, derivatives and value")
        return self._kernel

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kernel": None}

    def __repr__(self) -> str:
        held = "" if self.held.count == self.samples else f", held={self.held.ranges.tolist()}"
        classes = f", classes={self.classes}" if self.classes > 1 else ""
        return (
            f"{type(self).__name__}(samples={self.samples}, features={self.features.shape[1]}{classes}{held})"
        )


class LeastSquares(LinearModel):
    """Least squares: f_i(theta) = (x_i · theta - y_i)² / 2.

    Parameters
    ----------
    features : array-like of float, shape (M, D)
        x_i. Kept without a copy if float64 and C-contiguous (then it must not change), else converted once.
    targets : array-like of float, shape (M,)
        y_i.
    forward_cycles : float, optional
        c, see `LinearModel`; default L = D.

    Raises
    ------
    ArgumentTypeError
        Data that are not real numbers.
    ArgumentValueError
        NaN or infinity, wrong or empty shapes.
    """

    _loss = "squares"
    _curvature = 1.0

    def __init__(
        self, features: ArrayLike, targets: ArrayLike, *, forward_cycles: float | None = None
    ) -> None:
        matrix = _features(features)
        vector = _finite("targets", targets, dimensions=1)
        _check_length("targets", vector, len(matrix))
        super().__init__(matrix, vector, 1, forward_cycles)


class LogisticRegression(LinearModel):
    """Logistic regression: f_i(theta) = log(1 + exp(z_i)) - y_i z_i with z_i = x_i · theta.

    Parameters
    ----------
    features : array-like of float, shape (M, D)
        x_i. Kept without a copy if float64 and C-contiguous (then it must not change), else converted once.
    labels : array-like, shape (M,)
        y_i in {0, 1}; or in {-1, 1}, where -1 counts as 0.
    forward_cycles : float, optional
        c, see `LinearModel`; default L = D.

    Raises
    ------
    ArgumentTypeError
        Data that are not real numbers.
    ArgumentValueError
        NaN or infinity, wrong or empty shapes, other labels.
    """

    _loss = "logistic"
    _curvature = 0.25

    def __init__(
        self, features: ArrayLike, labels: ArrayLike, *, forward_cycles: float | None = None
    ) -> None:
        matrix = _features(features)
        vector = _finite("labels", labels, dimensions=1)
        _check_length("labels", vector, len(matrix))
        known = np.unique(vector)
        if not (np.isin(known, (0.0, 1.0)).all() or np.isin(known, (-1.0, 1.0)).all()):
            shown = known[:6].tolist()
            raise ArgumentValueError(f"labels: expected all in {{0, 1}} or all in {{-1, 1}}, got {shown}")
        super().__init__(matrix, np.maximum(vector, 0.0), 1, forward_cycles)


class SoftmaxRegression(LinearModel):
    """Softmax regression: f_i(theta) = log(sum_k exp(z_ik)) - z_{i,y_i} with z_i = theta.reshape(K, D) x_i.

    Parameters
    ----------
    features : array-like of float, shape (M, D)
        x_i. Kept without a copy if float64 and C-contiguous (then it must not change), else converted once.
    labels : array-like of int, shape (M,)
        y_i in 0..K-1.
    classes : int, optional
        K >= 2; default: the largest label plus 1.
    forward_cycles : float, optional
        c, see `LinearModel`; default L = K * D.

    Raises
    ------
    ArgumentTypeError
        Features that are not real numbers, labels that are not integers.
    ArgumentValueError
        NaN or infinity, wrong or empty shapes, labels outside 0..K-1.
    """

    _loss = "softmax"
    _curvature = 0.5

    def __init__(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        classes: int | None = None,
        *,
        forward_cycles: float | None = None,
    ) -> None:
        matrix = _features(features)
        indices = np.asarray(labels)
        if indices.dtype.kind not in "iu":
            raise ArgumentTypeError(
                f"labels: expected integers 0..classes-1, got an array of {indices.dtype}; "
                "np.unique(labels, return_inverse=True) makes some"
            )
        if indices.ndim != 1:
            raise ArgumentValueError(f"labels: expected one dimension, got shape {indices.shape}")
        _check_length("labels", indices, len(matrix))
        if classes is None:
            classes = max(int(indices.max()) + 1, 2)
        try:
            classes = operator.index(classes)
        except TypeError:
            raise ArgumentTypeError(f"classes: expected an int, got {classes!r}") from None
        if classes < 2:
            raise ArgumentValueError(f"classes: expected at least 2, got {classes}")
        if indices.min() < 0 or indices.max() >= classes:
            wrong = indices.min() if indices.min() < 0 else indices.max()
            raise ArgumentValueError(f"labels: expected 0..{classes - 1}, got {wrong}")
        super().__init__(matrix, indices.astype(np.float64), classes, forward_cycles)


def _finite(name: str, data: ArrayLike, dimensions: int) -> NDArray[np.float64]:
    """As a finite, C-contiguous float64 array; no copy if it is one."""
    array = np.asarray(data)
    if array.dtype.kind not in "fiub":
        raise ArgumentTypeError(f"{name}: expected real numbers, got an array of {array.dtype}")
    if array.ndim != dimensions:
        raise ArgumentValueError(f"{name}: expected {dimensions} dimension(s), got shape {array.shape}")
    array = np.require(array, dtype=np.float64, requirements=["C", "A"])
    finite = np.isfinite(array)
    if not finite.all():
        place = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), array.shape))
        raise ArgumentValueError(f"{name}: expected finite numbers, got {array[place]} at {place}")
    return array


def _features(features: ArrayLike) -> NDArray[np.float64]:
    matrix = _finite("features", features, dimensions=2)
    if 0 in matrix.shape:
        raise ArgumentValueError(
            f"features: expected at least one sample and one feature, got shape {matrix.shape}"
        )
    return matrix


def _check_length(name: str, array: NDArray[Any], samples: int) -> None:
    if len(array) != samples:
        raise ArgumentValueError(f"{name}: expected one a sample, that is {samples}, got {len(array)}")


def _check_vector(name: str, array: NDArray[np.float64], length: int) -> None:
    if not (isinstance(array, np.ndarray) and array.dtype == np.float64 and array.flags.c_contiguous):
        got = f"{array.dtype} array" if isinstance(array, np.ndarray) else type(array).__name__
        raise ArgumentTypeError(f"{name}: expected a C-contiguous float64 array, got {got}")
    if array.shape != (length,):
        raise ArgumentValueError(f"{name}: expected shape ({length},), got {array.shape}")


def _checked_cycles(forward_cycles: float | None, coordinates: int) -> float:
    if forward_cycles is None:
        return float(coordinates)
    if not (math.isfinite(forward_cycles) and forward_cycles >= 0):
        raise ArgumentValueError(f"forward_cycles: expected finite and >= 0, got {forward_cycles}")
    return float(forward_cycles)
