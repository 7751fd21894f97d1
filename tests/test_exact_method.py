"""The exact method: published optima, certificates, restrictions, properties."""

import itertools

import numpy as np
import pytest
from scipy import stats

import cgc_fast as cgc
from cgc_fast import runtime_search
from cgc_fast.errors import ArgumentValueError
from cgc_fast.exact_method import ExactOptimum
from cgc_fast.partition import round_block_sizes

LAW = stats.expon(loc=50, scale=1000)


# Optima of independent prototypes, in units of 10^7 (M/N) b seconds.
@pytest.mark.parametrize(
    ("workers", "optimum"), [(10, 2.3383), (20, 2.8198), (30, 3.2525), (40, 3.6425), (50, 3.9971)]
)
def test_published_setting(workers, optimum):
    plan = cgc.plan(workers, 20_000, LAW, samples=workers)
    assert plan.method == "exact"
    assert plan.expected_runtime_standard_error == 0
    assert plan.expected_runtime / 1e7 == pytest.approx(optimum, abs=5e-5)
    assert plan.relaxed_gap <= 1e-6
    # Rounding costs about 1e-7 at 20,000 coordinates.
    assert plan.relative_gap <= 2e-6
    assert plan.lower_bound <= plan.expected_runtime


@pytest.mark.parametrize(
    "law",
    [
        stats.expon(),
        stats.expon(loc=1000, scale=1000),
        stats.pareto(2.5),
        stats.pareto(0.8),
        stats.weibull_min(0.5),
        stats.lognorm(1.0),
        stats.gamma(0.7),
        stats.norm(10, 0.5),
    ],
    ids=lambda law: law.dist.name,
)
@pytest.mark.parametrize("workers", [2, 13])
def test_every_law_is_certified(law, workers):
    if law.cdf(0.0) > 0:
        law = stats.truncnorm(-10, np.inf, loc=10, scale=0.5)
    plan = cgc.plan(workers, 20_000, law, method="exact")
    assert plan.relaxed_gap <= 1e-6
    for method in ("mean_time", "single_level"):
        other = cgc.plan(workers, 20_000, law, method=method)
        # Of the integers; rounding may cost the relative gap.
        assert plan.expected_runtime <= other.expected_runtime * (1 + plan.relative_gap)
        assert other.expected_runtime >= plan.lower_bound


def test_levels_without_a_mean_stay_empty():
    plan = cgc.plan(10, 5000, stats.pareto(0.4), method="exact")
    # T_(10-n) falls as t^(-0.4 (n+1)): finite from n = 2.
    assert not plan.block_sizes[:2].any()
    assert np.isfinite(plan.expected_runtime)


def test_restrictions_hold_and_never_help():
    free = cgc.plan(12, 5000, LAW, method="exact")
    for restriction, allowed in (({"min_redundancy": 3}, slice(3, 12)), ({"max_parts": 4}, slice(0, 4))):
        plan = cgc.plan(12, 5000, LAW, method="exact", **restriction)
        assert plan.block_sizes[allowed].sum() == 5000
        assert plan.relaxed_gap <= 1e-6
        assert plan.lower_bound >= free.lower_bound * (1 - 1e-6)


def test_scaling_and_repeating():
    one = cgc.plan(8, 1000, LAW, method="exact")
    again = cgc.plan(8, 1000, LAW, method="exact", seed=5)
    np.testing.assert_array_equal(one.relaxed_block_sizes, again.relaxed_block_sizes)
    scaled = cgc.plan(8, 1000, stats.expon(loc=100, scale=2000), method="exact", samples=3)
    assert scaled.expected_runtime == pytest.approx(6 * one.expected_runtime, rel=1e-6)


def test_with_forward_passes_exact_is_one_proposal_of_many():
    plan = cgc.plan(20, 1000, LAW, forward_cycles=1000.0, draws=2000)
    assert plan.method == "single_level"
    assert plan.relative_gap is None
    ignorant = cgc.plan(20, 1000, LAW, forward_cycles=1000.0, method="exact")
    assert ignorant.lower_bound is None
    assert ignorant.expected_runtime > plan.expected_runtime


def test_a_missed_certificate_warns(monkeypatch):
    def early(distribution, start, allowed, cost):
        return ExactOptimum(start, 1.1, 1.0, 0.1, 0, np.zeros(len(start)), np.zeros((len(start),) * 2))

    monkeypatch.setattr(runtime_search, "minimise_exactly", early)
    with pytest.warns(cgc.NotCertified, match=r"gap 0\.1 "):
        assert cgc.plan(3, 100, LAW, method="exact").relaxed_gap == 0.1


def test_where_it_does_not_apply():
    for cycle_time in ([LAW] * 4, cgc.Trace(np.ones((3, 4)))):
        with pytest.raises(ArgumentValueError, match="method exact: expected the scheme cyclic"):
            cgc.plan(4, 100, cycle_time, method="exact")
    with pytest.raises(ArgumentValueError, match="fractional_repetition"):
        cgc.plan(4, 100, LAW, scheme="fractional_repetition", method="exact")


@pytest.mark.parametrize(("workers", "coordinates"), [(4, 30), (20, 100), (20, 2000)])
def test_the_rounding_is_no_worse_than_cumulative_rounding(workers, coordinates):
    law = stats.expon(loc=50, scale=1000)
    plan = cgc.plan(workers, coordinates, law, method="exact")
    cumulative = round_block_sizes(plan.relaxed_block_sizes, coordinates)
    assert plan.block_sizes.sum() == coordinates
    assert plan.expected_runtime <= cgc.expected_runtime(cumulative, law) * (1 + 1e-12)
    # No single coordinate is better off elsewhere: the quadratic model is good to a few percent here.
    if workers == 4:
        for i, j in itertools.permutations(range(workers), 2):
            if plan.block_sizes[i] > 0:
                moved = plan.block_sizes.copy()
                moved[i] -= 1
                moved[j] += 1
                assert cgc.expected_runtime(moved, law) >= plan.expected_runtime * (1 - 1e-4)
