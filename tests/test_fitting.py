"""Fitted laws: families recovered, likelihoods, censoring, warnings."""

import itertools
import warnings

import numpy as np
import pytest
from scipy import stats

import cgc_fast as cgc
from cgc_fast.datasets import TRACES, load_trace
from cgc_fast.errors import ArgumentValueError, PoorFitWarning
from cgc_fast.fitting import _FAMILIES, _Data

LAWS = {
    "exponential": stats.expon(50, 1000),
    "pareto": stats.pareto(2.5, scale=3),
    "lognormal": stats.lognorm(0.5, scale=3),
    "weibull": stats.weibull_min(1.7, scale=2),
    "gamma": stats.gamma(3, scale=2),
    "shifted lognormal": stats.lognorm(0.5, loc=5, scale=3),
    "shifted weibull": stats.weibull_min(0.6, loc=1, scale=2),
    "shifted gamma": stats.gamma(2, loc=10, scale=2),
}


def drawn(law, count=2_000):
    return law.rvs(count, random_state=np.random.default_rng(5))


@pytest.fixture(params=LAWS, ids=str)
def family(request):
    return request.param


def test_the_true_law_is_close_to_the_fitted_one(family):
    law = LAWS[family]
    made = cgc.fit(drawn(law))
    assert made.fits
    # Two samples of size n apart: 1.95 / sqrt(n) is exceeded with probability 0.001 by one.
    t = law.ppf(np.linspace(0.001, 0.999, 999))
    assert np.max(np.abs(made.law.cdf(t) - law.cdf(t))) < 1.95 / np.sqrt(2_000)
    assert [c.name for c in made.candidates] == [c.name for c in sorted(made.candidates, key=lambda c: c.aic)]
    assert {c.name for c in made.candidates} == set(LAWS)
    # The fitted likelihood of the true family is not below that of the true law (but for the bound on the
    # location, which costs about one).
    mine = next(c for c in made.candidates if c.name == family)
    if family == "shifted weibull":
        # Of shape 0.6, whose density is infinite at the location: the bound costs more of the likelihood,
        # though nothing of the distribution function.
        assert mine.law.kwds["loc"] == pytest.approx(1.0, abs=2e-3)
    else:
        assert mine.log_likelihood >= law.logpdf(drawn(law)).sum() - 1.5


def test_censored_times_give_the_same_law(family):
    law = LAWS[family]
    times = drawn(law)
    limits = law.rvs(2_000, random_state=np.random.default_rng(6))
    data_times, censored = np.minimum(times, limits), times > limits
    order = np.argsort(data_times)
    made = _FAMILIES[family](_Data(data_times[order], censored[order]))
    t = law.ppf(np.linspace(0.01, 0.8, 80))
    # Half of the entries say only half as much.
    assert np.max(np.abs(made.law.cdf(t) - law.cdf(t))) < 1.95 / np.sqrt(500)


@pytest.mark.parametrize("name", ["lognormal", "weibull", "gamma"])
@pytest.mark.parametrize("cut", [False, True])
def test_the_likelihood_cannot_be_raised(name, cut):
    times = np.sort(drawn(LAWS[name], 300))
    censored = np.zeros(300, dtype=bool)
    if cut:
        censored[::3] = True
    data = _Data(times, censored)
    best = _FAMILIES[name](data)
    shape_name = {"lognormal": "s", "weibull": "c", "gamma": "a"}[name]
    shape, scale = best.law.kwds[shape_name], best.law.kwds["scale"]
    for u, v in itertools.product((-0.02, 0.0, 0.02), repeat=2):
        other = best.law.dist(**{shape_name: shape * np.exp(u), "scale": scale * np.exp(v)})
        assert data.log_likelihood(other) <= best.log_likelihood + 1e-5


@pytest.mark.parametrize("name", ["lognorm", "weibull_min", "gamma"])
def test_two_parameter_fits_agree_with_scipy(name):
    key = {"lognorm": "lognormal", "weibull_min": "weibull", "gamma": "gamma"}[name]
    times = np.sort(drawn(LAWS[key], 400))
    shape, _, scale = getattr(stats, name).fit(times, floc=0)
    law = _FAMILIES[key](_Data(times, np.zeros(400, dtype=bool))).law
    # SciPy's search stops at about 1e-4.
    assert law.args + tuple(law.kwds.values()) == pytest.approx((shape, 0.0, scale), rel=1e-3)


def test_the_location_stays_away_from_the_smallest_time():
    # The likelihood of these is unbounded there.
    times = np.sort(drawn(LAWS["shifted weibull"], 200))
    data = _Data(times, np.zeros(200, dtype=bool))
    for name in ("shifted weibull", "shifted gamma", "shifted lognormal"):
        location = _FAMILIES[name](data).law.kwds["loc"]
        assert 0 <= location <= times[0] - (times.mean() - times[0]) / 200 * (1 - 1e-9)


def test_a_fit_goes_into_a_plan():
    made = cgc.fit(cgc.Trace(drawn(LAWS["exponential"]).reshape(-1, 10)))
    assert made.name == "exponential"
    assert cgc.plan(10, 100, made.law, method="mean_time").expected_runtime > 0
    assert "exponential" in made.summary()


def test_infinite_entries_become_a_probability():
    times = drawn(LAWS["exponential"])
    times[:200] = np.inf
    made = cgc.fit(times)
    assert made.never == pytest.approx(0.1)
    assert isinstance(made.law, cgc.Never)
    assert made.law.probability == pytest.approx(0.1)
    assert len(made.times) == 1800


def test_no_family_fits_two_humps():
    times = np.concatenate((drawn(stats.norm(10, 0.1), 500), drawn(stats.norm(30, 0.1), 500)))
    with pytest.warns(PoorFitWarning, match=r"no family of laws fits.*use the trace itself"):
        made = cgc.fit(times)
    assert not made.fits
    assert made.p_value == pytest.approx(0.01)


@pytest.mark.parametrize("name", TRACES)
def test_measured_traces_are_not_of_one_law(name):
    trace = load_trace(name)
    assert trace.times.shape == {TRACES[0]: (2182, 10), TRACES[1]: (43, 32)}[name]
    with pytest.warns(PoorFitWarning) as caught:
        made = cgc.fit(trace)
    assert ("Workers differ" in str(caught[0].message)) == (name == TRACES[0])
    ax = made.plot()
    assert len(ax.lines) == 1 + len(LAWS)
    assert "no family fits" in ax.get_title()
    import matplotlib.pyplot as plt

    plt.close(ax.figure)


def test_the_p_value_does_not_reject_true_laws_too_often():
    rejected = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoorFitWarning)
        for seed in range(20):
            times = LAWS["exponential"].rvs(100, random_state=np.random.default_rng(seed))
            rejected += cgc.fit(times).p_value <= 0.05
    # Of 20 uniform p-values, more than 5 are below 0.05 with probability 3e-4.
    assert rejected <= 5


@pytest.mark.parametrize(
    ("times", "match"),
    [
        (np.ones(100), "at least 10 different.*got 1"),
        (np.full(100, np.inf), "got 0"),
        ([1.0, -1.0], "positive"),
    ],
)
def test_nothing_to_fit_is_refused(times, match):
    with pytest.raises(ArgumentValueError, match=match):
        cgc.fit(times)


def test_unknown_traces_and_few_replicas_are_refused():
    with pytest.raises(ArgumentValueError, match="trace: expected one of"):
        load_trace("nonsense")
    with pytest.raises(ArgumentValueError, match="replicas: expected an integer >= 99"):
        cgc.fit(drawn(LAWS["gamma"]), replicas=9)
