"""Means of order and group statistics against closed forms, identities and Monte Carlo."""

import numpy as np
import pytest
from scipy import special, stats

from cgc_fast.errors import NumericalError
from cgc_fast.order_statistics import mean_group_statistics, mean_order_statistics, tail_indices
from cgc_fast.straggler_models import IdenticalLaw, LawPerWorker, Trace, as_straggler_model

# log Beta(n, N - n + 1), of size up to 0.7 N, is good to a few units in the last place: 1e-15 N relative.
ROUNDING = 2e-14


def means(law, workers, rates=False):
    result = mean_order_statistics(as_straggler_model(law, workers), rates=rates)
    assert result.exact
    return result.values


def ratio_of_gammas(workers, k, power):
    """E[(T_(N-k+1) / scale)^power] of a Pareto law of index 1, infinite where k <= power."""
    finite = k > power
    log_ratio = special.gammaln(workers + 1) - special.gammaln(workers + 1 - power) - special.gammaln(k)
    return np.where(finite, np.exp(log_ratio + special.gammaln(np.where(finite, k - power, 1.0))), np.inf)


@pytest.mark.parametrize("workers", [1, 2, 20, 333, 3000])
@pytest.mark.parametrize(("loc", "scale"), [(0, 1), (50, 1000)])
def test_exponential(workers, loc, scale):
    n = np.arange(1, workers + 1)
    harmonic = special.digamma(workers + 1) - special.digamma(workers - n + 1)
    # The difference of two digammas of size log N loses a factor N log N in the first: 2e-11 at N = 3,000.
    np.testing.assert_allclose(means(stats.expon(loc, scale), workers), loc + scale * harmonic, rtol=3e-11)
    # Erlang's law with shape 1 is the same law, and goes through the quadrature.
    np.testing.assert_allclose(
        means(stats.gamma(1, loc, scale), workers), loc + scale * harmonic, rtol=3e-11 + 1e-14 * workers
    )


@pytest.mark.parametrize("workers", [1, 2, 20, 333, 3000])
def test_uniform(workers):
    n = np.arange(1, workers + 1)
    tolerance = ROUNDING + 1e-14 * workers
    np.testing.assert_allclose(means(stats.uniform(), workers), n / (workers + 1), rtol=tolerance)
    rates = means(stats.uniform(), workers, rates=True)
    assert rates[0] == np.inf
    np.testing.assert_allclose(rates[1:], workers / (n[1:] - 1), rtol=tolerance)


@pytest.mark.parametrize("workers", [1, 3, 20, 333])
@pytest.mark.parametrize("index", [0.26, 0.5, 1.0, 1.5, 3.0])
def test_pareto_times_and_rates(workers, index):
    k = np.arange(workers, 0, -1.0)  # workers at or above T_(n)
    # Hardly finite means (k index = 1.04) are integrated up to times of 1e308 only: (1e308)^-0.04 is missing.
    tolerance = ROUNDING + 1e-14 * workers + (1e-11 if index == 0.26 else 0.0)
    np.testing.assert_allclose(
        means(stats.pareto(index), workers), ratio_of_gammas(workers, k, 1 / index), rtol=tolerance
    )
    np.testing.assert_allclose(
        means(stats.pareto(index), workers, rates=True),
        ratio_of_gammas(workers, k, -1 / index),
        rtol=tolerance,
    )


@pytest.mark.parametrize("shape", [0.3, 0.7, 1.0, 2.0])
def test_minimum_of_weibull_is_weibull(shape):
    workers = 50
    law = stats.weibull_min(shape, scale=2.0)
    fastest = stats.weibull_min(shape, scale=2.0 * workers ** (-1 / shape))
    # The shape 1/0.3 takes the relative error of a quantile times 3.
    np.testing.assert_allclose(means(law, workers)[0], fastest.mean(), rtol=1e-11)
    rates = means(law, workers, rates=True)
    # P[T_(n) < t] ~ t^(n shape)
    np.testing.assert_array_equal(np.isinf(rates), np.arange(1, workers + 1) * shape <= 1)


@pytest.mark.parametrize(
    "law",
    [
        stats.lognorm(1.0),
        stats.gamma(2.5),
        stats.invgauss(0.4),
        stats.f(3, 5),
        stats.exponnorm(1, 50, 1),
        stats.uniform(1, 3),
        stats.expon(50, 1000),
    ],
    ids=lambda law: law.dist.name,
)
def test_order_statistics_sum_to_the_law(law):
    # sum_n E[g(T_(n))] = N E[g(T)]; SciPy's own integral is good to 1e-8. Its quantiles of
    # invgauss, f and exponnorm are wrong from 1e-13 or 1e-16 on.
    for rates, transform in ((False, lambda t: t), (True, lambda t: 1 / t)):
        np.testing.assert_allclose(means(law, 12, rates).mean(), law.expect(transform), rtol=1e-7)


@pytest.mark.parametrize(
    "cycle_time",
    [
        stats.lognorm(0.8),
        stats.randint(1, 20),
        [stats.expon(1, 1 + w) for w in range(5)],
    ],
    ids=["quadrature", "atoms", "sequence"],
)
@pytest.mark.parametrize("rates", [False, True])
def test_monte_carlo(cycle_time, rates):
    model = as_straggler_model(cycle_time, 5)
    got = mean_order_statistics(model, rates=rates, draws=40_000, generator=np.random.default_rng(1))
    assert got.exact == isinstance(cycle_time, type(stats.lognorm(0.8)))
    draws = np.sort(model.draw(np.random.default_rng(2), 40_000), axis=1)
    draws = 1 / draws if rates else draws
    # Two independent sample means of 40,000: 5 standard errors of their difference.
    error = 5 * draws.std(axis=0) * np.sqrt(2 / 40_000)
    assert np.all(np.abs(got.values - draws.mean(axis=0)) <= error)


def test_a_trace_is_its_own_distribution():
    times = np.array([[3.0, 1.0, np.inf], [4.0, 2.0, 5.0]])
    got = mean_order_statistics(Trace(times))
    np.testing.assert_array_equal(got.values, [1.5, 3.5, np.inf])
    rates = mean_order_statistics(Trace(times), rates=True).values
    np.testing.assert_allclose(rates, [3 / 4, 7 / 24, 0.1], rtol=1e-15)
    assert got.exact


def test_infinite_means_of_different_laws_are_found():
    # T_(n) > t needs N - n + 1 of the four above t, and the two heavy ones are first.
    laws = [stats.pareto(0.6), stats.expon(), stats.pareto(0.3), stats.pareto(4.0)]
    got = mean_order_statistics(LawPerWorker(laws), draws=10)
    # sums of the smallest indices: 0.3, 0.9, 4.9, infinite
    np.testing.assert_array_equal(np.isinf(got.values), [False, False, True, True])
    # rates: only the exponential comes near 0, with index 1
    rates = mean_order_statistics(LawPerWorker(laws), rates=True, draws=10)
    np.testing.assert_array_equal(np.isinf(rates.values), [True, False, False, False])


@pytest.mark.parametrize(
    ("law", "upper", "lower"),
    [
        (stats.pareto(0.05), 0.05, np.inf),
        (stats.pareto(2.0), 2.0, np.inf),
        (stats.halfcauchy(), 1.0, 1.0),
        (stats.invgamma(0.5), 0.5, None),
        (stats.weibull_min(0.4), None, 0.4),
        (stats.expon(), None, 1.0),
        (stats.gamma(3.0), None, 3.0),
        (stats.uniform(1, 1), np.inf, np.inf),
    ],
    ids=lambda value: value.dist.name if hasattr(value, "dist") else None,
)
def test_tail_indices(law, upper, lower):
    got = tail_indices(law)
    # SciPy's gamma and inverse gamma quantiles are good to 1e-10 or so that far out.
    for value, expected in zip(got, (upper, lower), strict=True):
        if expected is not None:
            np.testing.assert_allclose(value, expected, rtol=1e-6)
        else:
            assert value > 2  # faster than any power that matters here


def test_groups_at_the_ends_are_order_statistics():
    for law in (stats.expon(50, 1000), stats.pareto(1.3)):
        order = means(law, 13)
        got = mean_group_statistics(IdenticalLaw(law, 13), np.array([13, 1]))
        np.testing.assert_allclose(got.values, [order[-1], order[0]], rtol=ROUNDING)


@pytest.mark.parametrize("rates", [False, True])
def test_group_statistics_against_monte_carlo(rates):
    groups = np.array([7, 3, 2, 1])  # of seven workers: sizes differ
    model = IdenticalLaw(stats.expon(1.0, 2.0), 7)
    got = mean_group_statistics(model, groups, rates=rates)
    assert got.exact
    times = model.draw(np.random.default_rng(3), 40_000)
    parts = [[[6], [5], [4], [3], [2], [1], [0]], [[0, 1, 2], [3, 4], [5, 6]], [[0, 1, 2, 3], [4, 5, 6]]]
    parts.append([list(range(7))])
    for k, members in enumerate(parts):
        slowest = np.max([times[:, group].min(axis=1) for group in members], axis=0)
        values = 1 / slowest if rates else slowest
        assert abs(got.values[k] - values.mean()) <= 5 * values.std() / np.sqrt(40_000)


def test_infinite_group_means_are_found():
    # Groups {0, 1}, {2, 3}: the second is never fast enough; alone, neither is any heavy worker.
    laws = [stats.expon(), stats.pareto(0.3), stats.pareto(0.3), stats.pareto(0.3)]
    got = mean_group_statistics(LawPerWorker(laws), np.array([4, 2, 1]), draws=10)
    np.testing.assert_array_equal(np.isinf(got.values), [True, True, False])
    rates = mean_group_statistics(IdenticalLaw(stats.expon(), 4), np.array([4, 2, 1]), rates=True)
    np.testing.assert_array_equal(np.isinf(rates.values), [False, False, True])


def test_a_law_without_quantiles_is_refused():
    class Broken(stats.rv_continuous):
        def _cdf(self, x):
            return x / (1 + x)

        def _ppf(self, q):
            return np.full_like(q, np.nan)

        _isf = _ppf

        def _stats(self):
            return 1.0, 1.0, 0.0, 0.0

    with pytest.raises(NumericalError, match=r"broken.*cgc\.Trace"):
        mean_order_statistics(IdenticalLaw(Broken(a=0.0, name="broken")(), 3))


def test_wrong_quantiles_far_down_are_searched():
    # SciPy's quantiles of this law are off by a factor 100 at 1e-10; mean of the smallest of 2 is the
    # integral of (1 - F)^2, F = (3 sqrt(t) - t^1.5) / 2: 1 - 2 * 0.8 + (9/2 - 2 + 1/4) / 4 = 0.0875.
    means = mean_order_statistics(IdenticalLaw(stats.beta(0.5, 2), 2)).values
    assert means[0] == pytest.approx(0.0875, rel=1e-9)
    assert means.sum() == pytest.approx(2 * 0.2, rel=1e-9)
