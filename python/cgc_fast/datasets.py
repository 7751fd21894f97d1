"""Real data that needs no network."""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cgc_fast.errors import ArgumentValueError, unknown_name
from cgc_fast.straggler_models import Trace

__all__ = ["TRACES", "Digits", "digits_with_random_features", "load_trace", "random_fourier_features"]

TRACES = ("gpu_training_10_workers", "llm_training_32_replicas")


def load_trace(name: str) -> Trace:
    """Load measured cycle times that come with the package.

    Parameters
    ----------
    name : {"gpu_training_10_workers", "llm_training_32_replicas"}
        Relative mini-batch times of 10 workers of a GPU training job, whose slow workers stay slow (Alibaba,
        CC BY 4.0), or compute seconds of 32 replicas in 43 steps of training a language model, where
        slowness comes and goes (ByteDance, Apache 2.0). Sources are named in the files, licences beside them.

    Raises
    ------
    ArgumentValueError
        Unknown name.
    """
    if name not in TRACES:
        raise unknown_name("trace", name, TRACES)
    with resources.as_file(resources.files("cgc_fast") / "data" / "traces" / f"{name}.csv") as path:
        return Trace.from_csv(path)


class Digits(NamedTuple):
    """Handwritten digits, split; features float64 (n, D), labels int64 (n,) in 0..9."""

    train_features: NDArray[np.float64]
    train_labels: NDArray[np.int64]
    test_features: NDArray[np.float64]
    test_labels: NDArray[np.int64]


def random_fourier_features(
    data: NDArray[np.float64], features: int, bandwidth: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Random features whose inner products approximate a Gaussian kernel [RAHIMI07].

    Parameters
    ----------
    data : ndarray of float64, shape (n, d)
    features : int
        D, how many; the error of an inner product is about 1 / sqrt(D).
    bandwidth : float
        s in exp(-|x - y|² / (2 s²)), in the units of the data.
    rng : numpy.random.Generator
        Where frequencies and phases are drawn from.

    Returns
    -------
    ndarray of float64, shape (n, D)
        sqrt(2 / D) cos(W x + b), W normal with standard deviation 1 / s, b uniform on a circle. O(n d D).
    """
    frequencies = rng.standard_normal((data.shape[1], features)) / bandwidth
    phases = rng.uniform(0.0, 2.0 * np.pi, features)
    transformed: NDArray[np.float64] = np.sqrt(2.0 / features) * np.cos(data @ frequencies + phases)
    return transformed


def digits_with_random_features(features: int = 2000, seed: int = 0, test: int = 360) -> Digits:
    """Load scikit-learn's bundled digits (1,797 images of 8 x 8 pixels) through random Fourier features.

    The bandwidth is half the median distance of two training images. Features are centred on the training
    set, which takes away the one direction that all images share and with it most of the largest eigenvalue
    of the Hessian: 15 steps of `cgc_fast.training.accelerated_gradient` from zero, with step
    1 / `smoothness_bound()`, reach a test accuracy of 97.5 % (seeds 0 to 3: 95.8 % to 97.8 %).

    Parameters
    ----------
    features : int
        D; softmax regression over the ten classes then has L = 10 D coordinates.
    seed : int
        Of the split and of the features.
    test : int
        How many images are kept for the test, 1..1,796; the default leaves M = 1,437 for training.

    Raises
    ------
    ArgumentValueError
        features < 1, or test out of range.
    ImportError
        scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError(
            "the digits come with scikit-learn, which is not installed: pip install 'cgc_fast[sklearn]'"
        ) from None
    if features < 1:
        raise ArgumentValueError(f"features: expected at least 1, got {features}")
    digits = load_digits()
    images = np.asarray(digits.data, dtype=np.float64) / 16.0
    labels = np.asarray(digits.target, dtype=np.int64)
    if not 1 <= test < len(images):
        raise ArgumentValueError(f"test: expected 1..{len(images) - 1}, got {test}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    train, held_out = order[test:], order[:test]
    bandwidth = _median_distance(images[train]) / 2.0
    transformed = random_fourier_features(images, features, bandwidth, rng)
    transformed -= transformed[train].mean(axis=0)
    return Digits(transformed[train], labels[train], transformed[held_out], labels[held_out])


def _median_distance(data: NDArray[np.float64]) -> float:
    """Median Euclidean distance of two rows, a usual scale for a kernel. O(n² d)."""
    squares = (data * data).sum(axis=1)
    pairs = np.triu_indices(len(data), k=1)
    distances = (squares[:, None] + squares[None, :] - 2.0 * (data @ data.T))[pairs]
    return float(np.sqrt(max(float(np.median(distances)), 0.0)))
