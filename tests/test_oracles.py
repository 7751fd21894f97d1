"""Expected runtimes and completion probabilities against draws, closed forms and exact fractions."""

import functools
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

import cgc_fast as cgc
from cgc_fast.arguments import Cost
from cgc_fast.exact_runtime import ExactRuntime, exactly_solvable, level_cycles
from cgc_fast.straggler_models import IdenticalLaw

LAWS = {
    "shifted exponential": stats.expon(loc=50, scale=1000),
    "exponential": stats.expon(),
    "log-normal": stats.lognorm(1.0),
    "Weibull, heavy": stats.weibull_min(0.7),
    "Weibull, light": stats.weibull_min(3.0),
    "gamma": stats.gamma(0.7),
    "Pareto": stats.pareto(2.5),
    "Frechet": stats.invweibull(3.0),
    "uniform": stats.uniform(1, 2),
    "mixture": cgc.Mixture([stats.expon(1, 1), stats.uniform(4, 2)], [0.8, 0.2]),
}
WORKERS = [1, 2, 7, 20, 100]

# --- draws ---

DRAWS = 1_000_000
_ROWS = 50_000  # draws at once: 40 MB at N = 100
_FALLBACK = 100_000  # draws of the library itself, where it has no exact answer


def random_sizes(workers, law, generator):
    """Dirichlet shares of all levels."""
    return 1000.0 * generator.dirichlet(np.ones(workers))


def sizes_with_holes(workers, law, generator):
    """About a third of the levels used, rarely the lowest."""
    sizes = 1000.0 * generator.dirichlet(np.ones(workers)) * (generator.random(workers) < 0.35)
    sizes[generator.integers(workers)] += 100.0
    return sizes


def one_level(workers, law, generator):
    """Classic gradient coding."""
    return 1000.0 * np.eye(workers)[generator.integers(workers)]


def planned_sizes(workers, law, generator):
    """What a user would ask for."""
    return cgc.plan(workers, 1000, law, method="mean_time").block_sizes


KINDS = (random_sizes, sizes_with_holes, one_level, planned_sizes)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("name", LAWS)
def test_against_a_million_draws(name, workers):
    # 10 laws, 5 N, 2 block sizes, 4 numbers each: 400 comparisons at 4 standard errors. With fresh seeds one
    # or more would be off by chance in 2.5 % of the runs (400 * 6.3e-5); these seeds are fixed.
    law, index = LAWS[name], list(LAWS).index(name)
    generator = np.random.default_rng([index, workers])
    turn = index + WORKERS.index(workers)
    kinds = KINDS[turn % 4], KINDS[(turn + 1) % 4]
    candidates = [kind(workers, law, generator) for kind in kinds]
    pilot = law.rvs((20_000, workers), random_state=generator)
    thresholds = [np.quantile(cgc.runtime(sizes, pilot), [0.1, 0.5, 0.99]) for sizes in candidates]
    sums = np.zeros((len(candidates), 2))
    done = np.zeros((len(candidates), 3))
    for _ in range(DRAWS // _ROWS):
        times = law.rvs((_ROWS, workers), random_state=generator)
        for k, sizes in enumerate(candidates):
            runtimes = cgc.runtime(sizes, times)
            sums[k] += runtimes.sum(), np.square(runtimes).sum()
            done[k] += [np.count_nonzero(runtimes <= t) for t in thresholds[k]]
    exact = exactly_solvable(IdenticalLaw(law, workers))
    # Where the library draws as well, its own error comes on top.
    widening = 1.0 if exact else np.sqrt(1.0 + DRAWS / _FALLBACK)
    for k, sizes in enumerate(candidates):
        mean = sums[k, 0] / DRAWS
        error = np.sqrt((sums[k, 1] / DRAWS - mean**2) / DRAWS)
        expected = cgc.expected_runtime(sizes, law, draws=_FALLBACK)
        assert abs(expected - mean) <= 4 * widening * error, (kinds[k].__name__, expected, mean, error)
        probabilities = cgc.completion_probability(sizes, law, thresholds[k], draws=_FALLBACK)
        errors = np.sqrt(probabilities * (1 - probabilities) / DRAWS)
        assert np.all(np.abs(probabilities - done[k] / DRAWS) <= 4 * widening * errors), kinds[k].__name__


# --- closed forms of the expected runtime ---


@pytest.mark.parametrize("workers", [1, 2, 7, 50, 300])
@pytest.mark.parametrize("shift", [0.0, 50.0])
def test_one_level_of_exponentials_by_harmonic_numbers(workers, shift):
    law = stats.expon(loc=shift, scale=1000)
    distribution = ExactRuntime(IdenticalLaw(law, workers))
    for level in {0, workers // 3, workers - 1}:
        # T_(k) = shift + 1000 (Harm_N - Harm_(N-k)), k = N - n
        harmonic = math.fsum(1 / i for i in range(level + 1, workers + 1))
        expected = 3 * 7 / workers * (level + 1) * (shift + 1000 * harmonic)
        sizes = 7.0 * np.eye(workers)[level]
        assert cgc.expected_runtime(sizes, law, samples=3) == pytest.approx(expected, rel=1e-12)
        # The same by the integral over completion probabilities, which is refined to 1e-11.
        integral = distribution.mean(level_cycles(sizes, Cost(3))).value
        assert integral == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "law",
    [stats.weibull_min(20), stats.invgauss(1.0), stats.fisk(1.5), stats.lognorm(4), stats.chi2(1)],
    ids=lambda law: law.dist.name,
)
def test_one_level_by_two_integrals(law):
    # Some of SciPy's functions overflow far out; pytest would turn a warning into an error.
    workers = 6
    distribution = ExactRuntime(IdenticalLaw(law, workers))
    for level in (1, 3, 5):
        sizes = np.eye(workers)[level]
        # Over quantiles, to 1e-10, and over completion probabilities, to 1e-11, or 1e-7 if a law's cdf and
        # pdf agree no better.
        integral = distribution.mean(level_cycles(sizes, Cost())).value
        assert integral == pytest.approx(cgc.expected_runtime(sizes, law), rel=1e-7)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e9])
def test_two_workers_by_hand(scale):
    # tau = max(a T_(2), c T_(1)), a = x_0 / 2 and c = (x_0 + 2 x_1) / 2, with F the distribution function:
    # P[tau <= t] = F(t/a)^2 - (F(t/a) - F(t/c))^2.
    for x0, x1 in ((1.0, 1.0), (3.0, 0.5), (0.01, 5.0)):
        a, c = x0 / 2, (x0 + 2 * x1) / 2
        exponential = 2 * a + c / 2 - 2 / (1 / a + 1 / c)
        uniform = a - a**3 / 3 * (2 / (a * c) - 1 / c**2) + c / 3 * (1 - a / c) ** 3
        for law, expected in ((stats.expon(scale=scale), exponential), (stats.uniform(0, scale), uniform)):
            assert cgc.expected_runtime([x0, x1], law) == pytest.approx(expected * scale, rel=1e-10)


def exponential_runtime(sizes):
    """E[tau] of unit exponentials as a fraction; N <= 6.

    With A_k = exp(-t / cycles_(N-k)), P[tau <= t] is the sum over all ways in which k or more of the N points
    lie below b_k = 1 - A_k: a polynomial in A_1..A_N with integer coefficients. 1 - P is integrated term by
    term, prod A_k^m_k to 1 / sum(m_k / cycles_(N-k)).
    """
    workers = len(sizes)
    work = np.cumsum([(n + 1) * Fraction(x) for n, x in enumerate(sizes)])
    cycles = [w / workers for w in work[::-1]]  # of k = 1..N
    states = {0: {(0,) * workers: 1}}  # points so far -> {exponents of A: coefficient}
    for k in range(workers):
        after = {}
        for points, polynomial in states.items():
            for more in range(max(0, k + 1 - points), workers - points + 1):
                target = after.setdefault(points + more, {})
                # Of the remaining points `more` lie between b_(k-1) and b_k: (A_(k-1) - A_k)^more.
                ways = math.comb(workers - points, more)
                for exponents, coefficient in polynomial.items():
                    for j in range(more + 1):
                        power = list(exponents)
                        power[k] += j
                        if k:
                            power[k - 1] += more - j
                        term = ways * math.comb(more, j) * (-1) ** j * coefficient
                        target[tuple(power)] = target.get(tuple(power), 0) + term
        states = after
    polynomial = states[workers]
    assert polynomial.pop((0,) * workers) == 1
    rates = ((sum(m / c for m, c in zip(p, cycles, strict=True)), q) for p, q in polynomial.items() if q)
    return -sum((q / rate for rate, q in rates), Fraction(0))


@settings(max_examples=25)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(1, 30))
def test_exponentials_as_fractions(sizes, lowest):
    # The lowest level must be used here, or 1 / cycles is no number.
    sizes = [lowest, *sizes]
    expected = float(exponential_runtime(sizes))
    # The quadrature is refined until two integrals agree to 1e-11.
    assert cgc.expected_runtime(sizes, stats.expon()) == pytest.approx(expected, rel=1e-10)


# --- failure probabilities, however small ---


def failure_exactly(above):
    """1 - P[U_(k) <= 1 - above_k for all k] for falling numbers of any exact type; O(N^3)."""
    workers = len(above)
    one = above[0] * 0 + 1
    states, previous = {0: one}, one
    for k, q in enumerate(above):
        after = {}
        for points, probability in states.items():
            for more in range(max(0, k + 1 - points), workers - points + 1):
                below = (previous - q) ** more if more else one  # 0 ** 0 is an error in decimals
                term = probability * math.comb(workers - points, more) * below
                after[points + more] = after.get(points + more, 0) + term
        states, previous = after, q
    return one - states[workers]


def thresholds_of(plan, exponents):
    """Times beyond which about 10^-e of the iterations last, by bisection on the plan's own answer."""
    found = []
    for exponent in exponents:
        low, high = -50.0, 300.0
        for _ in range(60):
            middle = (low + high) / 2
            if plan.failure_probability(math.exp(middle)) > 10.0**-exponent:
                low = middle
            else:
                high = middle
        found.append(math.exp(high))
    return found


@pytest.mark.parametrize("workers", [1, 2, 4, 6])
@pytest.mark.parametrize("method", ["mean_time", "single_level", "exact"])
@pytest.mark.parametrize("name", ["Pareto", "exponential", "Weibull"])
def test_failures_of_few_workers_exactly(name, method, workers):
    law = {"Pareto": stats.pareto(3), "exponential": stats.expon(), "Weibull": stats.weibull_min(2)}[name]
    plan = cgc.plan(workers, 1000, law, method=method)
    work = np.cumsum(np.arange(1, workers + 1) * plan.block_sizes)
    for threshold in thresholds_of(plan, [1, 12, 30, 60]):
        with localcontext() as context:
            context.prec = 250  # a failure of 1e-60 is the difference of numbers near 1
            asked = [Decimal(threshold) * workers / int(w) if w else None for w in work[::-1]]
            survival = {
                "Pareto": lambda a: max(a, Decimal(1)) ** -3,
                "exponential": lambda a: (-a).exp(),
                "Weibull": lambda a: (-a * a).exp(),
            }[name]
            above = [Decimal(0) if a is None else survival(a) for a in asked]
            expected = float(failure_exactly(above))
        # Survival functions lose some 1e-16 for each unit of their exponent, 140 at most.
        assert plan.failure_probability(threshold) == pytest.approx(expected, rel=1e-11, abs=0)
        assert plan.completion_probability(threshold) == pytest.approx(1 - expected, rel=1e-11)


@pytest.mark.parametrize("workers", [1, 7, 50, 200])
@pytest.mark.parametrize("name", [name for name in LAWS if name != "mixture"])
def test_one_level_fails_binomially(name, workers):
    law = LAWS[name]
    for level in sorted({0, workers // 10, workers // 2, workers - 1}):
        sizes = np.eye(workers)[level]
        for probability in (0.5, 1e-3, 1e-8):
            asked = float(law.isf(probability))
            # More than `level` workers must outlast t.
            expected = special.betainc(level + 1, workers - level, law.sf(asked))
            plan = one_level_plan(name, workers, level)
            got = plan.failure_probability(asked * (level + 1) / workers * 1000)
            if expected > 1e-280:
                # The bound a = t / cycles comes back up to 2 roundings, which the level + 1 powers and the
                # slope of the survival function (under 100 units of a relative step) multiply.
                assert got == pytest.approx(expected, rel=1e-10 + 3e-14 * (level + 1))
            inside = cgc.completion_probability(sizes, law, asked * (level + 1) / workers)
            below = special.betainc(workers - level, level + 1, law.cdf(asked))
            assert inside == pytest.approx(below, rel=1e-10 + 3e-14 * workers, abs=1e-280)


@functools.cache
def one_level_plan(name, workers, level):
    return cgc.plan(
        workers, 1000, LAWS[name], method="single_level", min_redundancy=level, max_parts=level + 1
    )


@settings(max_examples=30)
@given(st.data())
def test_uniform_workers_as_fractions(data):
    workers = data.draw(st.integers(1, 6))
    sizes = data.draw(st.lists(st.integers(0, 5), min_size=workers, max_size=workers).filter(any))
    threshold = Fraction(data.draw(st.integers(1, 64 * sum(sizes))), 64)
    work = np.cumsum([(n + 1) * x for n, x in enumerate(sizes)])
    below = [min(threshold * workers / int(w), Fraction(1)) if w else Fraction(1) for w in work[::-1]]
    failure = failure_exactly([1 - b for b in below])
    # Some dozens of roundings; where almost all of 1 is missing or left, the other one has all the digits.
    inside = cgc.completion_probability(sizes, stats.uniform(0, 1), float(threshold))
    assert inside == pytest.approx(float(1 - failure), rel=1e-11, abs=0)


# --- gradients ---


@settings(max_examples=40)
@given(
    st.sampled_from([name for name in LAWS if name != "mixture"]),
    st.integers(1, 30),
    st.integers(0, 2**32),
    st.floats(0.2, 1.0),
)
def test_the_gradient_times_the_sizes_is_the_runtime(name, workers, seed, share):
    generator = np.random.default_rng(seed)
    sizes = 100.0 * generator.dirichlet(np.ones(workers)) * (generator.random(workers) < share)
    sizes[generator.integers(workers)] += 1.0
    law = LAWS[name]
    mean = ExactRuntime(IdenticalLaw(law, workers)).mean(level_cycles(sizes, Cost()))
    gradient = np.arange(1, workers + 1) / workers * np.cumsum(mean.gradient[::-1])[::-1]
    assert np.all(gradient >= 0)
    # Two integrals; `mean` refines them until they agree to 1e-11, or 1e-7 where a kink keeps them apart.
    assert gradient @ sizes == pytest.approx(mean.value, rel=1e-7)


@pytest.mark.parametrize("name", [name for name in LAWS if name != "mixture"])
@pytest.mark.parametrize("workers", [2, 6, 25])
def test_the_gradient_by_block_sizes_is_the_difference_quotient(name, workers):
    law = LAWS[name]
    generator = np.random.default_rng(workers)
    sizes = 100.0 * generator.dirichlet(np.full(workers, 3.0))
    mean = ExactRuntime(IdenticalLaw(law, workers)).mean(level_cycles(sizes, Cost()))
    gradient = np.arange(1, workers + 1) / workers * np.cumsum(mean.gradient[::-1])[::-1]
    for level in {0, workers // 2, workers - 1}:
        step = 1e-3 * sizes[level] * np.eye(workers)[level]
        above, below = cgc.expected_runtime(sizes + step, law), cgc.expected_runtime(sizes - step, law)
        quotient = (above - below) / (2 * step[level])
        # 1e-6 of third derivatives, and 1e-10 of the runtime divided by the step.
        noise = 1e-10 * mean.value / step[level]
        assert quotient == pytest.approx(gradient[level], rel=1e-4, abs=noise)
