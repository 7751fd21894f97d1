"""Coordinate and block view, rounding, projection on the simplex."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize

from cgc_fast import _core, reference
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError
from cgc_fast.partition import (
    as_block_sizes,
    block_sizes_from_redundancy,
    check_boundaries,
    redundancy_from_block_sizes,
    round_block_sizes,
)


@given(workers=st.integers(1, 12), data=st.data())
def test_views_are_inverse_up_to_order(workers, data):
    redundancy = data.draw(st.lists(st.integers(0, workers - 1), min_size=1, max_size=40))
    sizes = block_sizes_from_redundancy(redundancy, workers)
    assert sizes.shape == (workers,)
    np.testing.assert_array_equal(redundancy_from_block_sizes(sizes), np.sort(redundancy))


@st.composite
def real_block_sizes(draw):
    shares = draw(arrays(np.float64, st.integers(1, 30), elements=st.just(0.0) | st.floats(1e-9, 1)))
    coordinates = draw(st.integers(1, 10_000))
    if shares.sum() == 0:
        shares[draw(st.integers(0, len(shares) - 1))] = 1.0
    return shares * (coordinates / shares.sum()), coordinates


@given(real_block_sizes())
def test_rounding_keeps_the_sum_and_moves_partial_sums_by_half(case):
    sizes, coordinates = case
    rounded = round_block_sizes(sizes, coordinates)
    assert rounded.dtype == np.int64
    assert rounded.sum() == coordinates
    assert rounded.min() >= 0
    assert not rounded[sizes == 0].any()
    # 1/2, and 30 roundings of sums of size L
    assert np.abs(np.cumsum(rounded) - np.cumsum(sizes)).max() <= 0.5 + 1e-14 * coordinates


@given(real_block_sizes(), st.data())
def test_rounding_snaps_to_the_nearest_boundary(case, data):
    sizes, coordinates = case
    boundaries = sorted(data.draw(st.sets(st.integers(0, coordinates), max_size=8)))
    rounded = round_block_sizes(sizes, coordinates, boundaries)
    allowed = np.array(sorted({0, coordinates, *boundaries}))
    cuts = np.cumsum(rounded)
    assert cuts[-1] == coordinates
    assert np.isin(cuts, allowed).all()
    nearest = np.abs(np.cumsum(sizes)[:, None] - allowed).min(axis=1)
    assert np.all(np.abs(cuts - np.cumsum(sizes)) <= nearest + 1e-13 * coordinates)


def test_more_levels_than_coordinates():
    np.testing.assert_array_equal(round_block_sizes(np.full(4, 0.5), 2), [1, 0, 1, 0])


@pytest.mark.parametrize(
    ("sizes", "error", "match"),
    [
        ([3, -1, 2], ArgumentValueError, "got -1 at level 1"),
        ([3, 0], ArgumentValueError, r"shape \(3,\), one per level, got \(2,\)"),
        ([[1, 2, 1]], ArgumentValueError, r"got \(1, 3\)"),
        ([1.5, 1.5, 1], ArgumentValueError, "whole numbers, got 1.5 at level 0"),
        ([1.0, np.nan, 3.0], ArgumentValueError, "got nan at level 1"),
        ([1.0, np.inf, 3.0], ArgumentValueError, "got inf at level 1"),
        ([0, 0, 0], ArgumentValueError, "at least one coordinate"),
        ([1, 1, 1], ArgumentValueError, r"sum 4 \(coordinates\), got 3"),
        (["a", "b", "c"], ArgumentTypeError, "dtype"),
        ([True, True, True], ArgumentTypeError, "dtype bool"),
        ([1j, 0, 0], ArgumentTypeError, "dtype complex"),
    ],
)
def test_bad_block_sizes_are_refused(sizes, error, match):
    with pytest.raises(error, match=match):
        as_block_sizes(sizes, workers=3, coordinates=4)


def test_good_block_sizes_are_taken():
    for dtype in (np.int32, np.uint8, np.float32):
        sizes = as_block_sizes(np.array([1, 0, 3], dtype=dtype), workers=3, coordinates=4)
        assert sizes.dtype == np.int64
        np.testing.assert_array_equal(sizes, [1, 0, 3])


@pytest.mark.parametrize(
    ("redundancy", "error", "match"),
    [
        ([0, 3], ArgumentValueError, "expected 0 to 2, got 0 to 3"),
        ([-1, 0], ArgumentValueError, "got -1 to 0"),
        ([], ArgumentTypeError, "integers"),
        (np.zeros(0, dtype=int), ArgumentValueError, r"got \(0,\)"),
        ([0.0, 1.0], ArgumentTypeError, "float64"),
    ],
)
def test_bad_redundancies_are_refused(redundancy, error, match):
    with pytest.raises(error, match=match):
        block_sizes_from_redundancy(redundancy, 3)


@pytest.mark.parametrize(
    ("boundaries", "error", "match"),
    [
        ([3, 3], ArgumentValueError, "strictly ascending"),
        ([5, 2], ArgumentValueError, "strictly ascending"),
        ([-1, 2], ArgumentValueError, r"0\.\.10"),
        ([2, 11], ArgumentValueError, r"0\.\.10"),
        ([[1, 2]], ArgumentValueError, "one dimension"),
        ([1.5], ArgumentTypeError, "integers"),
    ],
)
def test_bad_boundaries_are_refused(boundaries, error, match):
    with pytest.raises(error, match=match):
        check_boundaries(boundaries, 10)


def test_a_wrong_sum_is_not_rounded_away():
    with pytest.raises(ArgumentValueError, match="expected the sum 10"):
        round_block_sizes([5.0, 4.9], 10)


points = arrays(np.float64, st.integers(1, 12), elements=st.floats(-100, 100))


@given(points, st.floats(0.1, 100))
def test_projection_is_the_twins_and_optimal(point, total):
    projected = _core.project_onto_simplex(point, total)
    # A few roundings of sums of 12 numbers up to 100.
    np.testing.assert_allclose(projected, reference.project_onto_simplex(point, total), atol=1e-12)
    assert projected.min() >= 0
    assert abs(projected.sum() - total) <= 1e-12 * (1 + 1200)
    # Karush, Kuhn and Tucker: x = max(0, v - threshold) with one threshold for all.
    shift = point - projected
    used = projected > 0
    assert np.ptp(shift[used]) <= 1e-12
    assert np.all(shift[~used] <= shift[used].max() + 1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_projection_against_quadratic_programming(seed):
    generator = np.random.default_rng(seed)
    point, total = generator.normal(size=6), 1.5
    oracle = minimize(
        lambda x: 0.5 * np.sum((x - point) ** 2),
        np.full(6, total / 6),
        jac=lambda x: x - point,
        bounds=[(0, None)] * 6,
        constraints={"type": "eq", "fun": lambda x: x.sum() - total, "jac": lambda x: np.ones(6)},
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    assert oracle.success
    # The objective is quadratic at the optimum: SLSQP's 1e-14 in it is 1e-7 in x.
    np.testing.assert_allclose(_core.project_onto_simplex(point, total), oracle.x, atol=1e-6)


def test_kernels_refuse_wrong_arrays():
    with pytest.raises(TypeError):
        _core.project_onto_simplex(np.arange(3), 1.0)
    with pytest.raises(ValueError, match="total: expected > 0"):
        _core.project_onto_simplex(np.ones(3), 0.0)
    with pytest.raises(ValueError, match="at least one entry"):
        _core.project_onto_simplex(np.ones(0), 1.0)
