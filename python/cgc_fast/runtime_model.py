"""Overall runtime of an iteration: of given draws of the cycle times, and its expectation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgc_fast.arguments import Cost, integer, numbers, quantity
from cgc_fast.censoring import complete
from cgc_fast.errors import ArgumentValueError, NumericalError
from cgc_fast.exact_runtime import ExactRuntime, completion_solvable, exactly_solvable, level_cycles
from cgc_fast.levels import CyclicLevels, Levels, make_levels
from cgc_fast.mixtures import kinks
from cgc_fast.order_statistics import Means
from cgc_fast.partition import as_real_block_sizes
from cgc_fast.straggler_models import IdenticalLaw, StragglerModel, Trace, as_straggler_model

__all__ = [
    "Estimate",
    "completion_probability",
    "estimate_completion",
    "estimate_runtime",
    "expected_runtime",
    "runtime",
]

Array = NDArray[np.float64]

# Entries of a chunk of draws: 32 MiB, so that draws of thousands of workers need little memory.
_CHUNK = 2**22


def runtime(
    block_sizes: ArrayLike,
    cycle_times: ArrayLike,
    *,
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
    scheme: str = "cyclic",
) -> Array:
    """Runtime tau(x, T) of an iteration for each draw of the cycle times.

    For cyclic codes [WANG22], with a forward pass of c cycles per sample added:
    (M/N) max_{n: x_n > 0} T_(N-n) (b W_n + c (n+1)), W_n = sum_{i <= n} (i+1) x_i.

    Parameters
    ----------
    block_sizes : array-like of shape (N,)
        x, >= 0; real numbers are taken (the relaxation).
    cycle_times : array-like of shape (S, N) or (N,)
        T, seconds per cycle, positive; infinity for a worker that never answers.
    samples, cycles_per_derivative, forward_cycles : float
        M, b, c.
    scheme : {"cyclic", "fractional_repetition"}
        With fractional repetition, blocks of levels with equally many groups are one block.

    Returns
    -------
    ndarray of float64 of shape (S,)
        Seconds; infinity if an iteration never ends. S = 1 for a single draw (N,).

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        Wrong shapes or types, negative block sizes, cycle times that are NaN or not positive.

    Notes
    -----
    O(S N log N) for cyclic codes.

    Examples
    --------
    >>> runtime([2, 1], [[3.0, 1.0]])  # max(3 * 2, 1 * (2 + 2)) / 2
    array([3.])
    """
    sizes = as_real_block_sizes(block_sizes)
    cost = Cost(samples, cycles_per_derivative, forward_cycles)
    levels = make_levels(scheme, len(sizes))
    times = numbers("cycle_times", cycle_times)
    times = np.ascontiguousarray(np.atleast_2d(times), dtype=np.float64)
    if times.ndim != 2 or times.shape[1] != len(sizes):
        raise ArgumentValueError(
            f"cycle_times: expected shape (draws, {len(sizes)}), got {np.shape(cycle_times)}"
        )
    if not np.all(times > 0):
        raise ArgumentValueError(
            "cycle_times: expected positive numbers or infinity, got NaN or numbers <= 0"
        )
    return levels.runtimes(times, levels.statistics(times), levels.gather(sizes), cost)


def expected_runtime(
    block_sizes: ArrayLike,
    cycle_time: object,
    *,
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
    scheme: str = "cyclic",
    draws: int = 20_000,
    seed: int = 0,
) -> float:
    """Expected runtime E[tau(x, T)] in seconds; parameters as in `runtime`.

    Parameters
    ----------
    cycle_time : frozen scipy.stats law, sequence of N laws, or Trace
        Distribution of T. For a trace: the mean over its rows, censored entries
        imputed (`censoring.impute`).
    draws, seed : int
        Monte Carlo draws and their seed. Not used for a trace, for i.i.d. workers with a continuous law and
        cyclic codes (exact up to N = 2000, unless the density has more kinks than the quadrature resolves to
        1e-7), for i.i.d. workers and all coordinates at one level, nor where the expectation is infinite.
        `estimate_runtime` also gives the standard error.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        As in `runtime`, or `cycle_time` is no model for N workers.
    """
    return estimate_runtime(
        block_sizes,
        cycle_time,
        samples=samples,
        cycles_per_derivative=cycles_per_derivative,
        forward_cycles=forward_cycles,
        scheme=scheme,
        draws=draws,
        seed=seed,
    ).value


def estimate_runtime(
    block_sizes: ArrayLike,
    cycle_time: object,
    *,
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
    scheme: str = "cyclic",
    draws: int = 20_000,
    seed: int = 0,
) -> Estimate:
    """Expected runtime with its standard error; everything as in `expected_runtime`.

    The standard error is 0 where the value is exact, or infinite; also for a trace, whose rows are the model.
    It is infinite for a single draw.

    Examples
    --------
    >>> from scipy import stats
    >>> estimate_runtime([1, 1], stats.expon(loc=1)).standard_error  # i.i.d., continuous: exact
    0.0
    >>> one_each = [stats.expon(loc=1), stats.expon(loc=2)]
    >>> 0 < estimate_runtime([1, 1], one_each).standard_error < 0.1
    True
    """
    sizes = as_real_block_sizes(block_sizes)
    cost = Cost(samples, cycles_per_derivative, forward_cycles)
    levels = make_levels(scheme, len(sizes))
    model = as_straggler_model(cycle_time, len(sizes))
    draws = integer("draws", draws, 1)
    for_means, for_score, for_censored = (
        np.random.default_rng(child) for child in np.random.SeedSequence(integer("seed", seed, 0)).spawn(3)
    )
    model, _ = complete(model, for_censored)
    means = levels.mean_statistics(model, draws=draws, generator=for_means)
    (estimate,) = evaluate(levels, [levels.gather(sizes)], model, means, cost, draws, for_score).estimates
    return estimate


def completion_probability(
    block_sizes: ArrayLike,
    cycle_time: object,
    threshold: ArrayLike,
    *,
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
    scheme: str = "cyclic",
    draws: int = 20_000,
    seed: int = 0,
) -> float | Array:
    """Probability P[tau(x, T) <= t] that an iteration is complete by the threshold t.

    Parameters as in `runtime`, and:

    Parameters
    ----------
    cycle_time : frozen scipy.stats law, sequence of N laws, or Trace
        Distribution of T. For a trace: the fraction of its rows, censored entries imputed
        (`censoring.impute`).
    threshold : array-like of any shape
        t, seconds.
    draws, seed : int
        Monte Carlo draws and their seed; `estimate_completion` gives the standard error. Not used for a trace
        nor for cyclic codes and i.i.d. workers whose law has a density, mixtures and `Never` included, which
        are exact (up to N = 2000).

    Returns
    -------
    float, or ndarray of float64 with the shape of `threshold`

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        As in `expected_runtime`, or thresholds that are no numbers, NaN or negative.

    Notes
    -----
    A boundary-crossing probability of order statistics [MOSCOVICH17]; about O(N^1.5) a threshold.

    Examples
    --------
    >>> from scipy import stats
    >>> round(completion_probability([3], stats.expon(), 3.0), 6)  # one worker: P[T <= 1]
    0.632121
    """
    inside, _ = completion_and_failure(
        block_sizes,
        cycle_time,
        threshold,
        Cost(samples, cycles_per_derivative, forward_cycles),
        scheme=scheme,
        draws=draws,
        seed=seed,
    )
    return inside


def estimate_completion(
    block_sizes: ArrayLike,
    cycle_time: object,
    threshold: float,
    *,
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
    scheme: str = "cyclic",
    draws: int = 20_000,
    seed: int = 0,
) -> Estimate:
    """Completion probability at one threshold with its standard error; as in `completion_probability`.

    The standard error is 0 where the value is exact, also for a trace, whose rows are the model. Of a
    fraction k / S of S draws it is sqrt(p (1 - p) / S) with p = (k + 1) / (S + 2), which stays positive if
    all draws or none are complete.
    """
    given = quantity("threshold", threshold)
    sizes = as_real_block_sizes(block_sizes)
    cost = Cost(samples, cycles_per_derivative, forward_cycles)
    inside, _ = completion_and_failure(sizes, cycle_time, given, cost, scheme=scheme, draws=draws, seed=seed)
    value = float(inside)
    model = as_straggler_model(cycle_time, len(sizes))
    if isinstance(model, Trace) or (scheme == "cyclic" and completion_solvable(model)):
        return Estimate(value, 0.0)
    likely = (value * draws + 1.0) / (draws + 2.0)
    return Estimate(value, float(np.sqrt(likely * (1.0 - likely) / draws)))


def completion_and_failure(
    block_sizes: ArrayLike,
    cycle_time: object,
    threshold: ArrayLike,
    cost: Cost,
    *,
    scheme: str,
    draws: int,
    seed: int,
) -> tuple[float | Array, float | Array]:
    """P[tau <= t] and P[tau > t], arguments as in `completion_probability`.

    Where it is exact, the failure probability keeps its relative accuracy however small it is.
    """
    sizes = as_real_block_sizes(block_sizes)
    levels = make_levels(scheme, len(sizes))
    model = as_straggler_model(cycle_time, len(sizes))
    draws, seed = integer("draws", draws, 1), integer("seed", seed, 0)
    given = checked_thresholds(threshold)
    times = np.ascontiguousarray(given, dtype=np.float64).ravel()
    if scheme == "cyclic" and completion_solvable(model):
        inside, failure = ExactRuntime(model).probabilities(times, level_cycles(sizes, cost))
    else:
        model, _ = complete(model, np.random.default_rng(np.random.SeedSequence(seed).spawn(3)[2]))
        sampled, _ = completion_of_draws(
            levels, [levels.gather(sizes)], model, times, cost, draws, np.random.default_rng(seed)
        )
        inside = sampled[0]
        failure = 1.0 - inside
    if given.ndim == 0:
        return float(inside[0]), float(failure[0])
    return inside.reshape(given.shape), failure.reshape(given.shape)


def checked_thresholds(threshold: ArrayLike) -> Array:
    """Thresholds as an array of any shape, none of them negative or NaN."""
    given = np.asarray(numbers("threshold", threshold, "seconds"), dtype=np.float64)
    if not np.all(given >= 0):
        raise ArgumentValueError("threshold: expected seconds >= 0, got NaN or a negative number")
    return given


def completion_of_draws(
    levels: Levels,
    candidates: Sequence[Array],
    model: StragglerModel,
    thresholds: Array | float,
    cost: Cost,
    draws: int,
    generator: np.random.Generator,
) -> tuple[Array, int]:
    """Fractions (candidates, *thresholds) of common draws, or of a trace's rows, that complete; and how many.

    An iteration that never ends is not complete by infinity either.
    """
    inside, count = np.zeros((len(candidates), *np.shape(thresholds))), 0
    for times in _chunks(model, draws, generator):
        statistics = levels.statistics(times)
        for index, sizes in enumerate(candidates):
            done = levels.runtimes(times, statistics, sizes, cost)
            inside[index] += np.searchsorted(np.sort(done[np.isfinite(done)]), thresholds, side="right")
        count += len(times)
    return inside / count, count


@dataclass(frozen=True)
class Estimate:
    """An expected runtime in seconds or a probability, and its standard error, 0 where it is exact.

    Attributes
    ----------
    value, standard_error : float
        The standard error is that of a mean over independent draws.
    """

    value: float
    standard_error: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Candidates scored on common draws.

    Attributes
    ----------
    estimates : list of Estimate
        The best that is known of each: exact where possible.
    sampled : ndarray of float64 of shape (C,)
        Means over the common draws, for comparing candidates with each other.
    """

    estimates: list[Estimate]
    sampled: Array


def evaluate(
    levels: Levels,
    candidates: Sequence[Array],
    model: StragglerModel,
    means: Means,
    cost: Cost,
    draws: int,
    generator: np.random.Generator,
) -> Evaluation:
    """Expected runtimes of candidate sizes (K,) on common draws; `means` are the levels' E[R_k].

    A mean over the rows of a trace is exact. So is a single level with an exact mean, and infinity, which a
    plan has if and only if one of its levels has it. For cyclic codes and i.i.d. workers with a continuous
    law every value is exact, and nothing is drawn, unless the quadrature fails for one of them.
    """
    if isinstance(levels, CyclicLevels) and exactly_solvable(model):
        # Where the quadrature misses its accuracy the draws decide, and the standard errors tell.
        with suppress(NumericalError):
            exact = [_exact_estimate(levels, sizes, model, means, cost) for sizes in candidates]
            return Evaluation(exact, np.array([estimate.value for estimate in exact]))
    runtimes: list[list[Array]] = [[] for _ in candidates]
    for times in _chunks(model, draws, generator):
        statistics = levels.statistics(times)
        for sizes, done in zip(candidates, runtimes, strict=True):
            done.append(levels.runtimes(times, statistics, sizes, cost))

    estimates, sampled = [], np.empty(len(candidates))
    for index, sizes in enumerate(candidates):
        used = np.flatnonzero(sizes)
        values = np.concatenate(runtimes[index])
        finite = bool(np.isfinite(means.values[used]).all())
        sampled[index] = values.mean() if finite else np.inf
        if not finite:
            estimates.append(Estimate(float("inf"), 0.0))
        elif isinstance(model, Trace):
            estimates.append(Estimate(float(sampled[index]), 0.0))
        elif len(used) == 1 and means.exact:
            cycles = levels.single_level_cycles(float(sizes[used[0]]), cost)
            estimates.append(Estimate(float(cycles[used[0]] * means.values[used[0]]), 0.0))
        else:
            error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.inf
            estimates.append(Estimate(float(sampled[index]), float(error)))
    return Evaluation(estimates, sampled)


def _exact_estimate(
    levels: CyclicLevels, sizes: Array, model: IdenticalLaw, means: Means, cost: Cost
) -> Estimate:
    used = np.flatnonzero(sizes)
    if not np.isfinite(means.values[used]).all():
        return Estimate(float("inf"), 0.0)
    # The quadrature behind the means does not see kinks.
    if len(used) == 1 and means.exact and not len(kinks(model.law)):
        cycles = levels.single_level_cycles(float(sizes[used[0]]), cost)
        return Estimate(float(cycles[used[0]] * means.values[used[0]]), 0.0)
    return Estimate(ExactRuntime(model).mean(level_cycles(levels.expand(sizes), cost)).value, 0.0)


def _chunks(model: StragglerModel, draws: int, generator: np.random.Generator) -> Iterator[Array]:
    """Draws (<= draws, N) in chunks; the rows of a trace, each once."""
    rows = max(1, _CHUNK // model.workers)
    if isinstance(model, Trace):
        for start in range(0, len(model.times), rows):
            yield model.times[start : start + rows]
        return
    for start in range(0, draws, rows):
        yield model.draw(generator, min(rows, draws - start))
