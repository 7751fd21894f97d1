"""Exact runtimes of i.i.d. workers: Monte Carlo, closed forms, homogeneity, differences."""

import numpy as np
import pytest
from scipy import stats

import cgc_fast as cgc
from cgc_fast import exact_runtime
from cgc_fast.arguments import Cost
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError, NumericalError
from cgc_fast.exact_runtime import ExactRuntime, level_cycles
from cgc_fast.straggler_models import IdenticalLaw

LAWS = {
    "shifted exponential": stats.expon(loc=50, scale=1000),
    "exponential": stats.expon(),
    "uniform": stats.uniform(1, 2),
    "power tail": stats.pareto(2.5),
    "heavy Weibull": stats.weibull_min(0.5),
    "Weibull": stats.weibull_min(3.0),
    "log-normal": stats.lognorm(1.0),
    "gamma with a pole": stats.gamma(0.7),
}


def some_sizes(workers):
    """Every third level empty, the lowest used."""
    sizes = 1.0 + np.arange(workers) % 4
    sizes[1::3] = 0.0
    return sizes


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("workers", [1, 2, 7, 20])
@pytest.mark.parametrize("forward_cycles", [0.0, 5.0])
def test_against_monte_carlo(name, workers, forward_cycles):
    law, draws = LAWS[name], 40_000
    sizes = some_sizes(workers)
    times = law.rvs((draws, workers), random_state=1)
    runtimes = cgc.runtime(sizes, times, forward_cycles=forward_cycles)
    exact = cgc.expected_runtime(sizes, law, forward_cycles=forward_cycles)
    # Four standard errors; the heavy tail's own is underestimated now and then, with this seed it is not.
    assert abs(runtimes.mean() - exact) <= 4 * runtimes.std() / np.sqrt(draws)
    for threshold in np.quantile(runtimes, [0.1, 0.5, 0.9]):
        p = cgc.completion_probability(sizes, law, threshold, forward_cycles=forward_cycles)
        error = np.sqrt(p * (1 - p) / draws)
        assert abs((runtimes <= threshold).mean() - p) <= 4 * error


@pytest.mark.parametrize("name", LAWS)
def test_uncoded_and_one_level_have_closed_forms(name):
    law, workers = LAWS[name], 6
    distribution = ExactRuntime(IdenticalLaw(law, workers))
    for level in (0, 2, 5):
        sizes = np.zeros(workers)
        sizes[level] = 3.0
        mean = distribution.mean(level_cycles(sizes, Cost()))
        # The means by quadrature over quantiles are good to 1e-10.
        assert mean.value == pytest.approx(cgc.expected_runtime(sizes, law), rel=1e-9)
    threshold = law.ppf(0.7)
    uncoded = cgc.completion_probability(np.eye(workers)[0] * workers, law, threshold)
    assert uncoded == pytest.approx(0.7**workers, rel=1e-12)


@pytest.mark.parametrize("name", LAWS)
def test_gradient_and_coupling_are_the_derivatives(name):
    workers = 5
    distribution = ExactRuntime(IdenticalLaw(LAWS[name], workers))
    cycles = level_cycles(np.array([4.0, 1.0, 1.0, 1.0, 2.0]), Cost())
    mean, omega = distribution.mean(cycles), distribution.coupling(cycles)
    assert mean.error <= 1e-9
    assert mean.gradient @ cycles == pytest.approx(mean.value, rel=1e-9)
    for n in range(workers):
        step = np.zeros(workers)
        step[n] = 1e-4 * cycles[n]
        above, below = distribution.mean(cycles + step), distribution.mean(cycles - step)
        # Central differences: 1e-8 times third derivatives; the coupling has few nodes, 1 %.
        assert (above.value - below.value) / (2 * step[n]) == pytest.approx(mean.gradient[n], rel=1e-5)
        mixed = -cycles * (above.gradient - below.gradient) / 2e-4
        others = np.arange(workers) != n
        np.testing.assert_allclose(omega[n, others], mixed[others], rtol=0, atol=0.03 * omega.max())


def test_infinite_expectations():
    heavy = stats.pareto(0.6)
    assert cgc.expected_runtime([1, 1, 1], heavy) == np.inf
    # T_(2) of 3 falls as t^-1.2: finite, though only just.
    draws = cgc.expected_runtime([0, 1, 1], heavy)
    assert 0 < draws < np.inf
    assert 0 < cgc.completion_probability([1, 1, 1], heavy, 10.0) < 1


def test_failure_probabilities_in_the_far_tail():
    law = stats.expon()
    plan = cgc.plan(5, 100, law, method="uncoded")
    for threshold in (600.0, 2000.0):
        # 1 - (1 - e^-a)^5 = 5 e^-a up to e^-2a, a = 5 t / 100
        a = threshold * 5 / 100
        expected = -np.expm1(5 * np.log1p(-np.exp(-a)))
        assert plan.failure_probability(threshold) == pytest.approx(expected, rel=1e-9)
        assert plan.completion_probability(threshold) == pytest.approx(1.0, rel=1e-9)


def test_thresholds_of_any_shape():
    law = LAWS["shifted exponential"]
    assert isinstance(cgc.completion_probability([1, 1], law, 1e3), float)
    table = cgc.completion_probability([1, 1], law, [[0.0, 1e3], [1e4, np.inf]])
    assert table.shape == (2, 2)
    assert table[0, 0] == 0.0
    assert table[1, 1] == pytest.approx(1.0, rel=1e-15)
    assert np.all(np.diff(table.ravel()) > 0)


def test_traces_and_different_laws_are_counted():
    trace = cgc.Trace([[1.0, 2.0], [3.0, 4.0], [np.inf, 1.0], [1.0, 1.0]])
    assert cgc.completion_probability([2, 0], trace, [1.0, 2.0, np.inf]).tolist() == [0.25, 0.5, 0.75]
    law = stats.expon()
    sampled = cgc.completion_probability([2, 1], [law, stats.expon()], 2.0, draws=40_000)
    exact = cgc.completion_probability([2, 1], law, 2.0)
    assert abs(sampled - exact) <= 4 * np.sqrt(exact * (1 - exact) / 40_000)


@pytest.mark.parametrize(
    ("threshold", "error"),
    [(-1.0, ArgumentValueError), (np.nan, ArgumentValueError), ("1", ArgumentTypeError)],
)
def test_bad_thresholds_are_refused(threshold, error):
    with pytest.raises(error, match="threshold: expected seconds"):
        cgc.completion_probability([1, 1], stats.expon(), threshold)


# --- densities that jump, kink or have poles ---

HISTOGRAM = stats.rv_histogram(np.histogram(np.random.default_rng(0).lognormal(size=500), bins=20))
KINKED = {
    "histogram": HISTOGRAM(loc=0.5, scale=2.0),
    "triangle": stats.triang(0.3, loc=1, scale=2),
    "uniform from 0": stats.uniform(0, 2),
    "truncated exponential": stats.truncexpon(3.0, loc=1),
    "mixture of uniforms": cgc.Mixture(
        [stats.uniform(1, 1), stats.uniform(1.5, 3), stats.uniform(10, 1)], [0.5, 0.4, 0.1]
    ),
    "mixture of exponentials": cgc.Mixture([stats.expon(1, 0.1), stats.expon(20, 0.1)], [0.9, 0.1]),
    "pole": stats.beta(0.5, 2),
}


@pytest.mark.parametrize("name", KINKED)
@pytest.mark.parametrize("workers", [1, 2, 7, 20])
def test_kinks_against_monte_carlo_and_differences(name, workers):
    law, draws = KINKED[name], 10_000
    sizes = some_sizes(workers)
    distribution = ExactRuntime(IdenticalLaw(law, workers))
    cycles = level_cycles(sizes, Cost())
    mean = distribution.mean(cycles)
    assert mean.error <= 1e-7
    runtimes = cgc.runtime(sizes, law.rvs((draws, workers), random_state=1))
    assert abs(runtimes.mean() - mean.value) <= 4 * runtimes.std() / np.sqrt(draws)
    assert cgc.expected_runtime(sizes, law) == pytest.approx(mean.value, rel=1e-7)
    # Along a direction that changes all used levels differently and keeps their order.
    used = np.unique(cycles, return_index=True)[1]
    change = np.zeros(workers)
    change[used] = cycles[used] * np.cos(np.arange(len(used)))
    change = change[np.maximum.accumulate(np.where(np.isin(np.arange(workers), used), np.arange(workers), 0))]
    step = 1e-4 * np.min(np.diff(np.unique(np.append(cycles, 0.0)))) / cycles.max()
    above, below = (distribution.mean(cycles + sign * step * change).value for sign in (1, -1))
    # Errors of 1e-11 over the step, and the step itself where the gradient kinks.
    tolerance = (1e-4 + 1e-11 / step) * mean.value
    assert (above - below) / (2 * step) == pytest.approx(mean.gradient @ change, abs=tolerance)


@pytest.mark.parametrize("name", KINKED)
def test_plans_for_laws_with_kinks_are_certified(name):
    plan = cgc.plan(7, 20_000, KINKED[name], method="exact")
    assert plan.relaxed_gap <= 1e-6
    single = cgc.plan(7, 20_000, KINKED[name], method="single_level")
    assert plan.expected_runtime <= single.expected_runtime * (1 + plan.relative_gap)


def test_one_level_of_a_law_with_kinks():
    # The largest of two and the smaller of two, by the law's own distribution function.
    law = KINKED["histogram"]
    t = np.linspace(0.0, law.support()[1], 2_000_001)
    for sizes, survival in (([3.0, 0.0], 1 - law.cdf(t) ** 2), ([0.0, 3.0], 2 * law.sf(t) ** 2)):
        # The midpoint rule over 2e6 steps, kinks at 20 of them.
        expected = 1.5 * np.trapezoid(survival, t)
        assert cgc.expected_runtime(sizes, law) == pytest.approx(expected, rel=1e-9)


def test_kinks_that_nobody_tells_are_found():
    class Steps(stats.rv_continuous):
        def _pdf(self, x):
            return np.where(x < 0.3, 2.0, 4.0 / 7.0)

        def _cdf(self, x):
            return np.where(x < 0.3, 2.0 * x, 0.6 + 4.0 / 7.0 * (x - 0.3))

        def _ppf(self, q):
            return np.where(q < 0.6, 0.5 * q, 0.3 + 1.75 * (q - 0.6))

    law = Steps(a=0.0, b=1.0, name="steps")()
    told = cgc.Mixture([stats.uniform(0, 0.3), stats.uniform(0.3, 0.7)], [0.6, 0.4])
    sizes = some_sizes(7)
    assert cgc.expected_runtime(sizes, law) == pytest.approx(cgc.expected_runtime(sizes, told), rel=1e-7)


def test_where_the_quadrature_fails_draws_decide(monkeypatch):
    sizes, law = some_sizes(4), LAWS["exponential"]
    exact = cgc.expected_runtime(sizes, law)
    monkeypatch.setattr(exact_runtime, "_ACCEPTED", -1.0)
    sampled = cgc.expected_runtime(sizes, law)
    assert sampled != exact
    assert sampled == pytest.approx(exact, rel=0.05)  # 20,000 draws
    plan = cgc.plan(4, 100, law, method="mean_time")
    assert plan.expected_runtime_standard_error > 0
    with pytest.raises(NumericalError, match="differ by a fraction"):
        cgc.plan(4, 100, law, method="exact")
