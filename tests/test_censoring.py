"""Censored traces: the survival curve, imputation, and plans that come near those of the complete data."""

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import cgc_fast as cgc
from cgc_fast.censoring import complete, impute, survival_curve
from cgc_fast.errors import ArgumentValueError
from cgc_fast.straggler_models import IdenticalLaw

LAW = stats.expon(loc=50, scale=1000)


def stopped(times, answers):
    """What a master sees that stops each iteration when so many workers have answered."""
    last = np.sort(times, axis=1)[:, answers - 1, None]
    return cgc.Trace(np.minimum(times, last), censored=times > last)


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=30))
def test_the_curve_is_the_product_limit_estimate(entries):
    times = np.array([float(t) for t, _ in entries])
    censored = np.array([c for _, c in entries])
    if censored.all():
        with pytest.raises(ArgumentValueError, match="every entry of the trace is censored"):
            survival_curve(times, censored)
        return
    curve = survival_curve(times, censored)
    expected = stats.ecdf(stats.CensoredData.right_censored(times, censored)).sf
    np.testing.assert_allclose(curve.survival, expected.evaluate(curve.times), atol=1e-12)


def test_draws_beyond_a_bound_follow_the_curve():
    # P[T > 1] = 3/4, P[T > 2] = 1/2, P[T > 3] = 1/4, P[T > 4] = 0.
    curve = survival_curve(np.array([1.0, 2, 3, 4]), np.zeros(4, dtype=bool))
    drawn = curve.draw_beyond(np.full(40_000, 2.0), np.random.default_rng(0))
    assert set(drawn) == {3.0, 4.0}
    assert abs((drawn == 3).mean() - 0.5) <= 4 * 0.5 / np.sqrt(40_000)
    assert set(curve.draw_beyond(np.full(50, 3.5), np.random.default_rng(0))) == {4.0}


def test_the_tail_is_exponential():
    generator = np.random.default_rng(0)
    times = generator.exponential(100.0, 4000)
    curve = survival_curve(np.minimum(times, 150.0), times > 150.0)
    # The mean excess rests on 50 observations: 1 / sqrt(50) relative, times 4.
    assert curve.tail_scale == pytest.approx(100, rel=4 / np.sqrt(50))
    drawn = curve.draw_beyond(np.full(20_000, 150.0), generator)
    assert drawn.min() >= 150
    assert drawn.mean() == pytest.approx(150 + curve.tail_scale, rel=0.04)


def test_workers_that_never_answer_stay_silent():
    curve = survival_curve(np.array([1.0, 2.0, np.inf, 1.5]), np.array([False, False, False, True]))
    drawn = curve.draw_beyond(np.full(100, 1.5), np.random.default_rng(0))
    assert set(drawn) == {2.0, np.inf}
    assert set(curve.draw_beyond(np.full(9, 3.0), np.random.default_rng(0))) == {np.inf}


def test_imputation_keeps_what_is_known():
    times = LAW.rvs((50, 6), random_state=0)
    trace = stopped(times, 4)
    made = impute(trace, np.random.default_rng(0), 3)
    assert made.times.shape == (150, 6)
    assert not made.censored.any()
    for repeat in range(3):
        rows = made.times[repeat::3]
        np.testing.assert_array_equal(rows[~trace.censored], times[~trace.censored])
        assert np.all(rows[trace.censored] > trace.times[trace.censored])
        np.testing.assert_array_equal(np.sort(rows, axis=1)[:, :4], np.sort(times, axis=1)[:, :4])
    assert np.any(made.times[0::3] != made.times[1::3])


def test_entries_censored_at_infinity_never_answered():
    trace = cgc.Trace([[1.0, np.inf], [2.0, 3.0]], censored=[[False, True], [False, False]])
    assert np.isinf(impute(trace, np.random.default_rng(0), 1).times[0, 1])


def test_complete_models_are_left_alone():
    law, trace = IdenticalLaw(LAW, 3), cgc.Trace([[1.0, 2.0]])
    assert complete(law, np.random.default_rng(0)) == (law, 1)
    assert complete(trace, np.random.default_rng(0)) == (trace, 1)


def test_an_extrapolated_tail_is_told(caplog):
    times = np.array([[1.0, 2.0, 5.0], [1.0, 3.0, 5.0]])
    trace = cgc.Trace(times, censored=times == 5)
    with caplog.at_level(logging.INFO, logger="cgc_fast"):
        impute(trace, np.random.default_rng(0), 1)
    assert "an exponential tail" in caplog.text


@pytest.mark.parametrize("law", [LAW, stats.weibull_min(1.5, loc=20, scale=500)])
def test_the_plan_is_near_that_of_the_complete_data(law):
    times = law.rvs((800, 8), random_state=3)
    # Stopped as soon as a random number of workers have answered: all ranks are seen now and then.
    answers = np.random.default_rng(4).integers(4, 9, len(times))
    last = np.take_along_axis(np.sort(times, axis=1), answers[:, None] - 1, axis=1)
    censored = times > last
    seen = np.minimum(times, last)
    assert 0.1 < censored.mean() < 0.4

    def made(trace):
        return cgc.plan(8, 2000, trace, method="sample_average")

    complete_data = made(cgc.Trace(times))
    imputed = made(cgc.Trace(seen, censored=censored))
    naive = made(cgc.Trace(seen))
    assert imputed.sample_report.draws == 400
    fresh = law.rvs((20_000, 8), random_state=9)
    values = {
        name: cgc.runtime(plan.block_sizes, fresh).mean()
        for name, plan in (("complete", complete_data), ("imputed", imputed), ("naive", naive))
    }
    assert values["imputed"] <= 1.02 * values["complete"]
    assert values["imputed"] < values["naive"]
    # What the plans promise: the naive one takes stragglers for fast.
    promised = cgc.expected_runtime(imputed.block_sizes, cgc.Trace(seen, censored=censored))
    assert promised == pytest.approx(values["imputed"], rel=0.06)
    assert cgc.expected_runtime(naive.block_sizes, cgc.Trace(seen)) < 0.9 * values["naive"]


def test_a_master_that_always_stops_at_the_same_rank():
    times = LAW.rvs((2000, 8), random_state=5)
    trace = stopped(times, 6)
    plan, full = (cgc.plan(8, 2000, t, method="sample_average") for t in (trace, cgc.Trace(times)))
    fresh = LAW.rvs((20_000, 8), random_state=9)
    assert cgc.runtime(plan.block_sizes, fresh).mean() <= 1.02 * cgc.runtime(full.block_sizes, fresh).mean()
    again = cgc.plan(8, 2000, trace, method="sample_average")
    np.testing.assert_array_equal(again.relaxed_block_sizes, plan.relaxed_block_sizes)


def test_a_plan_for_a_censored_trace_comes_back(tmp_path):
    trace = stopped(LAW.rvs((40, 4), random_state=0), 3)
    plan = cgc.plan(4, 100, trace)
    plan.save(tmp_path / "plan.json")
    again = cgc.Plan.load(tmp_path / "plan.json")
    np.testing.assert_array_equal(again.cycle_time.censored, trace.censored)
    np.testing.assert_array_equal(again.cycle_time.times, trace.times)
