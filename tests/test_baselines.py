"""The baselines, against their formulas written out, published values and each other."""

import numpy as np
import pytest
from scipy import stats

import cgc_fast as cgc
from cgc_fast import baselines
from cgc_fast.closed_forms import large_threshold_block_sizes, mean_time_block_sizes
from cgc_fast.datasets import load_trace
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError

LAW = stats.expon(loc=50, scale=1000)
COST = {"samples": 12, "cycles_per_derivative": 0.5, "forward_cycles": 30.0}
ALL = 12 * (0.5 * 100 + 30.0)  # M (b L + c), L = 100


def draws(count=500, workers=6):
    return LAW.rvs(size=(count, workers), random_state=np.random.default_rng(4))


def test_formulas_written_out():
    times = draws(50)
    ordered = np.sort(times)
    np.testing.assert_allclose(baselines.uncoded(times, 100, **COST), ALL / 6 * ordered[:, 5])
    np.testing.assert_allclose(baselines.single_level(times, 100, 2, **COST), ALL / 6 * 3 * ordered[:, 3])
    expected = [ALL / 6 * 3 / 8 * max(6 * row[3], row[5]) for row in ordered]
    np.testing.assert_allclose(baselines.partial_stragglers(times, 100, 2, **COST), expected)
    np.testing.assert_allclose(
        baselines.lower_bound(times, 100, **COST), [ALL / sum(1 / t for t in row) for row in times]
    )
    speeds = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 0.0])
    expected = [ALL * max(t * v / 15 for t, v in zip(row, speeds, strict=True)) for row in times]
    np.testing.assert_allclose(baselines.load_balancing(times, 100, speeds, **COST), expected)


def test_chunks_written_out():
    times = draws(20, 5)
    for parts, split in ((1, 1), (3, 1), (3, 2), (5, 4)):
        for whole in (False, True):
            expected = [
                ALL
                / 5
                * max(
                    sorted(row[(chunk - p) % 5] * (parts if whole else p + 1) for p in range(parts))[
                        split - 1
                    ]
                    for chunk in range(5)
                )
                for row in times
            ]
            got = baselines.partial_gradient_coding(times, 100, parts, split, whole=whole, **COST)
            np.testing.assert_allclose(got, expected)
    np.testing.assert_allclose(
        baselines.partial_gradient_coding(times, 100, 1, **COST), baselines.uncoded(times, 100, **COST)
    )


@pytest.mark.parametrize(
    ("split", "whole", "published"),
    [
        (1, True, 5.59),
        (2, True, 8.26),
        (3, True, 10.97),
        (1, False, 2.55),
        (2, False, 3.92),
        (3, False, 5.65),
    ],
)
def test_chunks_of_the_published_figures(split, whole, published):
    times = np.random.default_rng(0).exponential(1.0, (4000, 200))
    done = baselines.partial_gradient_coding(times, 1, 8, split, whole=whole, samples=200)
    # Of 1,000 runs, as far as is known, whose spread ours shows; three standard errors of both.
    ended = np.ceil(done)
    assert abs(ended.mean() - published) <= 3 * ended.std() * (1 / 1000 + 1 / 4000) ** 0.5


def test_left_out_levels_are_the_best():
    times = draws()
    for function, best in (
        (baselines.single_level, baselines.best_single_level(times)),
        (baselines.partial_stragglers, baselines.best_partial_stragglers_level(times)),
    ):
        means = [function(times, 100, s, **COST).mean() for s in range(6)]
        assert best == np.argmin(means)
        assert function(times, 100, **COST).mean() == means[best]


@pytest.mark.parametrize(
    ("workers", "expected"), [(10, 3.952), (20, 5.631), (30, 6.659), (40, 7.402), (50, 7.971)]
)
def test_partial_stragglers_of_the_published_figures(workers, expected):
    times = LAW.rvs(size=(40_000, workers), random_state=np.random.default_rng(1))
    values = baselines.partial_stragglers(times, 20_000, samples=workers) / 1e7
    # The value is given to 4 digits, ours scatters; the best level on the draws biases by less than that.
    assert values.mean() == pytest.approx(expected, abs=4 * values.std() / 200 + 5e-4)


def test_the_bound_lies_below_every_scheme():
    times = draws()
    bound = baselines.lower_bound(times, 100, **COST)
    for function in (baselines.uncoded, baselines.single_level, baselines.load_balancing):
        assert np.all(function(times, 100, **COST) >= bound * (1 - 1e-12))
    plan = cgc.plan(6, 100, LAW, draws=2000)
    assert np.all(cgc.runtime(plan.block_sizes, times, **COST) >= bound * (1 - 1e-12))


def test_identical_and_known_speeds_leave_the_bound():
    times = np.tile([1.0, 2.0, 4.0], (5, 1))
    np.testing.assert_allclose(baselines.load_balancing(times, 10), baselines.lower_bound(times, 10))
    times = np.full((5, 3), 7.0)
    np.testing.assert_allclose(baselines.uncoded(times, 10), baselines.lower_bound(times, 10))


def test_load_balancing_on_the_persistent_trace():
    # Speeds from the first half, scored on the second: 0.43 of uncoded.
    times = load_trace("gpu_training_10_workers").times
    first, second = np.array_split(times, 2)
    balanced = baselines.load_balancing(second, 1, 1 / first.mean(axis=0)).mean()
    assert balanced / baselines.uncoded(second, 1).mean() == pytest.approx(0.43, abs=0.01)


def test_hierarchical_goes_from_the_best_single_level_to_the_mean_time_approximation():
    times = draws()
    means = np.sort(times).mean(axis=0)
    one = baselines.hierarchical_block_sizes(means, 100, 1)
    assert np.flatnonzero(one).tolist() == [baselines.best_single_level(times)]
    np.testing.assert_allclose(
        baselines.hierarchical(times, 100, 1, samples=5), baselines.single_level(times, 100, samples=5)
    )
    many = baselines.hierarchical_block_sizes(means, 100, 100_000)
    limit = mean_time_block_sizes(means[::-1], np.arange(1.0, 7.0), 100)
    # A layer more or less at any level moves at most one layer's share of W_N, which is below 600.
    np.testing.assert_allclose(many, limit, atol=6 * 600 / 100_000)
    assert baselines.hierarchical_block_sizes(means, 100, 7).sum() == pytest.approx(100)


def test_workers_that_never_answer():
    times = np.array([[1.0, 2.0, np.inf], [1.0, 1.0, 1.0]])
    assert baselines.uncoded(times, 10)[0] == np.inf
    assert baselines.single_level(times, 10, 1)[0] == pytest.approx(10 / 3 * 2 * 2)
    assert baselines.lower_bound(times, 10)[0] == pytest.approx(10 / 1.5)
    assert baselines.lower_bound(np.full((1, 2), np.inf), 10)[0] == np.inf
    assert np.isfinite(baselines.load_balancing(times, 10)).all()  # a mean of infinity: no share


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda t: baselines.uncoded(t[0], 10), ArgumentValueError, r"expected shape \(draws, workers\)"),
        (lambda t: baselines.uncoded(-t, 10), ArgumentValueError, "positive"),
        (lambda t: baselines.uncoded(t.astype(str), 10), ArgumentTypeError, "numbers"),
        (lambda t: baselines.uncoded(t, 0), ArgumentValueError, "coordinates: expected an integer >= 1"),
        (lambda t: baselines.single_level(t, 10, 6), ArgumentValueError, r"redundancy.*0\.\.5, got 6"),
        (lambda t: baselines.partial_stragglers(t, 10, alpha=0.5), ArgumentValueError, "alpha.*>= 1"),
        (lambda t: baselines.load_balancing(t, 10, [1.0]), ArgumentValueError, r"speeds.*\(6,\)"),
        (lambda t: baselines.load_balancing(t, 10, -t[0]), ArgumentValueError, "speeds.*>= 0"),
        (lambda t: baselines.hierarchical(t, 10, 0), ArgumentValueError, r"layers.*1\.\.1000000"),
    ],
)
def test_bad_arguments_are_refused(call, error, match):
    with pytest.raises(error, match=match):
        call(draws(3))


def test_large_threshold_sizes():
    # Exponential tails: x_n = L / ((n+1) Harm_N).
    harmonic = sum(1 / k for k in range(1, 11))
    expected = [1000 / (n + 1) / harmonic for n in range(10)]
    np.testing.assert_allclose(large_threshold_block_sizes(10, 1000), expected, rtol=1e-13)
    # Weibull tails: equal exponents (n+1) / W_n^k.
    sizes = large_threshold_block_sizes(7, 100, tail_power=2.5)
    numbers = np.arange(1.0, 8.0)
    exponents = numbers / np.cumsum(numbers * sizes) ** 2.5
    np.testing.assert_allclose(exponents, exponents[0], rtol=1e-12)
    assert sizes.sum() == pytest.approx(100)
