"""Expected runtimes and completion probabilities that are Monte Carlo: values and standard errors."""

import itertools

import numpy as np
import pytest
from scipy import integrate, stats

import cgc_fast as cgc
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError

# W = (2, 8, 11): every level is used.
SIZES = [2, 3, 1]
ATOMS = stats.rv_discrete(values=([1.0, 2.0, 5.0], [0.5, 0.3, 0.2]))()
LAWS = [stats.expon(loc=1), stats.uniform(loc=0.5, scale=3), stats.gamma(2, scale=2)]


def enumerated(law, threshold):
    """Mean runtime and completion probability over all outcomes of three workers with atoms."""
    mean = probability = 0.0
    for times in itertools.product(zip(law.dist.xk, law.dist.pk, strict=True), repeat=3):
        weight = np.prod([p for _, p in times])
        done = cgc.runtime(SIZES, [[t for t, _ in times]])[0]
        mean += weight * done
        probability += weight * (done <= threshold)
    return mean, probability


def of_two(first, second, threshold):
    """P[tau <= t] of the block sizes (1, 1) of two independent workers: T_(2) / 2 <= t, 3 T_(1) / 2 <= t."""
    late, early = 2 * threshold, 2 * threshold / 3
    return first.cdf(late) * second.cdf(late) - (first.cdf(late) - first.cdf(early)) * (
        second.cdf(late) - second.cdf(early)
    )


def test_atoms_against_all_outcomes():
    mean, probability = enumerated(ATOMS, 6.0)
    runtime = cgc.estimate_runtime(SIZES, ATOMS)
    assert 0 < runtime.standard_error < 0.05
    assert runtime.value == pytest.approx(mean, abs=4 * runtime.standard_error)
    assert cgc.expected_runtime(SIZES, ATOMS) == runtime.value
    completion = cgc.estimate_completion(SIZES, ATOMS, 6.0)
    assert completion.standard_error == pytest.approx(
        np.sqrt(probability * (1 - probability) / 20_000), rel=0.02
    )
    assert completion.value == pytest.approx(probability, abs=4 * completion.standard_error)
    assert cgc.completion_probability(SIZES, ATOMS, 6.0) == completion.value


def test_workers_of_one_speed():
    # The same T for all: W of the last level counts, (1/3) 11 T, however T is distributed.
    always = cgc.estimate_runtime(SIZES, stats.rv_discrete(values=([2.0], [1.0]))())
    assert always.value == pytest.approx(22 / 3, rel=1e-14)
    assert always.standard_error <= 1e-15
    times = LAWS[0].rvs(size=(500, 1), random_state=np.random.default_rng(0))
    trace = cgc.Trace(np.tile(times, 3))
    together = cgc.estimate_runtime(SIZES, trace)
    assert together.value == pytest.approx(11 / 3 * times.mean(), rel=1e-13)
    assert together.standard_error == 0
    threshold = 11 / 3 * float(np.median(times))
    assert cgc.estimate_completion(SIZES, trace, threshold) == cgc.Estimate(0.5, 0.0)


def test_different_laws_against_quadrature():
    first, second = LAWS[0], LAWS[2]
    runtime = cgc.estimate_runtime([1, 1], [first, second])
    expected, _ = integrate.quad(lambda t: 1 - of_two(first, second, t), 0, 40, limit=200)
    assert runtime.value == pytest.approx(expected, abs=4 * runtime.standard_error)
    assert 0 < runtime.standard_error < 0.05
    for threshold in (1.0, 2.0, 4.0):
        completion = cgc.estimate_completion([1, 1], [first, second], threshold)
        probability = of_two(first, second, threshold)
        assert completion.value == pytest.approx(probability, abs=4 * completion.standard_error)


def test_dependent_workers_are_the_rows():
    generator = np.random.default_rng(1)
    times = generator.exponential(size=(50, 3)) + generator.exponential(size=(50, 1)) + 0.1
    done = cgc.runtime(SIZES, times)
    runtime = cgc.estimate_runtime(SIZES, cgc.Trace(times))
    assert runtime.value == pytest.approx(done.mean(), rel=1e-14)
    assert runtime.standard_error == 0
    # Independent workers with the same distributions take another time.
    shuffled = np.column_stack([generator.permutation(column) for column in times.T])
    assert abs(cgc.expected_runtime(SIZES, cgc.Trace(shuffled)) - runtime.value) > 0.01 * runtime.value
    threshold = float(np.sort(done)[19])
    assert cgc.estimate_completion(SIZES, cgc.Trace(times), threshold) == cgc.Estimate(0.4, 0.0)


@pytest.mark.parametrize("model", [ATOMS, LAWS], ids=["atoms", "laws"])
@pytest.mark.parametrize("scheme", ["cyclic", "fractional_repetition"])
def test_standard_errors_are_the_scatter_over_seeds(model, scheme):
    keywords = {"draws": 200, "scheme": scheme}
    for estimate in (
        lambda seed: cgc.estimate_runtime(SIZES, model, seed=seed, **keywords),
        lambda seed: cgc.estimate_completion(SIZES, model, 6.0, seed=seed, **keywords),
    ):
        estimates = [estimate(seed) for seed in range(40)]
        scatter = np.std([e.value for e in estimates], ddof=1)
        # A standard deviation of 40 values has the relative error 1 / sqrt(78) = 0.11.
        assert scatter == pytest.approx(np.mean([e.standard_error for e in estimates]), rel=0.45)


def test_exact_values_have_no_error():
    assert cgc.estimate_runtime(SIZES, LAWS[0]).standard_error == 0
    assert cgc.estimate_completion(SIZES, LAWS[0], 5.0).standard_error == 0
    for law in (cgc.Never(stats.expon(), 0.1), cgc.Mixture([stats.expon(), stats.uniform(1, 2)], [0.5, 0.5])):
        assert cgc.estimate_completion(SIZES, law, 5.0) == cgc.Estimate(
            cgc.completion_probability(SIZES, law, 5.0), 0.0
        )
    assert cgc.estimate_runtime([1, 0], stats.pareto(1)) == cgc.Estimate(np.inf, 0.0)


def test_an_error_remains_if_no_draw_is_complete():
    nothing = cgc.estimate_completion(SIZES, LAWS, 0.01)
    assert nothing.value == 0
    assert nothing.standard_error == pytest.approx(1 / 20_000, rel=0.01)


def test_thresholds_that_are_no_single_time_are_refused():
    with pytest.raises(ArgumentTypeError, match="threshold"):
        cgc.estimate_completion(SIZES, LAWS, [1.0, 2.0])
    with pytest.raises(ArgumentValueError, match="threshold"):
        cgc.estimate_completion(SIZES, LAWS, -1.0)
