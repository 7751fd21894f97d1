"""Block sizes from a sample of the cycle times, judged on a second sample that they have not seen."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.arguments import Cost
from cgc_fast.errors import NotCertified
from cgc_fast.forward_search import EXHAUSTIVE, search_levels
from cgc_fast.levels import Levels
from cgc_fast.partition import round_block_sizes
from cgc_fast.sample_average import GAP, Minimum, SampleAverage
from cgc_fast.straggler_models import StragglerModel, Trace

__all__ = ["SampleReport", "SampledPlan", "sampled_plan"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# A one-level plan replaces the optimum if it is better on the hold-out by so many standard errors.
_NOISE = 2.0
# Statistics that are kept at once: 128 MiB.
_ENTRIES = 2**24


@dataclass(frozen=True)
class SampleReport:
    """What a plan made from a sample is worth on that sample, and on draws that it has not seen.

    Attributes
    ----------
    draws, hold_out_draws : int
        Draws optimised over, and held out; for a trace, its first and its second half of the iterations.
    in_sample_runtime : float
        Mean over the draws optimised over, seconds, of the plan's integer block sizes; optimistic.
    hold_out_runtime, hold_out_standard_error : float or None
        Mean over the draws held out, and its standard error, the draws taken as independent. None for a
        trace of one iteration; the error also for a hold-out of one.
    one_level : str
        The better of "single_level" and "uncoded" on the hold-out; the level was chosen on the other half.
    one_level_hold_out_runtime : float or None
        Its mean there.
    replaced : bool
        The optimum lost to that one on the hold-out by more than noise (2 standard errors of the paired
        difference); the plan is the one-level one.
    levels : tuple of int
        The levels over which `lower_bound` is the least: all that are allowed if forward passes are free,
        otherwise the set that the search chose.
    scope : str
        The same in words.
    """

    draws: int
    hold_out_draws: int
    in_sample_runtime: float
    hold_out_runtime: float | None
    hold_out_standard_error: float | None
    one_level: str
    one_level_hold_out_runtime: float | None
    replaced: bool
    levels: tuple[int, ...]
    scope: str

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self), "levels": list(self.levels)}

    @classmethod
    def from_dict(cls, form: dict[str, Any]) -> SampleReport:
        """Inverse of `to_dict`."""
        return cls(**{**form, "levels": tuple(form["levels"])})


@dataclass(frozen=True, eq=False)
class SampledPlan:
    """Sizes (K,), real, sum L, with the certificate of the sampled problem in seconds."""

    sizes: Array
    lower_bound: float
    relative_gap: float
    relaxed_gap: float
    report: SampleReport


def sampled_plan(
    levels: Levels,
    usable: Mask,
    model: StragglerModel,
    coordinates: int,
    cost: Cost,
    *,
    min_block: int = 1,
    boundaries: NDArray[np.int64] | None = None,
    draws: int = 20_000,
    repeats: int = 1,
    generators: tuple[np.random.Generator, np.random.Generator],
) -> SampledPlan:
    """Minimise the sample average of the runtime and judge the result on a hold-out.

    Parameters
    ----------
    levels : Levels
        The K levels allowed.
    usable : ndarray of bool of shape (K,)
        Those with a finite mean; not all False.
    model : StragglerModel
        Nothing censored.
    min_block : int
        Least size of a block that is not empty; see Notes.
    boundaries : ndarray of int64, optional
        Where blocks may be cut.
    draws : int
        Of the sample, and again of the hold-out; a trace has its own.
    repeats : int
        So many neighbouring rows of a trace stand for one iteration.
    generators : pair of Generator
        For the sample and for the hold-out.

    Warns
    -----
    NotCertified
        The gap of the real sizes is above 1e-4.

    Notes
    -----
    A trace is split in time, the first half of its iterations to optimise over: neighbouring iterations may
    be dependent, so that rows picked at random would leak from one half into the other.

    With a forward pass (c > 0) the set of levels is searched (`search_levels`) and the certificate refers to
    that set. For fractional repetition the bound takes the forward pass of the samples of each level alone,
    not of the union of all visited, so the gap also holds that difference.

    With `min_block` the optimum without it is thinned: the level of the smallest block is dropped again and
    again, and on each of these sets the optimum with x_n >= min_block is found. The sets do not depend on
    `min_block`, so a smaller one is never worse on the sample, up to the gaps. The bound stays the one
    without `min_block`.
    """
    chosen = np.flatnonzero(usable)
    sample, hold_out = _split(model, levels.workers, draws, repeats, generators)
    statistics = levels.statistics(sample)
    used_statistics = np.ascontiguousarray(statistics[:, usable])
    work = levels.work[usable]
    forward = cost.forward_cycles / (cost.cycles_per_derivative * coordinates)
    seconds = cost.samples / levels.workers * cost.cycles_per_derivative * coordinates

    def expand(shares: Array) -> Array:
        sizes = np.zeros(len(usable))
        sizes[chosen] = coordinates * shares
        return sizes

    def rounded(sizes: Array) -> Array:
        return round_block_sizes(sizes, coordinates, boundaries).astype(np.float64)

    def in_sample(sizes: Array) -> float:
        return float(levels.runtimes(sample, statistics, sizes, cost).mean())

    minima = _minima(used_statistics, work, forward)
    # The search scores with a bound of the runtime where ranges do not nest: take the best of the real one.
    best = min(minima, key=lambda minimum: in_sample(rounded(expand(minimum.shares))))
    sizes = expand(best.shares)
    if min_block > 1:
        candidates = _with_least_blocks(used_statistics, work, forward, best, min_block / coordinates)
        allowed = [size for size in map(expand, candidates) if _fits(rounded(size), min_block)]
        one = np.zeros(len(usable))  # always allowed
        one[chosen[int(np.argmin(work * used_statistics.mean(axis=0)))]] = coordinates
        sizes = min([*allowed, one], key=lambda size: in_sample(rounded(size)))
    if best.gap > GAP:
        warnings.warn(
            f"method sample_average: the gap of the real block sizes is {best.gap:.2g}, not {GAP:g}",
            NotCertified,
            stacklevel=3,
        )

    sizes, report = _judge(
        levels, usable, sample, statistics, hold_out, sizes, rounded, cost, coordinates, repeats, model
    )
    lower_bound = seconds * best.lower_bound
    relaxed = in_sample(sizes)
    members = tuple(int(n) for n in levels.redundancies[chosen[best.used]])
    if cost.forward_cycles == 0:
        scope = "all levels allowed"
    elif len(work) <= EXHAUSTIVE:
        scope = "the levels used; the best of all sets of levels, compared to 5e-4"
    else:
        scope = "the levels used; the set of levels was searched by adding and dropping"
    integer_runtime = in_sample(rounded(sizes))
    return SampledPlan(
        sizes,
        lower_bound,
        integer_runtime / lower_bound - 1.0,
        relaxed / lower_bound - 1.0,
        SampleReport(in_sample_runtime=integer_runtime, levels=members, scope=scope, **report),
    )


def _split(
    model: StragglerModel,
    workers: int,
    draws: int,
    repeats: int,
    generators: tuple[np.random.Generator, np.random.Generator],
) -> tuple[Array, Array]:
    """Cycle times to optimise over and to hold out (possibly none); the sample's rows in random order."""
    if isinstance(model, Trace):
        iterations = len(model.times) // repeats
        cut = (iterations + 1) // 2 * repeats
        return generators[0].permutation(model.times[:cut]), model.times[cut:]
    count = min(draws, max(1, _ENTRIES // workers))
    return model.draw(generators[0], count), model.draw(generators[1], count)


def _minima(statistics: Array, work: Array, forward: float) -> list[Minimum]:
    if forward == 0.0:
        return [SampleAverage(statistics, work).minimise()]
    return search_levels(statistics, work, forward)


def _with_least_blocks(
    statistics: Array, work: Array, forward: float, best: Minimum, least: float
) -> list[Array]:
    """Optima with shares >= least on thinner and thinner sets of levels, which do not depend on `least`."""
    # A hair above the bound, so that rounding does not take a block below it.
    least *= 1.0 + 1e-12
    problem = SampleAverage(statistics, work, forward)
    used, shares = best.used & (best.shares > 0.0), best.shares
    found: list[Array] = []
    lowest = math.inf
    while used.any():
        free = problem.minimise(used, shares)
        shares = free.shares
        if least * np.count_nonzero(used) <= 1.0 and free.lower_bound < lowest:
            bounded = problem.minimise(used, shares, least=least, enough=lowest)
            lowest = min(lowest, bounded.value)
            found.append(bounded.shares)
        used = used.copy()
        used[np.argmin(np.where(used, shares, np.inf))] = False
    return found


def _fits(sizes: Array, min_block: int) -> bool:
    return bool(sizes[sizes > 0].min() >= min_block)


def _judge(
    levels: Levels,
    usable: Mask,
    sample: Array,
    statistics: Array,
    hold_out: Array,
    sizes: Array,
    rounded: Any,
    cost: Cost,
    coordinates: int,
    repeats: int,
    model: StragglerModel,
) -> tuple[Array, dict[str, Any]]:
    """The sizes or the one-level ones that beat them on the hold-out, and the report's entries on that."""
    one_level: dict[str, Array] = {}
    chosen = np.flatnonzero(usable)
    mean_cycles = levels.work[usable] * statistics[:, usable].mean(axis=0)
    candidates = {"single_level": int(chosen[int(np.argmin(mean_cycles))])}
    if levels.redundancies[0] == 0 and usable[0]:
        candidates["uncoded"] = 0
    for name, level in candidates.items():
        one_level[name] = np.zeros(len(usable))
        one_level[name][level] = coordinates
    group = repeats if isinstance(model, Trace) else 1
    report: dict[str, Any] = {
        "draws": len(sample) // group,
        "hold_out_draws": len(hold_out) // group,
        "hold_out_runtime": None,
        "hold_out_standard_error": None,
        "one_level": "uncoded" if candidates.get("uncoded") == candidates["single_level"] else "single_level",
        "one_level_hold_out_runtime": None,
        "replaced": False,
    }
    if not len(hold_out):
        return sizes, report
    seen = levels.statistics(hold_out)

    def runtimes(candidate: Array) -> Array:
        # The mean over an iteration's imputations, so that iterations are what is independent.
        return np.asarray(levels.runtimes(hold_out, seen, candidate, cost).reshape(-1, group).mean(axis=1))

    own = runtimes(rounded(sizes))
    others = {name: runtimes(one) for name, one in one_level.items()}
    name = min(sorted(others, reverse=True), key=lambda name: float(others[name].mean()))
    difference = own - others[name]
    report["one_level"] = name
    report["one_level_hold_out_runtime"] = float(others[name].mean())
    if len(own) > 1 and difference.mean() > _NOISE * _standard_error(difference):
        report["replaced"] = True
        sizes, own = one_level[name], others[name]
    report["hold_out_runtime"] = float(own.mean())
    report["hold_out_standard_error"] = _standard_error(own) if len(own) > 1 else None
    return sizes, report


def _standard_error(values: Array) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))
