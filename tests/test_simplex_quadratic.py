"""The model of a Newton step: against its twin, and the conditions of the minimum."""

import numpy as np
import pytest

from cgc_fast import reference
from cgc_fast._core import minimise_on_simplex
from cgc_fast.errors import ArgumentValueError


def laplacian(count, generator):
    """Like the Hessian of an expected runtime: a graph Laplacian, weights of very different size."""
    weights = np.exp(-8.0 * generator.random((count, count)))
    weights += weights.T
    np.fill_diagonal(weights, 0.0)
    return np.diag(weights.sum(axis=1)) - weights


@pytest.mark.parametrize("count", [1, 2, 3, 17, 40])
def test_against_the_twin_and_the_conditions_of_the_minimum(count):
    generator = np.random.default_rng(count)
    hessian, gradient = laplacian(count, generator), 1.0 + 0.01 * generator.random(count)
    start = generator.random(count)
    start[0] = 1.0
    point = start.copy()
    minimise_on_simplex(gradient, hessian, 1e-12, point)
    assert point.sum() == pytest.approx(1.0, rel=1e-14)
    assert point.min() >= 0.0

    def value(y):
        return float(gradient @ y + 0.5 * y @ hessian @ y)

    slope = gradient + hessian @ point
    # By convexity no point is better by more than this; the residual of the dual adds some roundings.
    assert slope @ point - slope.min() <= 1e-12 + 1e-13 * np.abs(hessian).max()
    twin = reference.minimise_on_simplex(gradient, hessian, 1e-12, start)
    assert value(point) == pytest.approx(value(twin), abs=2e-12)


def test_the_model_of_many_levels_is_minimised_too():
    count = 300
    generator = np.random.default_rng(7)
    hessian, gradient = laplacian(count, generator), generator.random(count)
    point = np.ones(count)
    steps = minimise_on_simplex(gradient, hessian, 1e-11, point)
    assert 0 < steps < 40
    slope = gradient + hessian @ point
    assert slope @ point - slope.min() <= 1e-11 + 1e-13 * np.abs(hessian).max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gradient": np.zeros(0)}, "gradient: expected at least one entry"),
        ({"hessian": np.eye(3)}, "hessian: rows: expected length 2, got 3"),
        ({"accuracy": 0.0}, "accuracy: expected a positive number"),
        ({"point": np.array([1.0, -1.0])}, "point: expected numbers >= 0, got -1"),
        ({"point": np.zeros(2)}, "point: expected a positive, finite sum"),
        ({"hessian": -9e3 * np.eye(2)}, "positive semidefinite"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    arguments = {"gradient": np.zeros(2), "hessian": np.eye(2), "accuracy": 1e-9, "point": np.ones(2)}
    with pytest.raises(ValueError, match=message) as caught:
        minimise_on_simplex(**{**arguments, **change})
    assert isinstance(caught.value, ArgumentValueError) or message == "positive semidefinite"
