"""Boundary-crossing probabilities: twins, closed forms, far tails, derivatives."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgc_fast import _core, reference
from cgc_fast.errors import ArgumentValueError


def evaluate(bounds, **options):
    bounds = np.atleast_2d(np.asarray(bounds, dtype=np.float64))
    return _core.BoundaryCrossing(bounds.shape[1]).evaluate(bounds, 1.0 - bounds, **options)


def as_fractions(bounds):
    return [Fraction(bound) for bound in bounds]


@st.composite
def boundaries(draw):
    """Rising bounds, steep and flat, with ties and ends at 1."""
    workers = draw(st.integers(1, 14))
    power = draw(st.sampled_from([0.05, 0.3, 1.0, 1.5]))
    # Multiples of 2^-30, so that 1 - b is exact and rational numbers stay small.
    raw = draw(st.lists(st.floats(0.01, 1.0), min_size=workers, max_size=workers))
    bounds = np.sort(np.round(np.array(raw) ** power * 2**30) / 2**30)
    if draw(st.booleans()):
        bounds[workers // 2 :] = bounds[workers // 2]
    if draw(st.booleans()):
        bounds[-(workers // 2) - 1 :] = 1.0
    return bounds


# About N steps of N products each, errors of 2^-53 that add up: 14 * 14 * 1e-16 and as much for exponentials.
CLOSE = 1e-12


@settings(max_examples=60, deadline=None)
@given(boundaries())
def test_probability_and_failure_against_rational_numbers(bounds):
    exact = reference.boundary_crossing_exactly(as_fractions(bounds))
    (inside,), (failure,), _, _ = evaluate(bounds, tail=True)
    assert inside == pytest.approx(float(exact), rel=CLOSE, abs=0)
    assert failure == pytest.approx(float(1 - exact), rel=CLOSE, abs=0)


@settings(max_examples=30, deadline=None)
@given(boundaries())
def test_the_two_twins_agree(bounds):
    exact = float(reference.boundary_crossing_exactly(as_fractions(bounds)))
    assert reference.boundary_crossing(bounds) == pytest.approx(exact, rel=CLOSE, abs=1e-300)


@settings(max_examples=40, deadline=None)
@given(boundaries(), st.data())
def test_derivatives_against_rational_differences(bounds, data):
    workers = len(bounds)
    k = data.draw(st.integers(0, workers - 1))
    step = Fraction(1, 2**60)
    # One-sided, away from the tie: only up for the last of equal bounds below 1, else down for the first.
    if bounds[k] < 1.0 and (k == workers - 1 or bounds[k] < bounds[k + 1]):
        sign = 1
    elif k == 0 or bounds[k] > bounds[k - 1]:
        sign = -1
    else:
        return
    moved = as_fractions(bounds)
    moved[k] += sign * step
    difference = reference.boundary_crossing_exactly(moved) - reference.boundary_crossing_exactly(
        as_fractions(bounds)
    )
    _, _, dropped, onward = evaluate(bounds, tail=True, derivatives=True)
    gradient = workers * dropped[0, k] * onward[0, k]
    # The difference quotient is off by its step times a second derivative of at most N^2.
    assert gradient == pytest.approx(float(difference / step / sign), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("workers", [1, 3, 50, 900, 1500])
@pytest.mark.parametrize("bound", [1e-3, 0.5, 0.99])
def test_equal_bounds(workers, bound):
    # All points below b; for 900 and 1500 workers one Poisson row has a mean beyond 745.
    (inside,), (failure,), dropped, onward = evaluate(np.full(workers, bound), tail=True, derivatives=True)
    exact = bound**workers
    # A row starts at its mode, with an error of some units in the last place, and takes N products.
    assert inside == pytest.approx(exact, rel=1e-11, abs=1e-280)
    assert failure == pytest.approx(-math.expm1(workers * math.log(bound)), rel=1e-11)
    assert workers * (dropped * onward)[0, -1] == pytest.approx(
        workers * bound ** (workers - 1), rel=1e-11, abs=1e-280
    )
    assert not (dropped * onward)[0, :-1].any()


@pytest.mark.parametrize("k", [1, 4, 60])
def test_one_bound(k):
    # P[U_(k) <= b], the others at 1: at least k of N points below b.
    workers, bound = 60, 0.3
    bounds = np.ones(workers)
    bounds[:k] = bound
    terms = [math.comb(workers, i) * bound**i * (1 - bound) ** (workers - i) for i in range(workers + 1)]
    (inside,), (failure,), _, _ = evaluate(bounds, tail=True)
    assert inside == pytest.approx(sum(terms[k:]), rel=1e-11)
    assert failure == pytest.approx(sum(terms[:k]), rel=1e-11)


@pytest.mark.parametrize("exponent", [6, 12, 40, 90])
@pytest.mark.parametrize("missing", [1, 3])
def test_far_tails_keep_their_digits(exponent, missing):
    # U_(N-missing+1) > 1 - q takes `missing` points in the last q: C(N, missing) q^missing to first order.
    workers, q = 40, 10.0**-exponent
    bounds, complements = np.ones((1, workers)), np.zeros((1, workers))
    bounds[0, : workers - missing + 1] = 1.0 - q
    complements[0, : workers - missing + 1] = q
    _, (failure,), _, _ = _core.BoundaryCrossing(workers).evaluate(bounds, complements, tail=True)
    assert failure == pytest.approx(math.comb(workers, missing) * q**missing, rel=40 * q + 1e-11)


@pytest.mark.parametrize("workers", [60, 150])
def test_the_band_leaves_nothing_out(workers):
    # From hopeless to certain boundaries against binomial steps over all counts.
    middle = np.arange(1, workers + 1) / workers
    for shift in (-0.05, 0.0, 0.05):
        bounds = np.clip(middle + shift * 4 * middle * (1 - middle), middle * 0.5, 1.0)
        bounds = np.maximum.accumulate(bounds)
        if workers == 60:
            expected = reference.boundary_crossing(bounds)
        else:
            expected = float(reference.boundary_crossing_exactly(as_fractions(np.round(bounds * 256) / 256)))
            bounds = np.round(bounds * 256) / 256
        assert evaluate(bounds)[0][0] == pytest.approx(expected, rel=1e-10, abs=1e-280)


def test_zero_bounds_and_impossible_ones():
    (inside,), (failure,), _, _ = evaluate([0.0, 0.5, 1.0])
    assert inside == 0.0
    assert failure == pytest.approx(1.0, rel=1e-14)
    assert evaluate([1.0, 1.0])[0][0] == pytest.approx(1.0, rel=1e-15)
    assert evaluate([1.0, 1.0])[1][0] == 0.0


def test_rows_do_not_disturb_each_other():
    generator = np.random.default_rng(3)
    bounds = np.sort(generator.random((7, 25)), axis=1)
    bounds[3] = 0.0
    together = evaluate(bounds, derivatives=True)
    for row in range(7):
        for many, one in zip(together, evaluate(bounds[row], derivatives=True), strict=True):
            np.testing.assert_array_equal(many[row], one[0])


def test_bad_bounds_are_refused():
    for bounds in ([0.5, 0.4], [-0.1, 0.5], [0.5, 1.5], [np.nan, 1.0]):
        with pytest.raises(ArgumentValueError, match="rising numbers"):
            evaluate(bounds)
    with pytest.raises(ArgumentValueError, match="points: expected at least 1"):
        _core.BoundaryCrossing(0)
    with pytest.raises(ArgumentValueError, match="expected length 3, got 2"):
        _core.BoundaryCrossing(3).evaluate(np.ones((1, 2)), np.zeros((1, 2)))


@settings(max_examples=25, deadline=None)
@given(boundaries())
def test_second_order_against_rational_numbers(bounds):
    bounds = bounds[:6]
    exact = float(reference.boundary_crossing_exactly(as_fractions(bounds)))
    inside, failure, gradient, hessian = _core.BoundaryCrossing(len(bounds)).second_order(
        bounds, 1.0 - bounds
    )
    first, second = reference.boundary_crossing_derivatives(as_fractions(bounds))
    assert inside == pytest.approx(exact, rel=CLOSE, abs=0)
    assert failure == pytest.approx(1.0 - exact, rel=CLOSE, abs=1e-14)
    # The differences leave out N^3 1e-18.
    np.testing.assert_allclose(gradient, first, rtol=1e-10, atol=1e-12)
    # Mixed ones by a difference of probabilities of about 1: 1e-13 N^2.
    np.testing.assert_allclose(hessian, second, rtol=1e-8, atol=1e-10)
