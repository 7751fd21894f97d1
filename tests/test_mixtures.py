"""Mixtures, workers that may never answer, atoms: as laws, as models, and in plans."""

import itertools
import json
import pickle

import numpy as np
import pytest
from scipy import stats

import cgc_fast as cgc
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError
from cgc_fast.exact_runtime import exactly_solvable
from cgc_fast.mixtures import (
    has_density,
    has_smooth_quantiles,
    kinks,
    law_text,
    never_probability,
    without_never,
)
from cgc_fast.order_statistics import mean_group_statistics, mean_order_statistics, tail_indices
from cgc_fast.straggler_models import AtMostNever, as_straggler_model, straggler_model_from_dict

FAST, SLOW = stats.expon(loc=1), stats.gamma(3, loc=10, scale=4)
BOTH = cgc.Mixture([FAST, SLOW], [0.9, 0.1])
SILENT = cgc.Never(stats.expon(loc=50, scale=1000), 0.1)
ONE_SPEED = stats.rv_discrete(values=([2.5], [1.0]))()


def generator():
    return np.random.default_rng(7)


def test_functions_of_a_mixture_are_weighted_sums():
    t = np.array([0.5, 1.0, 2.0, 11.0, 40.0, 300.0])
    for name in ("pdf", "cdf", "sf"):
        expected = 0.9 * getattr(FAST, name)(t) + 0.1 * getattr(SLOW, name)(t)
        np.testing.assert_allclose(getattr(BOTH, name)(t), expected, rtol=1e-14)
    assert BOTH.mean() == pytest.approx(0.9 * 2 + 0.1 * 22)
    second = 0.9 * (1 + 4) + 0.1 * (3 * 16 + 22**2)
    assert BOTH.var() == pytest.approx(second - 4.0**2)
    assert BOTH.support() == (1.0, np.inf)


def test_quantiles_invert_to_the_last_places():
    q = np.concatenate((10.0 ** np.arange(-14, -1), np.linspace(0.01, 0.99, 99)))
    # Neighbouring doubles t differ by 2^-52 relative, and cdf and sf by that times t times the hazard < 400.
    np.testing.assert_allclose(BOTH.cdf(BOTH.ppf(q)), q, rtol=1e-12, atol=3e-16)
    np.testing.assert_allclose(BOTH.sf(BOTH.isf(q)), q, rtol=1e-12)
    assert BOTH.isf(1e-250) > 1000
    assert BOTH.ppf([0.0, 1.0]).tolist() == [1.0, np.inf]


def test_draws_follow_the_mixture():
    drawn = BOTH.rvs(20_000, random_state=generator())
    # Kolmogorov: the distance exceeds 1.95 / sqrt(n) with probability 0.001.
    assert stats.kstest(drawn, BOTH.cdf).statistic < 1.95 / np.sqrt(20_000)


def test_never_jumps_at_infinity():
    assert SILENT.mean() == np.inf
    np.testing.assert_allclose(SILENT.cdf([1050.0, 1e9]), [0.9 * (1 - np.exp(-1)), 0.9])
    np.testing.assert_allclose(SILENT.sf([1050.0, 1e9]), [0.1 + 0.9 * np.exp(-1), 0.1])
    assert SILENT.ppf([0.91, 1.0]).tolist() == [np.inf, np.inf]
    assert SILENT.isf(0.05) == np.inf
    assert SILENT.cdf(SILENT.ppf(0.6)) == pytest.approx(0.6)
    silent = np.isinf(SILENT.rvs(10_000, random_state=generator())).mean()
    assert silent == pytest.approx(0.1, abs=4 * 0.003)
    never = cgc.Never(FAST, 0)
    assert never.mean() == 2.0
    assert never_probability(never) == 0.0


def test_mixtures_of_laws_that_may_never_answer():
    law = cgc.Mixture([SILENT, FAST], [0.5, 0.5])
    assert never_probability(law) == pytest.approx(0.05)
    answered = without_never(law)
    t = np.array([2.0, 60.0, 3000.0])
    np.testing.assert_allclose(answered.cdf(t), law.cdf(t) / 0.95)
    assert law.ppf([0.94, 0.96])[1] == np.inf
    assert np.isfinite(law.ppf(0.94))


def test_atoms_in_a_mixture():
    law = cgc.Mixture([ONE_SPEED, stats.rv_discrete(values=([10.0], [1.0]))()], [0.8, 0.2])
    assert law.ppf([0.5, 0.8, 0.81]).tolist() == [2.5, 2.5, 10.0]
    assert law.cdf([2.4, 2.5, 9.9, 10.0]).tolist() == [0.0, 0.8, 0.8, 1.0]
    assert law.mean() == pytest.approx(4.0)
    assert cgc.Never(ONE_SPEED, 0.25).cdf([2.4, 2.5, np.inf]).tolist() == [0.0, 0.75, 1.0]


def test_tail_indices_are_those_of_the_heaviest_part():
    heavy = stats.pareto(1.5, scale=2)
    assert tail_indices(cgc.Mixture([FAST, heavy], [0.99, 0.01]))[0] == pytest.approx(1.5, rel=1e-6)
    assert tail_indices(cgc.Mixture([FAST, SILENT], [0.99, 0.01]))[0] == 0.0
    assert not has_smooth_quantiles(BOTH)
    assert has_smooth_quantiles(FAST)


@pytest.mark.parametrize(
    "law", [BOTH, SILENT, cgc.Mixture([SILENT, BOTH], [0.5, 0.5]), ONE_SPEED], ids=law_text
)
def test_json_and_pickle_give_the_same_draws(law):
    model = as_straggler_model(law, 3)
    for again in (
        straggler_model_from_dict(json.loads(json.dumps(model.to_dict(), allow_nan=False))),
        pickle.loads(pickle.dumps(model)),
    ):
        np.testing.assert_array_equal(again.draw(generator(), 50), model.draw(generator(), 50))
        assert repr(again) == repr(model)


@pytest.mark.parametrize("scheme", ["cyclic", "fractional_repetition"])
def test_plans_for_a_mixture(scheme, tmp_path):
    law = cgc.Mixture([stats.expon(loc=1, scale=0.1), stats.expon(loc=20, scale=0.1)], [0.9, 0.1])
    plan = cgc.plan(8, 400, law, scheme=scheme)
    uncoded = cgc.plan(8, 400, law, scheme=scheme, method="uncoded")
    assert plan.expected_runtime < 0.6 * uncoded.expected_runtime
    plan.save(tmp_path / "plan.json")
    assert cgc.Plan.load(tmp_path / "plan.json").summary() == plan.summary()


def test_identical_speeds_leave_nothing_to_code_for():
    for law in (ONE_SPEED, cgc.Mixture([ONE_SPEED, ONE_SPEED], [0.5, 0.5])):
        plan = cgc.plan(6, 120, law)
        assert plan.method == "uncoded"
        assert plan.expected_runtime == pytest.approx(120 / 6 * 2.5)


def test_workers_that_may_all_be_silent_need_a_condition():
    for law in (SILENT, cgc.Mixture([SILENT, FAST], [0.5, 0.5])):
        with pytest.raises(ArgumentValueError, match=r"infinite at every level.*min_redundancy=d >= 1"):
            cgc.plan(10, 100, law)


@pytest.mark.parametrize("scheme", ["cyclic", "fractional_repetition"])
def test_the_mean_given_enough_answers(scheme, tmp_path):
    plan = cgc.plan(10, 100, SILENT, min_redundancy=2, scheme=scheme, draws=10_000)
    condition = "given that at most 2 of 10 workers never answer"
    assert plan.cycle_time.condition == condition
    assert condition in plan.summary()
    assert not plan.block_sizes[:2].any()
    plan.save(tmp_path / "plan.json")
    assert cgc.Plan.load(tmp_path / "plan.json").summary() == plan.summary()
    # Rejection: unconditional draws with more silent workers thrown away.
    times = SILENT.rvs(size=(60_000, 10), random_state=generator())
    times = times[np.isinf(times).sum(axis=1) <= 2]
    runtimes = cgc.runtime(plan.block_sizes, times, scheme=scheme)
    error = np.hypot(runtimes.std() / np.sqrt(len(times)), plan.expected_runtime_standard_error)
    assert runtimes.mean() == pytest.approx(plan.expected_runtime, abs=4 * error)


def test_conditional_means_by_enumeration():
    # Two speeds, so that all outcomes of four workers can be listed.
    answered = stats.rv_discrete(values=([1.0, 3.0], [0.7, 0.3]))()
    model = AtMostNever(cgc.Never(answered, 0.2), 4, 1)
    outcomes = {1.0: 0.8 * 0.7, 3.0: 0.8 * 0.3, np.inf: 0.2}
    total, sums = 0.0, np.zeros(3)
    for times in itertools.product(outcomes, repeat=4):
        if times.count(np.inf) <= 1:
            weight = np.prod([outcomes[t] for t in times])
            total += weight
            sums += weight * np.sort(times)[:3]
    means = mean_order_statistics(model, draws=200_000, generator=generator())
    # Standard deviations are below 1: 4 standard errors.
    np.testing.assert_allclose(means.values[:3], sums / total, atol=4 / np.sqrt(200_000))
    assert means.values[3] == np.inf


def test_conditional_means_of_a_smooth_law_are_exact():
    model = AtMostNever(SILENT, 6, 2)
    means = mean_order_statistics(model)
    assert means.exact
    ordered = np.sort(model.draw(generator(), 100_000))[:, :4]
    error = ordered.std(axis=0) / np.sqrt(100_000)
    assert np.all(np.abs(ordered.mean(axis=0) - means.values[:4]) < 4 * error)
    assert np.isinf(means.values[4:]).all()
    groups = np.array([6, 3, 2, 1])
    finite = np.isfinite(mean_group_statistics(model, groups, draws=1000).values)
    assert finite.tolist() == [False, False, True, True]  # groups of 1, 2, 3, 6; two may be silent


def test_some_workers_that_may_never_answer():
    plan = cgc.plan(6, 60, [SILENT] * 2 + [FAST] * 4)
    assert not plan.block_sizes[:2].any()
    assert np.isfinite(plan.expected_runtime)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: cgc.Mixture([], []), ArgumentTypeError, "sequence of frozen laws"),
        (lambda: cgc.Mixture([FAST, stats.expon], [0.5, 0.5]), ArgumentTypeError, r"laws\[1\].*parameters"),
        (lambda: cgc.Mixture([FAST, 3], [0.5, 0.5]), ArgumentTypeError, r"laws\[1\].*got int"),
        (lambda: cgc.Mixture([FAST], [0.5, 0.5]), ArgumentValueError, "weights: expected 1"),
        (lambda: cgc.Mixture([FAST, SLOW], [0.5, 0.6]), ArgumentValueError, "sum 1, got 1.1"),
        (lambda: cgc.Mixture([FAST, SLOW], [0.0, 1.0]), ArgumentValueError, r"weights\[0\].*> 0"),
        (lambda: cgc.Mixture([stats.expon(scale=-1)], [1]), ArgumentValueError, "impossible parameters"),
        (lambda: cgc.Never(FAST, 1.0), ArgumentValueError, r"\[0, 1\), got 1.0"),
        (lambda: cgc.Never("expon", 0.1), ArgumentTypeError, "law: expected a frozen"),
        (lambda: cgc.plan(3, 9, cgc.Mixture([FAST, stats.norm(1)], [0.5, 0.5])), ArgumentValueError, "at or"),
    ],
)
def test_what_is_no_law_is_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_kinks_inside_the_support():
    heights, edges = np.array([1.0, 3.0, 2.0]), np.array([0.0, 1.0, 2.0, 4.0])
    histogram = stats.rv_histogram((heights, edges), density=False)
    assert kinks(histogram(loc=1.0, scale=2.0)).tolist() == [3.0, 5.0]
    assert kinks(stats.triang(0.25, loc=1.0, scale=4.0)).tolist() == [2.0]
    assert kinks(stats.trapezoid(0.25, 0.5, loc=1.0, scale=4.0)).tolist() == [2.0, 3.0]
    mixture = cgc.Mixture(
        [stats.uniform(1, 2), stats.expon(loc=2), stats.triang(0.5, loc=1)], [0.5, 0.2, 0.3]
    )
    assert kinks(mixture).tolist() == [1.5, 2.0, 3.0]
    assert not len(kinks(stats.expon(loc=1)))


def test_which_laws_have_densities():
    assert has_density(cgc.Mixture([stats.expon(), stats.uniform(1, 2)], [0.5, 0.5]))
    assert not has_density(cgc.Mixture([stats.expon(), ONE_SPEED], [0.5, 0.5]))
    # Of the finite draws: that some workers never answer is another matter.
    assert has_density(cgc.Mixture([stats.expon(), SILENT], [0.5, 0.5]))
    assert not exactly_solvable(as_straggler_model(cgc.Mixture([stats.expon(), SILENT], [0.5, 0.5]), 3))
