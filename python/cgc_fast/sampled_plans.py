"""Block sizes from a sample of the cycle times, judged on a second sample that they have not seen."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.arguments import Cost
from cgc_fast.errors import NotCertified
from cgc_fast.forward_search import EXHAUSTIVE, search_levels
from cgc_fast.hold_out import halves, is_larger, per_iteration, standard_error
from cgc_fast.levels import Levels
from cgc_fast.partition import round_block_sizes
from cgc_fast.sample_average import GAP, Minimum, SampleAverage
from cgc_fast.straggler_models import StragglerModel, Trace

__all__ = ["Rivals", "SampleReport", "SampledPlan", "sampled_plan"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Proposals of other methods from the rows of a trace: sizes (K,) by name, one or more of each.
Rivals = Callable[[Array], dict[str, list[Array]]]

# Statistics that are kept at once: 128 MiB.
_ENTRIES = 2**24


@dataclass(frozen=True)
class SampleReport:
    """What block sizes made from a sample are worth on that sample, and on draws that they have not seen.

    For a law these are the plan's. For a trace they are made from its first half, and the plan, once that is
    not refused, from all of it.

    Attributes
    ----------
    draws, hold_out_draws : int
        Draws optimised over, and held out; for a trace, its first and its second half of the iterations.
    in_sample_runtime : float
        Mean over the draws optimised over, seconds, of the integer block sizes; optimistic.
    hold_out_runtime, hold_out_standard_error : float or None
        Mean over the draws held out, and its standard error, the draws taken as independent. None for a
        trace of one iteration; the error also for a hold-out of one.
    one_level : str
        The better of "single_level" and "uncoded" on the hold-out; the level was chosen on the other half.
    one_level_hold_out_runtime : float or None
        Its mean there.
    replaced : bool
        The optimum lost on the hold-out by more than noise (2 standard errors of the paired difference); the
        plan is the best of those that it lost to.
    levels : tuple of int
        The levels over which `lower_bound` is the least: all that are allowed if forward passes are free,
        otherwise the set that the search chose.
    scope : str
        The same in words.
    chosen : str
        "sample_average", or the method that replaced it: a one-level one, or any if the best of all methods
        was asked for.
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
    chosen: str

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self), "levels": list(self.levels)}

    @classmethod
    def from_dict(cls, form: dict[str, Any]) -> SampleReport:
        """Inverse of `to_dict`."""
        # Older files have no entry "chosen".
        chosen = form.get("chosen", form["one_level"] if form["replaced"] else "sample_average")
        return cls(**{**form, "chosen": chosen, "levels": tuple(form["levels"])})


@dataclass(frozen=True, eq=False)
class SampledPlan:
    """Sizes (K,), real, sum L, with the certificate of the sampled problem in seconds.

    The sampled problem of a trace is the mean over all its rows, and so its expected runtime.
    """

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
    rivals: Rivals | None = None,
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
    rivals : callable, optional
        What other methods make of some rows (S, N) of a trace. They compete on its hold-out like the
        one-level plans, which always do.

    Warns
    -----
    NotCertified
        The gap of the real sizes is above 1e-4.

    Notes
    -----
    A trace is split in time (`halves`), the first half of its iterations to optimise over. If what that gives
    is not refused on the second, the plan is the optimum of all rows; otherwise it is what the method chosen
    there makes of all rows. The certificate refers to all rows.

    With a forward pass (c > 0) the set of levels is searched (`search_levels`) and the certificate refers to
    that set. For fractional repetition the bound takes the forward pass of the samples of each level alone,
    not of the union of all visited, so the gap also holds that difference.

    With `min_block` the optimum without it is thinned: the level of the smallest block is dropped again and
    again, and on each of these sets the optimum with x_n >= min_block is found. The sets do not depend on
    `min_block`, so a smaller one is never worse on the sample, up to the gaps. The bound stays the one
    without `min_block`.
    """
    problem = _Problem(levels, usable, coordinates, cost, min_block, boundaries)
    if isinstance(model, Trace):
        first, second = halves(model.times, repeats)
        # In random order, because the search over sets looks at the first rows only.
        sample = _Sample(problem, generators[0].permutation(first), repeats)
        hold_out = _Sample(problem, second, repeats)
        everything = _Sample(problem, generators[0].permutation(model.times), repeats)
    else:
        count = min(draws, max(1, _ENTRIES // levels.workers))
        sample = everything = _Sample(problem, model.draw(generators[0], count))
        hold_out = _Sample(problem, model.draw(generators[1], count))

    sizes, best = sample.fit()
    found = rivals(first) if rivals is not None and isinstance(model, Trace) else {}
    sizes, entries = _judge(sample, hold_out, sizes, sample.others(found))
    if isinstance(model, Trace):
        sizes, best = everything.fit()
        if entries["replaced"]:
            if entries["chosen"] in found and rivals is not None:
                found = rivals(model.times)
            sizes = everything.others(found)[entries["chosen"]]
    if best.gap > GAP:
        warnings.warn(
            f"method sample_average: the gap of the real block sizes is {best.gap:.2g}, not {GAP:g}",
            NotCertified,
            stacklevel=3,
        )
    if cost.forward_cycles == 0:
        scope = "all levels allowed"
    elif np.count_nonzero(usable) <= EXHAUSTIVE:
        scope = "the levels used; the best of all sets of levels, compared to 5e-4"
    else:
        scope = "the levels used; the set of levels was searched by adding and dropping"
    members = tuple(int(n) for n in levels.redundancies[problem.chosen[best.used]])
    lower_bound = problem.seconds * best.lower_bound
    return SampledPlan(
        sizes,
        lower_bound,
        _gap(everything.mean(problem.rounded(sizes)), lower_bound),
        _gap(everything.mean(sizes), lower_bound),
        SampleReport(levels=members, scope=scope, **entries),
    )


class _Problem:
    """What is asked, apart from the draws; sizes (K,) are over all levels, shares over the usable ones."""

    def __init__(
        self,
        levels: Levels,
        usable: Mask,
        coordinates: int,
        cost: Cost,
        min_block: int,
        boundaries: NDArray[np.int64] | None,
    ) -> None:
        self.levels = levels
        self.chosen = np.flatnonzero(usable)
        self.work = levels.work[self.chosen]
        self.coordinates = coordinates
        self.cost = cost
        self.min_block = min_block
        self.boundaries = boundaries
        self.forward = cost.forward_cycles / (cost.cycles_per_derivative * coordinates)
        self.seconds = cost.samples / levels.workers * cost.cycles_per_derivative * coordinates

    def expand(self, shares: Array) -> Array:
        """Sizes (K,) of shares of the usable levels."""
        sizes = np.zeros(len(self.levels.work))
        sizes[self.chosen] = self.coordinates * shares
        return sizes

    def one_level(self, index: int) -> Array:
        """All coordinates at the usable level of that index."""
        return self.expand((np.arange(len(self.chosen)) == index).astype(np.float64))

    def rounded(self, sizes: Array) -> Array:
        return round_block_sizes(sizes, self.coordinates, self.boundaries).astype(np.float64)

    def allows(self, sizes: Array) -> bool:
        return bool(sizes[sizes > 0].min() >= self.min_block)


class _Sample:
    """Draws (S, N), `repeats` neighbouring ones an iteration where they are a trace that was imputed."""

    def __init__(self, problem: _Problem, times: Array, repeats: int = 1) -> None:
        self.problem = problem
        self.times = times
        self.repeats = repeats
        self.count = len(times) // repeats
        self.statistics = problem.levels.statistics(times)

    def runtimes(self, sizes: Array) -> Array:
        """Seconds of each iteration, averaged over its imputations if these are still neighbours."""
        runtimes = self.problem.levels.runtimes(self.times, self.statistics, sizes, self.problem.cost)
        return per_iteration(runtimes, self.repeats)

    def mean(self, sizes: Array) -> float:
        return float(self.runtimes(sizes).mean())

    def one_level_sizes(self) -> dict[str, Array]:
        """The best single level on these draws, and uncoded where it is allowed."""
        problem = self.problem
        mean_cycles = problem.work * self.statistics[:, problem.chosen].mean(axis=0)
        sizes = {"single_level": problem.one_level(int(np.argmin(mean_cycles)))}
        if problem.levels.redundancies[problem.chosen[0]] == 0:
            sizes["uncoded"] = problem.one_level(0)
        return sizes

    def others(self, found: dict[str, list[Array]]) -> dict[str, Array]:
        """Sizes of the one-level plans, and the best of what rivals found."""
        best = {name: min(sizes, key=self.score) for name, sizes in found.items()}
        return best | self.one_level_sizes()

    def score(self, sizes: Array) -> float:
        """Mean of the rounded sizes."""
        return self.mean(self.problem.rounded(sizes))

    def fit(self) -> tuple[Array, Minimum]:
        """Sizes (K,), real, that are best on these draws, and the minimum that certifies them."""
        problem = self.problem
        statistics = np.ascontiguousarray(self.statistics[:, problem.chosen])
        if problem.forward == 0.0:
            minima = [SampleAverage(statistics, problem.work).minimise()]
        else:
            minima = search_levels(statistics, problem.work, problem.forward)

        # Where ranges do not nest the search scored with a bound of the runtime: take the really best.
        best = min(minima, key=lambda minimum: self.score(problem.expand(minimum.shares)))
        if problem.min_block == 1:
            return problem.expand(best.shares), best
        least = problem.min_block / problem.coordinates
        shares = _with_least_blocks(statistics, problem.work, problem.forward, best, least)
        sizes = [size for size in map(problem.expand, shares) if problem.allows(problem.rounded(size))]
        return min([*sizes, self.one_level_sizes()["single_level"]], key=self.score), best


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


def _judge(
    sample: _Sample, hold_out: _Sample, sizes: Array, others: dict[str, Array]
) -> tuple[Array, dict[str, Any]]:
    """The sizes, or the others that beat them on the hold-out, and what the report says of both."""
    rounded = sample.problem.rounded
    entries: dict[str, Any] = {
        "draws": sample.count,
        "hold_out_draws": hold_out.count,
        "hold_out_runtime": None,
        "hold_out_standard_error": None,
        "one_level": "single_level",
        "one_level_hold_out_runtime": None,
        "replaced": False,
        "chosen": "sample_average",
    }
    if hold_out.count:
        own = hold_out.runtimes(rounded(sizes))
        seen = {name: hold_out.runtimes(rounded(other)) for name, other in others.items()}
        ranked = sorted(others, key=lambda name: (float(seen[name].mean()), name != "uncoded"))
        entries["one_level"] = next(name for name in ranked if name in ("single_level", "uncoded"))
        entries["one_level_hold_out_runtime"] = float(seen[entries["one_level"]].mean())
        better = [name for name in ranked if is_larger(own, seen[name])]
        if better:
            entries["replaced"], entries["chosen"] = True, better[0]
            sizes, own = others[better[0]], seen[better[0]]
        entries["hold_out_runtime"] = float(own.mean())
        entries["hold_out_standard_error"] = standard_error(own) if len(own) > 1 else None
    entries["in_sample_runtime"] = sample.mean(rounded(sizes))
    return sizes, entries


def _gap(value: float, lower_bound: float) -> float:
    return value / lower_bound - 1.0 if lower_bound > 0.0 else math.inf
