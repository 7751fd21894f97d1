"""What every comparison shows beside the plans: runtimes (S,) of other schemes on draws (S, N).

All take the cycle times as the first and the number of coordinates L as the second argument, and M, b and c
as keywords. A worker that computes all coordinates of a share f of the samples takes T_w f M (b L + c)
seconds, so that the forward pass only stretches the schemes that work by samples. Their means over draws are
estimates of the expected runtimes; where a parameter is left out, it is the best for the mean on these very
draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgc_fast.arguments import Cost, integer, numbers, quantity
from cgc_fast.errors import ArgumentValueError
from cgc_fast.runtime_model import runtime

__all__ = [
    "best_partial_stragglers_level",
    "best_single_level",
    "hierarchical",
    "hierarchical_block_sizes",
    "load_balancing",
    "lower_bound",
    "partial_gradient_coding",
    "partial_stragglers",
    "single_level",
    "uncoded",
]

Array = NDArray[np.float64]

ALPHA = 6.0  # of the published figures [WANG22]
_MOST_LAYERS = 1_000_000
_MOST_ENDS = 20_000  # common times of layers that are tried


def uncoded(
    cycle_times: ArrayLike,
    coordinates: int,
    *,
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
) -> Array:
    """Equal parts, every worker is waited for: (M/N) (b L + c) T_(N). O(S N)."""
    times = _checked(cycle_times)
    cost = Cost(samples, cycles_per_derivative, forward_cycles)
    done: Array = _all_samples(cost, coordinates) / times.shape[1] * times.max(axis=1)
    return done


def single_level(
    cycle_times: ArrayLike,
    coordinates: int,
    redundancy: int | None = None,
    *,
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
) -> Array:
    """Gradient coding for full stragglers [TANDON17]: (M/N) (b L + c) (s+1) T_(N-s). O(S N log N).

    Parameters
    ----------
    redundancy : int, optional
        s; the best by default.
    """
    times = np.sort(_checked(cycle_times), axis=1)
    workers = times.shape[1]
    cost = Cost(samples, cycles_per_derivative, forward_cycles)
    if redundancy is None:
        redundancy = _best_level(times)
    s = integer("redundancy", redundancy, 0, workers - 1)
    done: Array = _all_samples(cost, coordinates) / workers * (s + 1) * times[:, workers - 1 - s]
    return done


def best_single_level(cycle_times: ArrayLike) -> int:
    """Level s of the least mean of (s+1) T_(N-s); forward passes do not change it."""
    return _best_level(np.sort(_checked(cycle_times), axis=1))


def partial_stragglers(
    cycle_times: ArrayLike,
    coordinates: int,
    redundancy: int | None = None,
    alpha: float = ALPHA,
    *,
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
) -> Array:
    """Gradient coding for partial stragglers [TANDON17]: an uncoded share of the data, and a coded one.

    Runtime (M/N) (b L + c) (s+1)/(s+alpha) max(alpha T_(N-s), T_(N)): designed for stragglers that are alpha
    times slower than the others. O(S N log N).

    Parameters
    ----------
    redundancy : int, optional
        s; the best by default.
    alpha : float
        At least 1; 6 in the published figures.
    """
    times = np.sort(_checked(cycle_times), axis=1)
    workers = times.shape[1]
    cost = Cost(samples, cycles_per_derivative, forward_cycles)
    if redundancy is None:
        redundancy = best_partial_stragglers_level(times, alpha)
    s = integer("redundancy", redundancy, 0, workers - 1)
    slowest = np.maximum(_alpha(alpha) * times[:, workers - 1 - s], times[:, -1])
    done: Array = _all_samples(cost, coordinates) / workers * (s + 1) / (s + alpha) * slowest
    return done


def best_partial_stragglers_level(cycle_times: ArrayLike, alpha: float = ALPHA) -> int:
    """Level s of the least mean runtime of `partial_stragglers`; forward passes do not change it."""
    times = np.sort(_checked(cycle_times), axis=1)
    workers, alpha = times.shape[1], _alpha(alpha)
    means = [
        (s + 1) / (s + alpha) * np.maximum(alpha * times[:, workers - 1 - s], times[:, -1]).mean()
        for s in range(workers)
    ]
    return int(np.argmin(means))


def load_balancing(
    cycle_times: ArrayLike,
    coordinates: int,
    speeds: ArrayLike | None = None,
    *,
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
) -> Array:
    """Uncoded, with shares of the samples proportional to the workers' mean speeds. O(S N).

    Parameters
    ----------
    speeds : array-like of shape (N,), optional
        Positive, in any unit. By default the reciprocals of the mean cycle times of these draws; measure
        them on other draws to be fair.
    """
    times = _checked(cycle_times)
    cost = Cost(samples, cycles_per_derivative, forward_cycles)
    rates = 1.0 / times.mean(axis=0) if speeds is None else numbers("speeds", speeds).astype(np.float64)
    if rates.shape != (times.shape[1],):
        raise ArgumentValueError(f"speeds: expected shape ({times.shape[1]},), got {rates.shape}")
    if not (np.all(rates >= 0) and np.isfinite(rates).all() and rates.any()):
        raise ArgumentValueError("speeds: expected finite numbers >= 0, at least one of them positive")
    used = rates > 0  # a worker of speed 0 gets nothing, and 0 * infinity = 0
    shares = rates[used] / rates.sum()
    slowest: Array = (times[:, used] * shares).max(axis=1)
    return _all_samples(cost, coordinates) * slowest


def hierarchical_block_sizes(mean_times: ArrayLike, coordinates: int, layers: int) -> Array:
    """Block sizes x (N,), real, of r layers that each worker spends equal work on [FERDINAND18].

    Layer i = 1..r of level s_i ends at about i E[T_(N-s_i)] units of work; the levels are the lowest that
    end in a common time, and that time is the one of the least expected runtime.

    Parameters
    ----------
    mean_times : array-like of shape (N,)
        t_n = E[T_(n)], rising; infinity for levels that cannot be used.
    coordinates : int
        L.
    layers : int
        r, 1..10^6. One layer is the best single level, many approach the mean-time approximation.

    Notes
    -----
    The published figures [WANG22] draw this scheme with r = L on top of the best single level; they do not
    say how its levels were chosen. Were each layer's level chosen for itself, by the least (s+1) E[T_(N-s)],
    all would be the best single level for any r. By the rule used here, many layers are better than that
    where the mean-time approximation is. O(C N) for C <= 20,000 common times that are tried.
    """
    means = numbers("mean_times", mean_times).astype(np.float64)
    coordinates = integer("coordinates", coordinates, 1)
    layers = integer("layers", layers, 1, _MOST_LAYERS)
    if means.ndim != 1 or not len(means):
        raise ArgumentValueError(f"mean_times: expected shape (workers,), got {means.shape}")
    if not (0 < means[0] < np.inf and np.all(means[:-1] <= means[1:])):
        raise ArgumentValueError(
            f"mean_times: expected positive numbers, rising, the first one finite, got {means}"
        )
    level_times = means[::-1]  # level n waits for T_(N-n)
    work = np.arange(1.0, len(level_times) + 1)
    best, best_value = np.zeros(len(level_times)), np.inf
    # Some layer ends exactly at the common time, or a shorter one would do.
    ends = np.outer(np.arange(1.0, layers + 1), level_times[np.isfinite(level_times)]).ravel()
    ends = np.unique(ends[ends >= layers * level_times[-1]])
    for end in ends[:: -(-len(ends) // _MOST_ENDS)]:
        until = np.minimum(np.floor(end / level_times * (1 + 1e-12)), layers)  # layers that level n can end
        count = np.diff(until, prepend=0.0)
        sizes = count / work
        value = end / sizes.sum()
        if value < best_value:
            best, best_value = sizes * coordinates / sizes.sum(), value
    return best


def hierarchical(
    cycle_times: ArrayLike,
    coordinates: int,
    layers: int = 10,
    *,
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
) -> Array:
    """Hierarchical coded computation [FERDINAND18] with cyclic codes: see `hierarchical_block_sizes`.

    The levels are chosen by the mean order statistics of these draws. O(S N log N).
    """
    times = _checked(cycle_times)
    means = np.sort(times, axis=1).mean(axis=0)
    return runtime(
        hierarchical_block_sizes(means, coordinates, layers),
        times,
        samples=samples,
        cycles_per_derivative=cycles_per_derivative,
        forward_cycles=forward_cycles,
    )


def partial_gradient_coding(
    cycle_times: ArrayLike,
    coordinates: int,
    parts: int = 2,
    split: int = 1,
    *,
    whole: bool = False,
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
) -> Array:
    """Gradient coding that counts every finished chunk of samples [RAMAMOORTHY24], cyclic assignment.

    Worker w holds the chunks w, ..., w + r - 1 (mod N) of M/N samples and goes through them in this order, so
    that every chunk is the first of one worker, the second of another, and so on. It is over when each chunk
    is done by l of its holders: then every worker sends one vector of L / l values, a sum over what it has
    done with coefficients that the master has told it. These messages, and those that say how far it is,
    take no time here. O(S N r).

    Parameters
    ----------
    parts : int
        r, chunks that a worker holds, 1..N.
    split : int
        l, 1..r: into how many pieces a gradient is split.
    whole : bool
        Count a worker only when it is done with all its chunks: the class of codes that the published
        figures compare with.

    Notes
    -----
    In the published setting (N = 200, r = 8, a chunk takes a worker an exponential time of mean 1, the end
    rounded up to whole units) 5.59, 8.26 and 10.97 units are given for `whole` and l = 1, 2, 3, and 2.55,
    3.92, 5.65 for the scheme; `bench/bench_schemes.py` shows ours beside them.
    """
    times = _checked(cycle_times)
    workers = times.shape[1]
    r = integer("parts", parts, 1, workers)
    needed = integer("split", split, 1, r)
    # Column i: when chunk i is done by the worker that has it as its p-th.
    chunks = np.arange(workers)
    done = np.stack([times[:, (chunks - p) % workers] * (r if whole else p + 1) for p in range(r)], axis=2)
    enough = np.partition(done, needed - 1, axis=2)[:, :, needed - 1]
    cost = Cost(samples, cycles_per_derivative, forward_cycles)
    slowest: Array = _all_samples(cost, coordinates) / workers * enough.max(axis=1)
    return slowest


def lower_bound(
    cycle_times: ArrayLike,
    coordinates: int,
    *,
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
) -> Array:
    """What no scheme can beat: M (b L + c) / sum_w (1/T_w). O(S N).

    All workers compute until the end, nothing twice, shares known in advance.
    """
    times = _checked(cycle_times)
    cost = Cost(samples, cycles_per_derivative, forward_cycles)
    speed = (1.0 / times).sum(axis=1)
    with np.errstate(divide="ignore"):  # nobody answers
        bound: Array = _all_samples(cost, coordinates) / speed
    return bound


def _best_level(ordered: Array) -> int:
    workers = ordered.shape[1]
    return int(np.argmin(np.arange(1, workers + 1) * ordered.mean(axis=0)[::-1]))


def _all_samples(cost: Cost, coordinates: int) -> float:
    """Cycles of one worker that computes everything: M (b L + c)."""
    coordinates = integer("coordinates", coordinates, 1)
    return float(cost.samples * (cost.cycles_per_derivative * coordinates + cost.forward_cycles))


def _alpha(alpha: float) -> float:
    if not quantity("alpha", alpha) >= 1:
        raise ArgumentValueError(f"alpha: expected a number >= 1, got {alpha}")
    return float(alpha)


def _checked(cycle_times: ArrayLike) -> Array:
    times = numbers("cycle_times", cycle_times)
    if times.ndim != 2 or not times.size:
        raise ArgumentValueError(f"cycle_times: expected shape (draws, workers), got {times.shape}")
    if not np.all(times > 0):
        raise ArgumentValueError(
            "cycle_times: expected positive numbers or infinity, got NaN or numbers <= 0"
        )
    return times.astype(np.float64, copy=False)
