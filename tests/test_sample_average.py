"""The sample average: its kernel, its minimum against a linear program, plans from it, smallest blocks."""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

import cgc_fast as cgc
from cgc_fast import _core, reference, sample_average
from cgc_fast.errors import ArgumentValueError
from cgc_fast.levels import make_levels
from cgc_fast.sample_average import SampleAverage
from cgc_fast.sampled_plans import SampleReport

LAW = stats.expon(loc=50, scale=1000)
SCHEMES = ["cyclic", "fractional_repetition"]


def problem_of(scheme="cyclic", workers=8, draws=300, law=LAW, forward=0.0, seed=0):
    levels = make_levels(scheme, workers)
    times = law.rvs((draws, workers), random_state=seed).astype(float)
    return SampleAverage(levels.statistics(times), levels.work, forward)


def optimum(problem, used=None, least=0.0):
    """Oracle: all draws at once as one linear program in (x, tau), tau_d >= R_dk (W_k + phi work_k)."""
    statistics, work = problem.statistics, problem.work
    draws, levels = statistics.shape
    used = np.ones(levels, dtype=bool) if used is None else used
    rows, sides = [], []
    for k in np.flatnonzero(used):
        prefix = work * (np.arange(levels) <= k)
        rows.append(np.hstack((np.outer(statistics[:, k], prefix), -np.eye(draws))))
        sides.append(-statistics[:, k] * problem.forward * work[k])
    result = optimize.linprog(
        np.concatenate((np.zeros(levels), np.full(draws, 1 / draws))),
        A_ub=np.vstack(rows),
        b_ub=np.concatenate(sides),
        A_eq=np.concatenate((np.ones(levels), np.zeros(draws)))[None],
        b_eq=[1.0],
        bounds=[(least, None) if u else (0, 0) for u in used] + [(0, None)] * draws,
        method="highs",
    )
    assert result.status == 0
    return result.fun


# --- kernel ---


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32))
def test_mean_maximum_is_its_twin(draws, levels, seed):
    generator = np.random.default_rng(seed)
    times = generator.exponential(size=(draws, levels)) + 0.1
    cycles = generator.random(levels) * (generator.random(levels) < 0.7)
    cycles[generator.integers(levels)] = 1.0
    times[:, cycles == 0] = np.inf
    mass = np.empty(levels)
    value = _core.mean_maximum(times, cycles, mass)
    expected, expected_mass = reference.mean_maximum(times, cycles)
    # Sums of at most 40 positive numbers, each with a few roundings.
    assert value == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(mass, expected_mass, rtol=1e-13)
    assert value == pytest.approx(mass @ cycles, rel=1e-13)


def test_the_mass_is_the_gradient():
    generator = np.random.default_rng(1)
    times, cycles, mass = generator.exponential(size=(50, 4)), np.array([1.0, 2.0, 3.0, 4.0]), np.empty(4)
    value = _core.mean_maximum(times, cycles, mass)
    gradient = mass.copy()
    for k in range(4):
        step = np.where(np.arange(4) == k, 1e-7, 0.0)
        # Piecewise linear: exact but for rounding, as long as no maximum changes within the step.
        assert (_core.mean_maximum(times, cycles + step, mass) - value) / 1e-7 == pytest.approx(
            gradient[k], abs=1e-6
        )


@pytest.mark.parametrize(
    ("times", "cycles", "mass", "match"),
    [
        (np.ones((2, 3)), np.ones(2), np.empty(3), "cycles: expected length 3, got 2"),
        (np.ones((2, 3)), np.ones(3), np.empty(2), "mass: expected length 3, got 2"),
        (np.ones((0, 3)), np.ones(3), np.empty(3), "at least one row"),
        (np.ones((2, 3)), np.zeros(3), np.empty(3), "cycles: expected a positive entry"),
    ],
)
def test_the_kernel_refuses(times, cycles, mass, match):
    with pytest.raises(ArgumentValueError, match=match):
        _core.mean_maximum(times, cycles, mass)


# --- minimum ---


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("law", [LAW, stats.expon(1000, 1000), stats.lognorm(1.5), stats.randint(1, 9)])
@pytest.mark.parametrize("forward", [0.0, 0.1])
def test_the_minimum_is_the_linear_programs(scheme, law, forward):
    problem = problem_of(scheme, law=law, forward=forward)
    minimum, best = problem.minimise(), optimum(problem)
    assert minimum.shares.min() >= 0
    assert minimum.shares.sum() == pytest.approx(1)
    assert minimum.gap <= sample_average.GAP
    # HiGHS is exact to 1e-7 of numbers of the size of the optimum.
    assert minimum.lower_bound <= best * (1 + 1e-6)
    assert minimum.value >= best * (1 - 1e-6)


def test_a_smaller_gap_is_reached_when_asked_for():
    problem = problem_of()
    minimum = problem.minimise(gap=1e-6)
    assert minimum.gap <= 1e-6
    assert minimum.value == pytest.approx(optimum(problem), rel=2e-6)


@settings(max_examples=20)
@given(st.lists(st.booleans(), min_size=6, max_size=6).filter(any), st.floats(0, 0.16), st.floats(0, 1))
def test_sets_of_levels_and_least_shares(used, least, forward):
    used = np.array(used)
    problem = problem_of(workers=6, draws=60, forward=forward)
    minimum = problem.minimise(used, least=least)
    assert minimum.gap <= sample_average.GAP
    assert minimum.shares[used].min() >= least
    assert not minimum.shares[~used].any()
    best = optimum(problem, used, least)
    assert minimum.lower_bound <= best * (1 + 1e-6)
    assert minimum.value >= best * (1 - 1e-6)


def test_cuts_found_for_one_set_do_not_spoil_another():
    problem = problem_of(forward=0.3)
    whole = problem.minimise()
    few = np.isin(np.arange(8), (0, 7))
    assert problem.minimise(few).value == pytest.approx(optimum(problem, few), rel=2e-4)
    assert problem.minimise().value == pytest.approx(whole.value, rel=2e-4)


def test_any_point_is_above_the_bound():
    problem = problem_of(draws=1000)
    bound = problem.minimise().lower_bound
    generator = np.random.default_rng(0)
    everything = np.ones(8, dtype=bool)
    assert all(problem.evaluate(generator.dirichlet(np.ones(8)), everything) >= bound for _ in range(200))


# --- plans ---


def plan(workers=6, coordinates=1000, cycle_time=LAW, method="sample_average", draws=2000, **keywords):
    return cgc.plan(workers, coordinates, cycle_time, method=method, draws=draws, **keywords)


PER_WORKER = [stats.expon(50, 300 * (1 + w)) for w in range(6)]
TRACE = cgc.Trace(np.random.default_rng(0).pareto(1.5, (400, 6)) + 1)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("cycle_time", [LAW, PER_WORKER, TRACE])
def test_the_certificate_of_a_plan(scheme, cycle_time):
    made = plan(cycle_time=cycle_time, scheme=scheme, samples=30)
    report = made.sample_report
    assert 0 <= made.relaxed_gap <= 1e-4
    runtime = made.expected_runtime if cycle_time is TRACE else report.in_sample_runtime
    assert made.relative_gap == pytest.approx(runtime / made.lower_bound - 1, abs=1e-12)
    assert made.relative_gap >= 0
    assert report.scope == "all levels allowed"
    assert not report.replaced
    assert report.hold_out_runtime < report.one_level_hold_out_runtime
    assert report.hold_out_standard_error > 0
    if cycle_time is TRACE:
        first, second = TRACE.times[:200], TRACE.times[200:]
        half = plan(cycle_time=cgc.Trace(first), scheme=scheme, samples=30)
        # Two optima of one sample, each within its gap and its rounding.
        assert report.in_sample_runtime == pytest.approx(half.expected_runtime, rel=1e-3)
        runtimes = cgc.runtime(half.block_sizes, second, samples=30, scheme=scheme)
        error = runtimes.std(ddof=1) / np.sqrt(200)
        assert abs(report.hold_out_runtime - runtimes.mean()) <= 0.2 * error
        assert report.hold_out_standard_error == pytest.approx(error, rel=0.1)
    else:
        error = np.hypot(report.hold_out_standard_error, made.expected_runtime_standard_error)
        assert abs(report.hold_out_runtime - made.expected_runtime) <= 5 * error


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("cycle_time", [PER_WORKER, TRACE])
def test_no_other_method_is_better_on_the_sample(scheme, cycle_time):
    best = plan(cycle_time=cycle_time, scheme=scheme)
    for method in ("subgradient", "mean_time", "single_level"):
        other = plan(cycle_time=cycle_time, scheme=scheme, method=method)
        if cycle_time is TRACE:
            assert other.expected_runtime >= best.lower_bound
            assert best.expected_runtime <= (1 + 1e-3) * other.expected_runtime  # the gap and rounding
            continue
        error = np.hypot(best.expected_runtime_standard_error, other.expected_runtime_standard_error)
        # Both are scored on the same draws; fitted ones may lose what the sample does not tell.
        assert best.expected_runtime <= 1.01 * other.expected_runtime + 3 * error


def test_published_optimum():
    # True optimum 2.8198e7 seconds per (M/N) b; the sample's scatters around it by its standard error.
    made = plan(20, 20_000, LAW, draws=20_000, samples=20)
    report = made.sample_report
    assert made.relaxed_gap <= 1e-4
    assert made.lower_bound <= 2.8198e7 + 4 * report.hold_out_standard_error
    assert abs(report.hold_out_runtime - 2.8198e7) <= 4 * report.hold_out_standard_error


def test_a_plan_that_loses_on_the_hold_out_is_replaced():
    # The first half has stragglers, the second none: coding pays in the first only.
    times = np.ones((400, 6))
    times[:200] = np.random.default_rng(0).exponential(1000, (200, 6)) + 1
    made = plan(cycle_time=cgc.Trace(times))
    assert made.method == "uncoded"
    assert made.sample_report.replaced
    assert made.sample_report.one_level == "uncoded"
    assert made.sample_report.hold_out_runtime == made.sample_report.one_level_hold_out_runtime
    np.testing.assert_array_equal(made.block_sizes, [1000, 0, 0, 0, 0, 0])
    assert made.relative_gap > 0.1  # of uncoded, on all rows


@pytest.mark.parametrize("forward_cycles", [0.0, 100.0])
def test_the_best_for_a_trace_is_chosen_on_its_second_half(forward_cycles):
    # On all rows the block plans of every method are better than uncoded; in the second half they lose.
    times = np.ones((400, 6))
    times[:200] = np.random.default_rng(0).exponential(1000, (200, 6)) + 1
    trace = cgc.Trace(times)
    made = plan(method=None, cycle_time=trace, forward_cycles=forward_cycles)
    report = made.sample_report
    assert (made.method, report.chosen, report.replaced) == ("uncoded", "uncoded", True)
    np.testing.assert_array_equal(made.block_sizes, [1000, 0, 0, 0, 0, 0])
    blocks = plan(method="mean_time", cycle_time=trace, forward_cycles=forward_cycles)
    assert blocks.expected_runtime < made.expected_runtime
    assert "uncoded replaces the optimum" in made.summary()


def test_another_method_wins_where_the_optimum_fits_noise():
    # Five iterations to learn from: the sampled optimum for 12 workers fits them, mean times fit less.
    replaced = 0
    for seed in range(12):
        times = LAW.rvs(size=(10, 12), random_state=np.random.default_rng(seed))
        made = plan(12, 1000, cgc.Trace(times), method=None)
        report = made.sample_report
        assert made.method == report.chosen
        assert report.replaced == (report.chosen != "sample_average")
        if report.chosen in ("mean_time", "mean_rate", "subgradient"):
            replaced += 1
            # Made anew from all rows, with the certificate of the sampled problem.
            again = plan(12, 1000, cgc.Trace(times), method=report.chosen)
            np.testing.assert_array_equal(again.block_sizes, made.block_sizes)
            assert made.lower_bound * (1 + made.relative_gap) == pytest.approx(made.expected_runtime)
    assert replaced


def test_the_choice_for_a_trace_respects_min_block():
    made = plan(method=None, cycle_time=TRACE, min_block=50)
    assert made.block_sizes[made.block_sizes > 0].min() >= 50


def test_a_trace_of_one_iteration_has_no_hold_out():
    made = plan(cycle_time=cgc.Trace([[1.0, 2, 3, 4, 5, 60]]))
    assert made.sample_report.hold_out_draws == 0
    assert made.sample_report.hold_out_runtime is None
    assert plan(cycle_time=cgc.Trace(TRACE.times[:2])).sample_report.hold_out_standard_error is None


def test_the_best_uses_the_sample_average_where_nothing_is_exact():
    for keywords in ({"cycle_time": PER_WORKER}, {"scheme": "fractional_repetition", "workers": 20}):
        made = plan(method=None, draws=20_000, **keywords)
        assert made.method == "sample_average"
        assert made.relaxed_gap <= 1e-4


def test_a_plan_with_its_report_comes_back(tmp_path):
    made = plan()
    made.save(tmp_path / "plan.json")
    again = cgc.Plan.load(tmp_path / "plan.json")
    assert again.sample_report == made.sample_report
    older = made.sample_report.to_dict()
    del older["chosen"]
    assert SampleReport.from_dict(older) == made.sample_report
    assert SampleReport.from_dict({**older, "replaced": True}).chosen == made.sample_report.one_level
    assert again.relaxed_gap == made.relaxed_gap


def test_a_missed_certificate_is_told(monkeypatch):
    monkeypatch.setattr(sample_average, "ITERATIONS", 1)
    with pytest.warns(cgc.NotCertified, match="the gap of the real block sizes is"):
        made = plan(workers=12)
    assert made.relaxed_gap > 1e-4
    with warnings.catch_warnings():  # one level needs no iterations
        warnings.simplefilter("error")
        plan(max_parts=1)


# --- smallest blocks ---


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("forward_cycles", [0.0, 20.0])
def test_a_smaller_least_block_never_hurts(scheme, forward_cycles):
    values = []
    for least in (1, 20, 60, 150, 334, 501, 1000):
        made = plan(8, min_block=least, scheme=scheme, forward_cycles=forward_cycles)
        blocks = made.block_sizes[made.block_sizes > 0]
        assert blocks.min() >= least
        assert blocks.sum() == 1000
        assert made.parameters["min_block"] == least
        values.append(made.sample_report.in_sample_runtime)
    # Each is within 1e-4 of the best of its sets; rounding to integers costs up to N^2 / L more where
    # blocks are free to move.
    for looser, tighter in itertools.pairwise(values):
        assert looser <= tighter * (1 + 1e-3)
    assert values[0] < values[-1]


@pytest.mark.parametrize("method", [None, "mean_time", "mean_rate", "subgradient", "single_level", "uncoded"])
def test_every_method_respects_the_least_block(method):
    values = []
    for least in (30, 200, 1000):
        made = plan(method=method, min_block=least)
        assert made.block_sizes[made.block_sizes > 0].min() >= least
        values.append(made.expected_runtime)
    # Fewer sets to choose from, scored on the same draws.
    assert values == sorted(values)


def test_least_blocks_and_boundaries():
    made = plan(min_block=200, boundaries=[100, 250, 900])
    assert set(np.cumsum(made.block_sizes)) <= {0, 100, 250, 900, 1000}
    assert made.block_sizes[made.block_sizes > 0].min() >= 200


def test_looser_limits_never_hurt():
    def bound(**limits):
        made = plan(8, **limits)
        return made.lower_bound, made.sample_report.in_sample_runtime

    free, parts, redundancy = bound(), bound(max_parts=4), bound(min_redundancy=2)
    for tighter in (parts, redundancy):
        assert free[0] <= tighter[1]
        assert free[1] <= tighter[1] * (1 + 2e-4)
