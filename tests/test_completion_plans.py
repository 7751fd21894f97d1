"""Plans for the largest completion probability: published points, certificates, properties, refusals."""

import csv
import decimal
from fractions import Fraction
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from typer.testing import CliRunner

import cgc_fast as cgc
from cgc_fast import _core, completion_search, reference
from cgc_fast.arguments import Cost
from cgc_fast.cli import app
from cgc_fast.closed_forms import large_threshold_block_sizes
from cgc_fast.completion_search import METHODS, tail_power
from cgc_fast.deadlines import smallest_threshold
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError
from cgc_fast.exact_completion import (
    Climb,
    CompletionOptimum,
    has_log_concave_rate,
    log_odds,
    maximise_completion,
)
from cgc_fast.exact_runtime import ExactRuntime, level_cycles
from cgc_fast.levels import make_levels
from cgc_fast.straggler_models import IdenticalLaw, as_straggler_model

PUBLISHED = stats.expon(loc=1, scale=10)
CERTIFIED = stats.expon(loc=10, scale=10)
# With mean 11 and L = 600, M = N = 6: uncoded takes some 6 * 600 * 25 / 6 seconds.
SMALL = {"workers": 6, "coordinates": 600, "cycle_time": PUBLISHED, "samples": 6, "threshold": 15_000.0}


def make(**keywords):
    keywords = {**SMALL, "draws": 2000, **keywords}
    if isinstance(keywords["cycle_time"], cgc.Trace):
        keywords["workers"] = keywords["cycle_time"].workers
    return cgc.plan(objective="completion_probability", **keywords)


def odds(plan):
    return log_odds(plan.completion_report.probability, plan.completion_report.failure_probability)


# --- published points ---


def published(figure):
    text = (resources.files("cgc_fast") / "data" / "reference" / f"{figure}.csv").read_text()
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


@pytest.mark.parametrize(
    ("workers", "failure", "digits"),
    # Of independent prototypes, to the digits given.
    [
        (10, 1 - 0.7456, 5e-5),
        (20, 1 - 0.99070, 5e-6),
        (30, 1 - 0.999903, 5e-7),
        (40, 4.8e-7, 5e-9),
        (50, 1.41e-9, 5e-12),
    ],
)
def test_published_setting(workers, failure, digits):
    plan = make(workers=workers, coordinates=40_000, samples=50, threshold=10**6.5)
    assert plan.method == "exact"
    assert plan.completion_report.failure_probability == pytest.approx(failure, abs=digits)
    assert plan.failure_probability(10**6.5) == plan.completion_report.failure_probability
    assert plan.completion_probability(10**6.5) == plan.completion_report.probability
    (row,) = (r for r in published("completion_probability_vs_workers") if int(r["workers"]) == workers)
    assert plan.completion_report.probability > float(row["stationary_point"])


@pytest.mark.parametrize(
    "row", published("completion_probability_vs_threshold"), ids=lambda row: row["log10_t"]
)
def test_published_thresholds(row):
    plan = make(workers=20, coordinates=40_000, samples=50, threshold=10 ** float(row["log10_t"]))
    assert plan.completion_report.probability > float(row["stationary_point"])


# --- small failure probabilities ---


@pytest.mark.parametrize("threshold", [12_000, 40_000, 90_000, 180_000])
def test_failure_probabilities_have_six_digits(threshold):
    plan = make(threshold=threshold)
    sums = np.cumsum(np.arange(1, 7) * plan.block_sizes)
    # 1 - exp(-(a - 1) / 10) in 60 digits, with a = t / W_n (here M = N, so that (M/N) b = 1).
    with decimal.localcontext(decimal.Context(prec=60)):
        bounds = []
        for n in reversed(range(6)):
            late = (-(decimal.Decimal(threshold) / int(sums[n]) - 1) / 10).exp() if sums[n] else 0
            bounds.append(1 - Fraction(late))
    failure = float(1 - reference.boundary_crossing_exactly(bounds))
    assert plan.failure_probability(threshold) == pytest.approx(failure, rel=1e-6, abs=0)
    assert plan.completion_report.failure_probability == pytest.approx(failure, rel=1e-6, abs=0)


def test_some_of_them_were_small():
    assert 1e-6 < make(threshold=40_000).completion_report.failure_probability < 1e-2
    assert make(threshold=180_000).completion_report.failure_probability < 1e-12


# --- derivatives ---


@pytest.mark.parametrize("forward_cycles", [0.0, 20.0])
@pytest.mark.parametrize(
    ("law", "threshold"),
    [
        (PUBLISHED, 9e3),
        (PUBLISHED, 6e4),
        (stats.weibull_min(0.6), 1e4),
        (stats.pareto(1.2), 4e3),
        (cgc.Mixture([stats.expon(loc=1), stats.gamma(3, loc=2)], [0.7, 0.3]), 4e3),
    ],
)
def test_derivatives_of_the_log_odds(law, threshold, forward_cycles):
    workers, total = 7, 600.0
    climb = Climb(ExactRuntime(IdenticalLaw(law, workers)), threshold, total, Cost(6, 1.0, forward_cycles))
    shares = np.array([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
    used = np.ones(workers, dtype=bool)

    def value(shares):
        return -log_odds(*climb.probabilities(total * shares, used))

    def derivatives(shares):
        return climb._derivatives(total * shares, used)[2:]

    gradient, hessian = derivatives(shares)
    # Central differences: truncation about step^2 = 1e-10, rounding about 1e-13 / 1e-5 = 1e-8.
    step = 1e-5
    for i, unit in enumerate(step * np.eye(workers)):
        slope = (value(shares + unit) - value(shares - unit)) / (2 * step)
        assert slope == pytest.approx(gradient[i], rel=1e-6, abs=1e-7 * abs(gradient).max())
        column = (derivatives(shares + unit)[0] - derivatives(shares - unit)[0]) / (2 * step)
        np.testing.assert_allclose(column, hessian[i], rtol=1e-4, atol=1e-5 * abs(hessian).max())


def test_log_probability_and_log_failure_by_finite_differences():
    distribution = ExactRuntime(IdenticalLaw(PUBLISHED, 6))
    cycles = level_cycles(np.full(6, 100.0), Cost(6))
    for time in (9e3, 1e5):  # P is about 0.1, and 1 - P about 1e-5
        found = distribution.completion(time, cycles)
        for n in range(6):
            factor = np.ones(6)
            factor[n] = np.exp(1e-5)
            up = distribution.completion(time, cycles * factor)
            down = distribution.completion(time, cycles / factor)
            for name, sign in (("inside", 1.0), ("failure", -1.0)):
                slope = np.log(getattr(up, name) / getattr(down, name)) / 2e-5
                exact = sign * found.gradient[n] / getattr(found, name)
                assert slope == pytest.approx(exact, rel=1e-6, abs=1e-8)


def test_derivatives_in_the_far_tail_against_rational_numbers():
    # Bounds so close to 1 that paths which just miss one are far from typical. Complements, for their digits.
    complements = np.array([0.7**k for k in range(1, 13)]) ** 4
    bounds = [1 - Fraction(value) for value in complements]
    exact = reference.boundary_crossing_exactly(bounds)
    inside, failure, gradient, _ = _core.BoundaryCrossing(12).second_order(1 - complements, complements)
    assert failure == pytest.approx(float(1 - exact), rel=1e-12)
    assert inside == pytest.approx(float(exact), rel=1e-12)
    for k in range(12):
        step = Fraction(complements[k]) / 10**9
        moved = [*bounds[:k], bounds[k] - step, *bounds[k + 1 :]]
        slope = float((exact - reference.boundary_crossing_exactly(moved)) / step)
        # One-sided, so up to N steps of 1e-9.
        assert gradient[k] == pytest.approx(slope, rel=1e-7)


def test_one_boundary_has_no_other_shape():
    crossing = _core.BoundaryCrossing(3)
    with pytest.raises(ValueError, match="bounds: expected"):
        crossing.second_order(np.array([0.5, 0.4, 1.0]), np.array([0.5, 0.6, 0.0]))
    with pytest.raises(ValueError, match="bounds"):
        crossing.second_order(np.ones(2), np.zeros(2))


# --- certificates ---


@pytest.mark.parametrize(
    ("law", "concave"),
    [
        (stats.expon(10, 10), True),
        (stats.expon(loc=9.9, scale=10), False),
        (stats.expon(), False),
        (stats.pareto(1.0), True),
        (stats.pareto(b=2.5, scale=3), True),
        (stats.pareto(0.9), False),
        (stats.pareto(2, loc=1), False),
        (stats.invgamma(1.5), True),
        (stats.invgamma(0.5), False),
        (stats.invweibull(2.0), True),
        (stats.lognorm(0.1), False),
        (stats.gamma(3), False),
        (stats.weibull_min(2), False),
        (cgc.Never(stats.expon(10, 10), 0.1), False),
        (stats.randint(1, 4), False),
    ],
)
def test_laws_with_a_log_concave_rate(law, concave):
    assert has_log_concave_rate(law) == concave
    if not concave or law.dist.name not in ("expon", "pareto", "invgamma", "invweibull"):
        return
    # The density of V = 1/T is f(1/v) / v^2; its log has no positive second difference.
    low, high = law.ppf(0.999), law.ppf(0.001)
    rates = np.linspace(1 / low, 1 / high, 400)
    log_density = law.logpdf(1 / rates) - 2 * np.log(rates)
    assert np.diff(log_density, 2).max() <= 1e-9


@pytest.mark.parametrize("law", [CERTIFIED, stats.pareto(1.5, scale=10), stats.invgamma(2, scale=20)])
@pytest.mark.parametrize("threshold", [14_000.0, 30_000.0, 80_000.0])
def test_certified_optima(law, threshold):
    plan = make(cycle_time=law, threshold=threshold, method="exact")
    report = plan.completion_report
    assert report.log_gap <= 1e-6 * report.failure_probability
    assert report.upper_bound >= report.probability
    assert report.failure_lower_bound <= report.failure_probability
    # Rounding 600 coordinates.
    assert report.failure_lower_bound == pytest.approx(report.failure_probability, rel=2e-2)
    assert "log-concave" in report.scope
    for name in ("large_threshold", "single_level", "uncoded"):
        if name == "large_threshold" and law is not CERTIFIED:
            continue
        other = make(cycle_time=law, threshold=threshold, method=name).completion_report
        assert other.failure_probability >= report.failure_lower_bound


def test_all_starts_agree_where_it_is_certified():
    distribution = ExactRuntime(IdenticalLaw(CERTIFIED, 9))
    generator = np.random.default_rng(0)
    allowed = np.ones(9, dtype=bool)
    for threshold in (20_000.0, 80_000.0):
        found = [
            maximise_completion(
                distribution, threshold, [600 * generator.dirichlet(np.ones(9))], allowed, Cost(9)
            )
            for _ in range(4)
        ]
        values = [log_odds(end.inside, end.failure) for end in found]
        # Each is within its gap of 1e-6 of the optimum.
        assert max(values) - min(values) <= 1e-6
        assert max(end.odds_gap for end in found) <= 1e-6


def test_a_missed_certificate_warns(monkeypatch):
    def early(distribution, threshold, starts, allowed, cost):
        return CompletionOptimum(starts[0], 0.5, 0.5, 0.1, allowed, len(starts))

    monkeypatch.setattr(completion_search, "maximise_completion", early)
    with pytest.warns(cgc.NotCertified, match=r"0\.1, not 1e-06, after 5 starts"):
        plan = make(cycle_time=CERTIFIED, method="exact")
    assert plan.completion_report.log_gap == pytest.approx(0.05)


def test_heavy_tails_empty_the_lowest_levels():
    # Of index 0.6: the first coordinate of level 0 costs infinitely much, and no start may stay near there.
    distribution = ExactRuntime(IdenticalLaw(stats.pareto(0.6), 20))
    allowed = np.ones(20, dtype=bool)
    found = [
        maximise_completion(distribution, 1e7, [start], allowed, Cost(50))
        for start in (np.full(20, 2000.0), 40_000 * np.eye(20)[0], 40_000 * np.eye(20)[19])
    ]
    values = [log_odds(end.inside, end.failure) for end in found]
    assert max(values) - min(values) <= 1e-5
    for end in found:
        assert end.block_sizes[0] == 0.0
    for level in range(20):
        inside, failure = distribution.probabilities(
            np.array([1e7]), level_cycles(40_000 * np.eye(20)[level], Cost(50))
        )
        assert min(values) > log_odds(inside[0], failure[0])


def test_elsewhere_it_is_the_best_of_its_starts():
    report = make().completion_report
    assert report.scope == "best of 5 starts"
    assert report.upper_bound is None
    assert make(method="stationary").completion_report.scope == "best of the one start"


# --- properties ---

LAWS = [
    PUBLISHED,
    CERTIFIED,
    stats.pareto(0.7),
    stats.lognorm(1.0),
    stats.weibull_min(0.6),
    stats.uniform(1, 2),
    cgc.Never(PUBLISHED, 0.1),
    cgc.Mixture([stats.expon(loc=1), stats.expon(loc=9)], [0.8, 0.2]),
]


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(LAWS),
    st.integers(1, 8),
    st.floats(0.3, 4.0),
    st.sampled_from([0.0, 0.0, 30.0]),
)
def test_the_best_is_never_worse_than_any_other(law, workers, factor, forward_cycles):
    asked = {"cycle_time": law, "workers": workers, "samples": workers, "forward_cycles": forward_cycles}
    asked["threshold"] = factor * 600 * workers * float(law.median())
    plan = make(**asked)
    for level in range(workers):
        sizes = np.zeros(workers)
        sizes[level] = 600
        options = {"samples": workers, "forward_cycles": forward_cycles}
        single = cgc.completion_probability(sizes, law, asked["threshold"], **options)
        assert plan.completion_report.probability >= single * (1 - 1e-12)
    for method in METHODS:
        if method == "large_threshold" and tail_power(law) is None:
            continue
        if method == "exact" or (method == "sample_average" and forward_cycles > 0):
            continue  # what was taken already; as good but slow
        assert odds(plan) >= odds(make(method=method, **asked)) - 1e-9


@pytest.mark.parametrize("law", [PUBLISHED, stats.lognorm(1.0), CERTIFIED])
def test_scaling_times_and_threshold_changes_nothing(law):
    name, shapes = law.dist.name, law.args
    frozen = getattr(stats, name)(*shapes, **{key: 1024 * value for key, value in law.kwds.items()})
    if name == "lognorm":
        frozen = stats.lognorm(*shapes, scale=1024)
    one, other = make(cycle_time=law), make(cycle_time=frozen, threshold=1024 * SMALL["threshold"])
    np.testing.assert_array_equal(one.block_sizes, other.block_sizes)
    assert one.completion_report.probability == pytest.approx(other.completion_report.probability, rel=1e-12)


@pytest.mark.parametrize("law", [CERTIFIED, PUBLISHED])
def test_relaxing_a_restriction_never_hurts(law):
    free = odds(make(cycle_time=law))
    for restrictions in (
        [{"max_parts": parts} for parts in (6, 4, 2, 1)],
        [{"min_redundancy": least} for least in (0, 1, 3)],
        [{"min_block": size} for size in (1, 30, 100, 400)],
        [{"boundaries": cuts} for cuts in (range(601), range(0, 601, 100), [300])],
    ):
        values = [odds(make(cycle_time=law, **restriction)) for restriction in restrictions]
        # What rounding may turn around.
        assert values[0] == pytest.approx(free, abs=1e-6)
        assert np.all(np.diff(values) <= 1e-3)


def test_restrictions_hold():
    plan = make(min_redundancy=1, max_parts=4, min_block=50, boundaries=[100, 260, 400])
    used = np.flatnonzero(plan.block_sizes)
    assert set(used) <= {1, 2, 3}
    assert plan.block_sizes[used].min() >= 50
    assert set(np.cumsum(plan.block_sizes)) <= {0, 100, 260, 400, 600}
    with pytest.raises(ArgumentValueError, match="level 0 is excluded"):
        make(min_redundancy=1, method="uncoded")


def test_the_large_threshold_rule():
    plan = make(method="large_threshold")
    np.testing.assert_allclose(plan.relaxed_block_sizes, large_threshold_block_sizes(6, 600))
    plan = make(method="large_threshold", cycle_time=stats.weibull_min(c=0.5))
    np.testing.assert_allclose(plan.relaxed_block_sizes, large_threshold_block_sizes(6, 600, 0.5))
    for law in (stats.lognorm(1.0), stats.pareto(2.0), cgc.Never(PUBLISHED, 0.1)):
        with pytest.raises(ArgumentValueError, match=r"method large_threshold: .*exponential, gamma"):
            make(method="large_threshold", cycle_time=law)


def test_the_large_threshold_rule_is_right_for_large_thresholds():
    # Its failure exponent is the best: it loses less and less of log(failure).
    ratios = []
    for threshold in (2e4, 1e5, 5e5):
        best = make(threshold=threshold).completion_report.failure_probability
        rule = make(threshold=threshold, method="large_threshold").completion_report.failure_probability
        ratios.append(np.log(rule) / np.log(best))
    assert np.all(np.diff(ratios) > 0)
    assert 0.9 < ratios[-1] <= 1


def test_workers_that_may_never_answer():
    law = cgc.Never(PUBLISHED, 0.1)
    plan = make(cycle_time=law, threshold=60_000.0)
    assert plan.method == "exact"
    assert plan.expected_runtime == np.inf
    assert plan.block_sizes[0] == 0  # all six answer with probability 0.53 only
    drawn = as_straggler_model(law, 6).draw(np.random.default_rng(0), 100_000)
    share = (cgc.runtime(plan.block_sizes, drawn, samples=6) <= 60_000.0).mean()
    error = np.sqrt(share * (1 - share) / 100_000)
    assert abs(plan.completion_report.probability - share) <= 4 * error
    # At most every level's answers come.
    bound = stats.binom.cdf(5, 6, 0.1)
    assert plan.completion_report.probability < bound
    assert plan.completion_probability(np.inf) == pytest.approx(
        stats.binom.cdf(np.flatnonzero(plan.block_sizes)[0], 6, 0.1), rel=1e-12
    )


# --- forward passes ---


@pytest.mark.parametrize("forward_cycles", [6.0, 150.0, 600.0])
def test_forward_passes_are_searched_over_sets(forward_cycles):
    threshold = 20_000.0 + 20 * forward_cycles
    plan = make(workers=4, samples=4, forward_cycles=forward_cycles, threshold=threshold)
    distribution, cost = ExactRuntime(IdenticalLaw(PUBLISHED, 4)), Cost(4, 1.0, forward_cycles)
    climb = Climb(distribution, threshold, 600.0, cost)
    best = -np.inf
    for code in range(1, 16):
        used = np.array([bool(code >> level & 1) for level in range(4)])
        end = climb.ascend(np.full(4, 150.0), used)
        best = max(best, log_odds(end.inside, end.failure))
    # Moves that gain less than 1e-3 are not taken; rounding.
    assert odds(plan) >= best - 5e-3


def test_with_a_certificate_of_the_set():
    plan = make(cycle_time=CERTIFIED, forward_cycles=3.0, threshold=30_000.0)
    report = plan.completion_report
    assert report.upper_bound >= report.probability
    assert "set of levels" in report.scope


def test_dear_forward_passes_leave_one_level():
    plan = make(forward_cycles=60_000.0, threshold=1e6)
    assert np.count_nonzero(plan.block_sizes) == 1


# --- impossible deadlines ---


@pytest.mark.parametrize(
    "method", [None, "exact", "stationary", "single_level", "uncoded", "large_threshold"]
)
def test_an_impossible_deadline_is_answered(method):
    plan = make(threshold=599.0, method=method)
    report = plan.completion_report
    assert report.probability == 0.0
    assert report.failure_probability == 1.0
    assert not report.possible
    assert report.smallest_threshold == pytest.approx(600.0, rel=1e-12)
    assert report.upper_bound == 0.0
    assert "possible from 600 s on" in plan.summary()
    assert "possible from 600 s on" in repr(plan)


def test_the_smallest_threshold_is_the_smallest():
    for extra in ({}, {"min_redundancy": 2}, {"forward_cycles": 40.0}, {"min_block": 500}):
        smallest = make(threshold=1.0, **extra).completion_report.smallest_threshold
        assert make(threshold=smallest * 0.999, **extra).completion_report.probability == 0.0
        above = make(threshold=smallest * 1.01, **extra).completion_report
        assert above.probability > 0.0
        assert above.possible


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.5, 9.0), min_size=1, max_size=5),
    st.sampled_from([0.0, 20.0]),
    st.sampled_from(["cyclic", "fractional_repetition"]),
    st.data(),
)
def test_nothing_completes_before_the_smallest_threshold(times, forward_cycles, scheme, data):
    workers, cost = len(times), Cost(3, 2.0, forward_cycles)
    levels = make_levels(scheme, workers)
    trace = as_straggler_model(cgc.Trace([times]), workers)
    smallest = smallest_threshold(levels, trace, 100, cost)
    weights = data.draw(st.lists(st.floats(0, 1), min_size=workers, max_size=workers)) + np.array([1e-3])
    weights = weights * data.draw(st.lists(st.sampled_from([0, 1]), min_size=workers, max_size=workers))
    sizes = 100 * weights / weights.sum() if weights.any() else 100 * np.eye(workers)[0]
    options = {"samples": 3, "cycles_per_derivative": 2.0, "forward_cycles": forward_cycles, "scheme": scheme}
    assert cgc.runtime(sizes, [times], **options)[0] >= smallest * (1 - 1e-9)
    singles = [cgc.runtime(100 * unit, [times], **options)[0] for unit in np.eye(workers)]
    assert smallest <= min(singles) * (1 + 1e-9)


def test_the_smallest_threshold_is_reached_where_times_are_atoms():
    law = stats.randint(2, 5)
    report = make(cycle_time=law, threshold=1200.0, draws=20_000).completion_report
    assert report.smallest_threshold == 1200.0
    # All six are at their fastest with probability 3^-6.
    assert report.possible
    assert report.probability == pytest.approx(3.0**-6, abs=4 * np.sqrt(3.0**-6 / 20_000))
    assert not make(cycle_time=law, threshold=1199.0).completion_report.possible


# --- samples: traces, laws that differ, atoms, fractional repetition ---


def slow_and_fast(rows=400, seed=0):
    generator = np.random.default_rng(seed)
    return cgc.Trace(generator.gamma(2.0, [1, 1, 2, 3, 4, 8], (rows, 6)) + 0.5)


SAMPLED = [
    [stats.expon(loc=1, scale=4 + 2 * w) for w in range(6)],
    slow_and_fast(),
    stats.randint(1, 40),
]


@pytest.mark.parametrize("cycle_time", SAMPLED, ids=["laws", "trace", "atoms"])
@pytest.mark.parametrize("scheme", ["cyclic", "fractional_repetition"])
def test_sampled_plans_beat_one_level(cycle_time, scheme):
    asked = {"cycle_time": cycle_time, "scheme": scheme, "threshold": 9000.0}
    plan = make(**asked)
    report = plan.completion_report
    assert plan.method == "sample_average"
    assert report.starts >= 5
    for method in ("single_level", "uncoded", "stationary"):
        other = make(method=method, **asked).completion_report
        noise = 4 * np.hypot(report.standard_error, other.standard_error)
        assert report.probability >= other.probability - noise
    assert report.probability > make(method="uncoded", **asked).completion_report.probability
    assert (report.standard_error == 0.0) == isinstance(cycle_time, cgc.Trace)
    assert plan.completion_probability(9000.0) == report.probability
    assert report.hold_out_standard_error > 0
    assert abs(report.hold_out_probability - report.in_sample_probability) <= 0.1
    drawn = as_straggler_model(cycle_time, 6).draw(np.random.default_rng(9), 20_000)
    share = (cgc.runtime(plan.block_sizes, drawn, samples=6, scheme=scheme) <= 9000.0).mean()
    error = np.hypot(report.standard_error, np.sqrt(share * (1 - share) / 20_000))
    assert abs(report.probability - share) <= 4 * error + 1e-12


def test_the_sampled_ascent_comes_close_to_the_exact_optimum():
    exact = make(threshold=20_000.0).completion_report
    sampled = make(threshold=20_000.0, method="sample_average", draws=20_000).completion_report
    # Both scored exactly. The spread of the odds at 20,000 draws, with 1 - P of about 5 %, is some 3 %.
    assert sampled.standard_error == 0.0
    assert exact.failure_probability <= sampled.failure_probability <= 1.1 * exact.failure_probability


def test_what_loses_on_the_hold_out_is_replaced():
    # The second half is another world: all alike, and the first half's block sizes are too slow for it.
    generator = np.random.default_rng(1)
    first = np.where(generator.random((60, 4)) < 0.3, 50.0, 1.0) * generator.uniform(1.0, 1.01, (60, 4))
    second = np.full((60, 4), 3.9)
    plan = make(cycle_time=cgc.Trace(np.vstack((first, second))), samples=4, threshold=2400.0)
    report = plan.completion_report
    assert report.replaced
    assert plan.method == report.one_level
    assert np.count_nonzero(plan.block_sizes) == 1
    assert "replaces" in plan.summary()


def test_censored_traces_are_imputed():
    trace = slow_and_fast()
    limit = np.sort(trace.times, axis=1)[:, 4:5]
    censored = trace.times > limit
    plan = make(cycle_time=cgc.Trace(np.minimum(trace.times, limit), censored), threshold=9000.0)
    full = make(cycle_time=trace, threshold=9000.0)
    # Imputation pools the workers, which differ here, so the two need not agree closely.
    assert abs(plan.completion_report.probability - full.completion_report.probability) < 0.15
    # The same, from other imputations.
    again = plan.completion_probability(9000.0)
    assert again == pytest.approx(plan.completion_report.probability, abs=0.02)


def test_a_trace_of_one_iteration():
    plan = make(cycle_time=cgc.Trace([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]), threshold=1e4)
    assert plan.completion_report.probability == 1.0
    assert plan.completion_report.hold_out_probability is None


def test_a_trace_with_silent_workers():
    times = np.ones((40, 6))
    times[::2, 3] = np.inf
    plan = make(cycle_time=cgc.Trace(times), threshold=1300.0)
    assert plan.completion_report.probability == 1.0
    assert plan.block_sizes[0] == 0


# --- refusals, saving, commands ---


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"threshold": None}, ArgumentValueError, "threshold: expected seconds > 0 for the objective"),
        ({"threshold": 0.0}, ArgumentValueError, "threshold: expected a finite number > 0"),
        ({"threshold": np.inf}, ArgumentValueError, "threshold: expected a finite number > 0"),
        ({"threshold": np.nan}, ArgumentValueError, "threshold: expected a finite number > 0"),
        ({"threshold": "soon"}, ArgumentTypeError, "threshold: expected a finite number > 0"),
        (
            {"method": "mean_time"},
            ArgumentValueError,
            "method: expected one of exact, large_threshold, sample_average, single_level, stationary, "
            "uncoded; got 'mean_time' for the objective completion_probability",
        ),
        ({"method": "exact", "scheme": "fractional_repetition"}, ArgumentValueError, "use sample_average"),
        ({"method": "exact", "cycle_time": slow_and_fast()}, ArgumentValueError, "use sample_average"),
        ({"method": "exact", "cycle_time": stats.randint(1, 9)}, ArgumentValueError, "has a density"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        make(**arguments)


def test_the_expected_runtime_takes_no_threshold():
    with pytest.raises(
        ArgumentValueError, match="threshold: expected None for the objective expected_runtime"
    ):
        cgc.plan(3, 10, PUBLISHED, threshold=3.0)
    with pytest.raises(
        ArgumentValueError, match=r"method: .*got 'stationary' for the objective expected_runtime"
    ):
        cgc.plan(3, 10, PUBLISHED, method="stationary")


@pytest.mark.parametrize("options", [{}, {"cycle_time": slow_and_fast()}, {"threshold": 1.0}])
def test_a_plan_comes_back_exactly(tmp_path, options):
    plan = make(**options)
    plan.save(tmp_path / "plan.json")
    loaded = cgc.Plan.load(tmp_path / "plan.json")
    assert loaded.completion_report == plan.completion_report
    assert loaded.objective == "completion_probability"
    assert loaded.parameters == plan.parameters
    assert loaded.summary() == plan.summary()
    assert (loaded.lower_bound, loaded.relative_gap, loaded.relaxed_gap) == (None, None, None)


def test_plans_of_before_have_no_such_report(tmp_path):
    import json

    form = cgc.plan(3, 10, PUBLISHED, method="mean_time").to_dict()
    del form["completion_report"]
    (tmp_path / "plan.json").write_text(json.dumps(form))
    assert cgc.Plan.load(tmp_path / "plan.json").completion_report is None


def test_plot_names_the_probability():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plan = make()
    assert plan.completion_report.text() in plan.plot().get_title()
    plt.close("all")


def test_the_command(tmp_path):
    options = ("plan", "--workers", "6", "--coordinates", "600", "--cycle-time", "expon(loc=1, scale=10)")
    options += ("--samples", "6", "--objective", "completion_probability")
    result = CliRunner().invoke(app, [*options, "--threshold", "15000", "--save", str(tmp_path / "p.json")])
    assert result.exit_code == 0, result.output
    assert make().completion_report.text() in result.stdout
    assert cgc.Plan.load(tmp_path / "p.json").completion_report == make().completion_report
    result = CliRunner().invoke(app, [*options])
    assert result.exit_code == 2
    assert "threshold" in result.output
