"""Runtimes of draws and their expectation: views, kernels and twins, exact values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import cgc_fast as cgc
from cgc_fast import _core, reference
from cgc_fast.arguments import Cost
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError
from cgc_fast.levels import FractionalRepetitionLevels
from cgc_fast.partition import block_sizes_from_redundancy

# Runtimes are products and sums of a few dozen numbers; the order of the sums differs.
CLOSE = {"rtol": 1e-13}
LAW = stats.expon(loc=50, scale=1000)


@st.composite
def iterations(draw):
    """Redundancies of some coordinates, and draws with workers that never answer."""
    workers = draw(st.integers(1, 7))
    redundancy = draw(st.lists(st.integers(0, workers - 1), min_size=1, max_size=12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    times = generator.exponential(size=(5, workers)) + 0.01
    times[generator.random(times.shape) < 0.1] = np.inf
    return workers, np.array(redundancy), times


costs = st.fixed_dictionaries(
    {
        "samples": st.sampled_from([1, 50, 7.5]),
        "cycles_per_derivative": st.sampled_from([1.0, 0.25]),
        "forward_cycles": st.sampled_from([0.0, 3.0]),
    }
)


@given(iterations(), costs)
def test_block_view_is_coordinate_view_sorted(case, cost):
    workers, redundancy, times = case
    sizes = block_sizes_from_redundancy(redundancy, workers)
    by_coordinate = reference.coordinate_runtime(np.sort(redundancy), times, **cost)
    np.testing.assert_allclose(cgc.runtime(sizes, times, **cost), by_coordinate, **CLOSE)


@given(iterations(), costs)
def test_sorting_redundancies_never_hurts(case, cost):
    _, redundancy, times = case
    as_given = reference.coordinate_runtime(redundancy, times, **cost)
    ascending = reference.coordinate_runtime(np.sort(redundancy), times, **cost)
    assert np.all(ascending <= as_given * (1 + 1e-13))


@given(iterations(), costs, st.sampled_from(["cyclic", "fractional_repetition"]))
def test_runtime_scales_with_times(case, cost, scheme):
    workers, redundancy, times = case
    sizes = block_sizes_from_redundancy(redundancy, workers)
    slower = cgc.runtime(sizes, 8.0 * times, scheme=scheme, **cost)  # a power of two: no rounding
    np.testing.assert_array_equal(slower, 8.0 * cgc.runtime(sizes, times, scheme=scheme, **cost))


def test_runtime_by_hand():
    # T = (1, 3, 10), x = (2, 1, 1), M/N = 2: max(10 * 2, 3 * 4, 1 * 7) * 2
    np.testing.assert_allclose(cgc.runtime([2, 1, 1], [[3.0, 1.0, 10.0]], samples=6), [40.0])
    # with c = 5: max(10 * (2 + 5), 3 * (4 + 10), 1 * (7 + 15)) * 2
    np.testing.assert_allclose(cgc.runtime([2, 1, 1], [3.0, 1.0, 10.0], samples=6, forward_cycles=5), [140.0])
    # an empty level costs nothing, even if its worker never comes
    np.testing.assert_allclose(
        cgc.runtime([0, 1, 1], [3.0, 1.0, np.inf], samples=3, forward_cycles=5), [36.0]
    )
    assert cgc.runtime([1, 1, 1], [3.0, 1.0, np.inf])[0] == np.inf


def brute_force_repetition(sizes, times, cost):
    """Runtime of fractional repetition from its definition, samples as many small pieces of a line."""
    workers, pieces = len(sizes), 5040  # all g <= 7 divide
    latest = 0.0
    merged = {}
    for level, size in enumerate(sizes):
        groups = workers // (level + 1)
        merged[groups] = merged.get(groups, 0) + size
    touched = [set() for _ in range(workers)]
    computed = np.zeros(workers)
    for groups, size in merged.items():
        if size == 0:
            continue
        done = [np.inf] * groups
        for worker in range(workers):
            group = worker * groups // workers
            touched[worker] |= set(range(group * pieces // groups, (group + 1) * pieces // groups))
            computed[worker] += size / groups
            cycles = cost.cycles_per_derivative * computed[worker]
            cycles += cost.forward_cycles * len(touched[worker]) / pieces
            done[group] = min(done[group], cost.samples * cycles * times[worker])
        latest = max(latest, *done)
    return latest


@settings(max_examples=50)
@given(iterations(), costs)
def test_fractional_repetition_by_definition(case, cost):
    workers, redundancy, times = case
    sizes = block_sizes_from_redundancy(redundancy, workers)
    got = cgc.runtime(sizes, times, scheme="fractional_repetition", **cost)
    expected = [brute_force_repetition(sizes, row, Cost(**cost)) for row in times]
    np.testing.assert_allclose(got, expected, **CLOSE)


def test_levels_of_fractional_repetition():
    levels = FractionalRepetitionLevels(10)
    np.testing.assert_array_equal(levels.groups, [10, 5, 3, 2, 1])
    np.testing.assert_array_equal(levels.redundancies, [0, 1, 2, 4, 9])
    np.testing.assert_allclose(levels.work, [1, 2, 10 / 3, 5, 10])
    # Level 4 is a half of the samples: within 5 parts, but worker 4's thirds reach over the middle.
    np.testing.assert_array_equal(FractionalRepetitionLevels(10, most_parts=5).redundancies, [0, 1, 2])
    np.testing.assert_array_equal(FractionalRepetitionLevels(8, most_parts=4).redundancies, [0, 1, 3])
    np.testing.assert_array_equal(FractionalRepetitionLevels(8, least=3, most_parts=4).redundancies, [3])


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9))
def test_kernels_are_their_twins(seed, draws, workers):
    generator = np.random.default_rng(seed)
    times = generator.exponential(size=(draws, workers)) + 0.01
    times[generator.random(times.shape) < 0.2] = np.inf
    cycles = generator.random((3, workers)) * (generator.random((3, workers)) < 0.7)
    groups = generator.integers(1, workers + 1, size=3)
    # The same products and comparisons: the same bits.
    np.testing.assert_array_equal(
        _core.level_runtimes(times, cycles[0]), reference.level_runtimes(times, cycles[0])
    )
    np.testing.assert_array_equal(
        _core.group_times(times, groups, cycles), reference.group_times(times, groups, cycles)
    )


def test_kernels_refuse_wrong_arrays():
    times = np.ones((2, 3))
    with pytest.raises(ValueError, match="cycles: expected length 3, got 2"):
        _core.level_runtimes(times, np.ones(2))
    with pytest.raises(ValueError, match="times: expected two dimensions"):
        _core.level_runtimes(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="groups: expected 1 to 3, got 4"):
        _core.group_times(times, np.array([4]), np.ones((1, 3)))
    with pytest.raises(ValueError, match="groups: expected 1 to 3, got 0"):
        _core.group_times(times, np.array([0]), np.ones((1, 3)))
    with pytest.raises(ValueError, match="rows"):
        _core.group_times(times, np.array([1, 2]), np.ones((1, 3)))
    with pytest.raises(TypeError):
        _core.group_times(times, np.array([1.0]), np.ones((1, 3)))


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"cycle_times": [[1.0, 2.0]]}, ArgumentValueError, r"expected shape \(draws, 3\), got \(1, 2\)"),
        ({"cycle_times": [[1.0, np.nan, 2.0]]}, ArgumentValueError, "NaN"),
        ({"cycle_times": [[1.0, 0.0, 2.0]]}, ArgumentValueError, "positive"),
        ({"cycle_times": [["a", "b", "c"]]}, ArgumentTypeError, "numbers"),
        ({"block_sizes": [1, -1, 2]}, ArgumentValueError, "got -1 at level 1"),
        ({"block_sizes": [0, 0, 0]}, ArgumentValueError, "at least one coordinate"),
        ({"samples": 0}, ArgumentValueError, "samples: expected a finite number > 0, got 0"),
        ({"samples": np.inf}, ArgumentValueError, "samples"),
        ({"samples": "50"}, ArgumentTypeError, "samples: expected a finite number > 0, got '50'"),
        ({"cycles_per_derivative": 0.0}, ArgumentValueError, "cycles_per_derivative"),
        ({"forward_cycles": -1.0}, ArgumentValueError, "forward_cycles: expected a finite number >= 0"),
        ({"forward_cycles": np.nan}, ArgumentValueError, "forward_cycles"),
        ({"scheme": "pairs"}, ArgumentValueError, "one of cyclic, fractional_repetition; got 'pairs'"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, match):
    arguments = {"block_sizes": [1, 1, 2], "cycle_times": np.ones((4, 3)), **arguments}
    with pytest.raises(error, match=match):
        cgc.runtime(**arguments)


def test_expected_runtime_of_one_level_is_exact():
    harmonic = 1 / 4 + 1 / 5  # the second fastest of five
    expected = 10 / 5 * (4 * 100 + 4 * 7) * (50 + 1000 * harmonic)
    got = cgc.expected_runtime([0, 0, 0, 100, 0], LAW, samples=10, forward_cycles=7, draws=1)
    np.testing.assert_allclose(got, expected, rtol=1e-14)


def test_expected_runtime_agrees_with_draws():
    sizes = [30, 20, 10, 20, 40]
    draws = LAW.rvs((40_000, 5), random_state=np.random.default_rng(1))
    runtimes = cgc.runtime(sizes, draws, forward_cycles=3)
    got = cgc.expected_runtime(sizes, LAW, forward_cycles=3, draws=40_000, seed=2)
    # 5 standard errors of the difference of two independent means
    assert abs(got - runtimes.mean()) <= 5 * runtimes.std() * np.sqrt(2 / 40_000)


def test_expected_runtime_of_a_trace_is_the_mean_over_its_rows():
    times = np.random.default_rng(0).random((9, 3)) + 0.5
    got = cgc.expected_runtime([3, 2, 1], cgc.Trace(times))
    np.testing.assert_allclose(got, cgc.runtime([3, 2, 1], times).mean(), rtol=1e-14)
    times[4, 1] = np.inf
    assert cgc.expected_runtime([3, 2, 1], cgc.Trace(times)) == np.inf
    assert cgc.expected_runtime([0, 2, 1], cgc.Trace(times)) < np.inf


def test_expected_runtime_knows_infinity():
    heavy = stats.pareto(0.6)  # the mean of T_(n) exists for N - n + 1 >= 2
    assert cgc.expected_runtime([1, 1, 1], heavy, draws=50) == np.inf
    assert cgc.expected_runtime([0, 1, 1], heavy, draws=50) < np.inf
    assert cgc.expected_runtime([1, 1, 1], [LAW, heavy, LAW], draws=50) == np.inf
    assert cgc.expected_runtime([0, 1, 1], [LAW, heavy, LAW], draws=50) < np.inf


def test_draws_come_in_chunks_without_a_change(monkeypatch):
    sizes = [3, 2, 1, 4]
    whole = cgc.expected_runtime(sizes, LAW, draws=1000)
    monkeypatch.setattr("cgc_fast.runtime_model._CHUNK", 4 * 64)
    np.testing.assert_allclose(cgc.expected_runtime(sizes, LAW, draws=1000), whole, rtol=1e-13)
