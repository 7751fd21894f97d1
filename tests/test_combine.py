from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgc_fast import reference
from cgc_fast.combine import all_finite, largest_deviation, plain_sum, weighted_sum

LENGTHS = [0, 1, 2, 3, 7, 8, 9, 63, 1023, 1024, 1025, 8191, 8192, 8193, 16400]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("count", [*range(10), 15, 16, 17])
def test_sums_have_the_bits_of_the_twin_at_every_length_and_start(dtype, count):
    rng = np.random.default_rng(count)
    for length in LENGTHS:
        # Each row starts at another offset from a boundary of 64 bytes, so vector loads are unaligned.
        rows = [rng.standard_normal(length + i)[i:].astype(dtype, copy=False) for i in range(count)]
        rows = [np.concatenate([np.zeros(i, dtype), row])[i:] for i, row in enumerate(rows)]
        coefficients = rng.standard_normal(count) * 1e3
        for accumulate in (False, True):
            got = rng.standard_normal(length + 1).astype(dtype)[1:]
            expected = got.copy()
            weighted_sum(rows, coefficients, got, accumulate)
            reference.weighted_sum(rows, coefficients, expected, accumulate)
            np.testing.assert_array_equal(got, expected)


@given(
    dtype=st.sampled_from([np.float64, np.float32]),
    length=st.integers(0, 300),
    count=st.integers(0, 12),
    accumulate=st.booleans(),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=80, deadline=None)
def test_sums_are_within_the_rounding_of_exact_ones(dtype, length, count, accumulate, seed):
    rng = np.random.default_rng(seed)
    rows = [
        rng.standard_normal(length).astype(dtype) * dtype(10.0 ** int(rng.integers(-3, 4)))
        for _ in range(count)
    ]
    coefficients = rng.standard_normal(count)
    out = rng.standard_normal(length).astype(dtype)
    start = out.copy() if accumulate else np.zeros(length, dtype)
    weighted_sum(rows, coefficients, out, accumulate)
    terms = [np.asarray(a * row.astype(np.longdouble)) for a, row in zip(coefficients, rows, strict=True)]
    exact = sum(terms, start.astype(np.longdouble))
    magnitude = sum(map(np.abs, terms), np.abs(start).astype(np.longdouble))
    # One rounding of the coefficient, one of the product, one for each sum: (k + 2) u, to first order in u.
    tolerance = (count + 3) * np.finfo(dtype).eps / 2 * magnitude
    assert (np.abs(out - exact) <= tolerance).all()


def test_a_sum_written_over_several_slices_is_the_sum_at_once():
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal(4000) for _ in range(6)]
    coefficients = rng.standard_normal(6)
    whole, sliced = np.empty(4000), np.empty(4000)
    weighted_sum(rows, coefficients, whole)
    for start, stop in [(0, 1), (1, 18), (18, 1777), (1777, 4000)]:
        weighted_sum([row[start:stop] for row in rows], coefficients, sliced[start:stop])
    np.testing.assert_array_equal(whole, sliced)


def test_nothing_outside_the_output_is_touched():
    buffer = np.full(2000, 7.0)
    weighted_sum([np.ones(1500), np.ones(1500)], np.array([1.0, 2.0]), buffer[251:1751])
    assert (buffer[251:1751] == 3.0).all()
    assert (np.delete(buffer, slice(251, 1751)) == 7.0).all()


def test_rows_may_be_read_only_views_of_one_buffer_and_repeat():
    shared = np.frombuffer(bytes(np.arange(30.0)), dtype=np.float64)
    assert not shared.flags.writeable
    rows = (shared[:10], shared[10:20], shared[:10])
    out = np.zeros(10)
    weighted_sum(rows, np.array([1.0, 10.0, 2.0]), out)
    np.testing.assert_array_equal(out, 3 * np.arange(10.0) + 10 * np.arange(10.0, 20.0))
    matrix = np.arange(20.0).reshape(2, 10)
    weighted_sum(matrix, np.array([1.0, -1.0]), out)  # any sequence of rows
    np.testing.assert_array_equal(out, -10.0)


def test_calls_from_several_threads_do_not_disturb_each_other():
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal(20_000) for _ in range(9)]
    tasks = [(rows[:k], rng.standard_normal(k), np.empty(20_000)) for k in (9, 3, 7, 5)]

    def work(task):
        for _ in range(20):
            weighted_sum(*task)

    threads = [threading.Thread(target=work, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for some, coefficients, out in tasks:
        expected = np.empty(20_000)
        reference.weighted_sum(some, coefficients, expected)
        np.testing.assert_array_equal(out, expected)


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("rows", "coefficients", "out", "error", "message"),
    [
        ([np.ones(3)], np.ones(2), np.ones(3), ValueError, "coefficients: expected length 1, got 2"),
        ([np.ones(3)], np.ones((1, 1)), np.ones(3), ValueError, "coefficients: expected one dimension"),
        ([np.ones(3)], np.ones(1, np.float32), np.ones(3), TypeError, "coefficients: expected a float64"),
        (
            [np.ones(3), np.ones(4)],
            np.ones(2),
            np.ones(3),
            ValueError,
            r"rows\[1\]: expected length 3, got 4",
        ),
        (
            [np.ones(3, np.float32), np.ones(3)],
            np.ones(2),
            np.ones(3),
            TypeError,
            r"rows\[1\]: expected a float32 .* float64",
        ),
        (
            [np.ones(3), np.ones(3, np.float32)],
            np.ones(2),
            np.ones(3),
            TypeError,
            r"rows\[1\]: expected a float64 .* float32",
        ),
        ([np.ones(3)], None, np.ones(3), TypeError, "coefficients: expected a float64 array, got NoneType"),
        (
            [np.ones(3)],
            np.ones(1),
            np.ones(3, np.float32),
            TypeError,
            r"rows\[0\]: expected a float32 .* float64",
        ),
        (
            [np.ones(3)],
            np.ones(1),
            np.ones(3, np.int64),
            TypeError,
            "out: expected a float64 or float32 .* int64",
        ),
        ([[1.0, 2.0]], np.ones(1), np.ones(2), TypeError, r"rows\[0\]: expected a float64 array, got list"),
        ([np.ones((3, 1))], np.ones(1), np.ones(3), ValueError, r"rows\[0\]: expected one dimension, got 2"),
        ([np.ones(3)], np.ones(1), np.ones((3, 1)), ValueError, "out: expected one dimension, got 2"),
        (
            [np.ones(6)[::2]],
            np.ones(1),
            np.ones(3),
            ValueError,
            r"rows\[0\]: .* got strides \(16,\) in bytes",
        ),
        ([np.ones(3)], np.ones(1), np.ones(6)[::2], ValueError, "out: expected contiguous memory"),
        ([np.ones(3)], np.ones(1), read_only(np.ones(3)), ValueError, "out: expected a writable array"),
        ([np.ones(3).astype(">f8")], np.ones(1), np.ones(3), TypeError, r"rows\[0\]: expected a float64"),
        (
            [np.frombuffer(bytes(25), np.uint8)[1:].view(np.float64)],
            np.ones(1),
            np.ones(3),
            ValueError,
            r"rows\[0\]: expected memory aligned",
        ),
        (3, np.ones(1), np.ones(3), TypeError, "rows: expected a sequence of arrays"),
        ([np.ones(3)], np.ones(1), [1.0], TypeError, "out: expected a float64 or float32 array, got list"),
    ],
)
def test_bad_input_is_refused(rows, coefficients, out, error, message):
    with pytest.raises(error, match=message):
        weighted_sum(rows, coefficients, out)


@pytest.mark.parametrize("start", [0, 1, 5, 9])
def test_an_output_over_a_row_is_refused(start):
    buffer = np.ones(20)
    with pytest.raises(ValueError, match=r"rows\[1\]: expected memory apart from out"):
        weighted_sum([np.ones(10), buffer[5:15]], np.ones(2), buffer[start : start + 10])
    weighted_sum([buffer[10:20]], np.ones(1), buffer[:10])  # side by side is apart
    assert buffer.sum() == 20.0


def test_an_output_over_narrower_rows_is_refused():
    buffer = np.ones(10)
    narrow = buffer.view(np.float32)
    for start in (0, 3, 10):
        with pytest.raises(ValueError, match=r"rows\[0\]: expected memory apart from out"):
            weighted_sum([narrow[start : start + 10]], np.ones(1), buffer)
    plain_sum([narrow[15:]], buffer[:5])
    with pytest.raises(ValueError, match=r"rows\[0\]: expected memory apart from out"):
        plain_sum([buffer], buffer)


def test_threads_are_checked():
    with pytest.raises(ValueError, match="threads: expected at least 1, or 0 for one a core, got -1"):
        weighted_sum([np.ones(3)], np.ones(1), np.ones(3), threads=-1)
    with pytest.raises(ValueError, match="threads: expected at least 1"):
        plain_sum([np.ones(3)], np.ones(3), threads=-2)


def test_the_residual_of_a_decoding_vector():
    matrix = np.array([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]])
    row = np.empty(3)
    weighted_sum(matrix, np.array([1.0, 1.0]), row)
    assert largest_deviation(row, 1.0) == 0.0
    weighted_sum(matrix, np.array([1.0, 0.75]), row)
    assert largest_deviation(row, 1.0) == 0.25
    with pytest.raises(TypeError, match="values: expected a float64 or float32 array, got int64"):
        largest_deviation(np.ones(3, np.int64), 1.0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_value_anywhere_is_found(dtype, bad):
    limits = np.finfo(dtype)
    for length in (1, 7, 8, 17, 4095, 4096, 4100, 9000):
        values = np.resize(np.array([limits.max, -limits.max, limits.tiny, 0.0, -0.0], dtype), length)
        assert all_finite(values)
        assert all_finite(values) is reference.all_finite(values)
        for position in {0, length // 2, length - 1, min(length - 1, 4096)}:
            spoilt = values.copy()
            spoilt[position] = bad
            assert not all_finite(spoilt)


def test_all_finite_takes_any_shape_but_copies_nothing():
    assert all_finite(np.empty(0))
    assert all_finite(np.ones((3, 4)))
    assert not all_finite(np.array([[1.0, 2.0], [np.nan, 0.0]]))
    with pytest.raises(ValueError, match="values: expected contiguous memory"):
        all_finite(np.ones(6)[::2])
    with pytest.raises(TypeError, match="values: expected a float64 or float32 array, got int64"):
        all_finite(np.ones(3, np.int64))
